"""What adapters share: the result, and reading of payloads that may be of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.records import RecordType

UNKNOWN_PLACE = "unknown"
OTHER_REGION = "other"
_TEXT_LIMIT = 4096


class AdapterError(DeploytrailError):
    """A payload that is not what its source sends: answered 422."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the webhook's URL says where the payload does not: `?region=…&environment=…&service=…`."""

    region: str = ""
    environment: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Adapted:
    """Records of a payload; `ignored` says why there are none."""

    records: tuple[tuple[RecordType, dict[str, Any]], ...] = ()
    ignored: str = ""


def text(value: object, *path: str) -> str:
    """The text at a path of nested objects; "" where there is none. Numbers are written out."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return str(value)[:_TEXT_LIMIT]


def mapping(value: object, *path: str) -> Mapping[str, Any]:
    """The object at a path; an empty one where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def instant(value: object, *path: str) -> int | None:
    """The instant at a path (RFC 3339 text); None where there is none, or none between 2000 and 2100."""
    try:
        return parse_instant(text(value, *path))
    except ValueError:
        return None


def first(*texts: str) -> str:
    """The first text that is not empty."""
    return next(filter(None, texts), "")
