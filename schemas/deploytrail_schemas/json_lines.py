"""Records as JSON lines: the canonical form that `json/*.canonical.schema.json` describes.

Every field of the newest schema in wire order, after `record_type`; instants are RFC 3339 text in
UTC. What such text cannot name stays a number, and a double that JSON does not know is null.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

from deploytrail_schemas.instants import EARLIEST, LATEST, format_instant
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, is_instant

RECORD_TYPE = "record_type"


def canonical(kind: RecordType, value: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a record's value; fields that it lacks have their defaults."""
    told: dict[str, Any] = {RECORD_TYPE: kind.value}
    for name, instant, default in _fields(kind):
        item = value.get(name, default)
        if instant and isinstance(item, int) and EARLIEST <= item < LATEST:
            item = format_instant(item)
        elif isinstance(item, float) and not math.isfinite(item):
            item = None
        told[name] = item
    return told


def json_line(kind: RecordType, value: dict[str, Any]) -> str:
    """One line of JSON, without the line break, in ASCII."""
    return json.dumps(canonical(kind, value), separators=(",", ":"), allow_nan=False)


@cache
def _fields(kind: RecordType) -> list[tuple[str, bool, Any]]:
    return [(field["name"], is_instant(field), field.get("default")) for field in fields(kind)]
