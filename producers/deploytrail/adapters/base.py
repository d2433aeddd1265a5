"""What adapters share: the result, and reading of payloads that may be of any shape."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import EARLIEST, LATEST, format_instant, parse_instant
from deploytrail_schemas.records import RecordType

UNKNOWN_PLACE = "unknown"
OTHER_REGION = "other"
_TEXT_LIMIT = 4096
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", re.ASCII)
_PRE = re.compile(r"(?<![a-z])pre[ _-]?prod(?:uction)?", re.IGNORECASE | re.ASCII)
_ENVIRONMENTS = {
    **dict.fromkeys(("live", "prd", "prod", "production"), "production"),
    **dict.fromkeys(("stage", "staging", "stg"), "staging"),
    **dict.fromkeys(("dev", "development"), "development"),
    "preprod": "preproduction",
    **{name: name for name in ("demo", "integration", "qa", "sandbox", "test", "uat")},
}
_DEPLOYS = re.compile(r"deploy|promote|roll[ _-]?(?:out|back)", re.IGNORECASE | re.ASCII)
_SPACED = re.compile(r"(\d{4}-\d\d-\d\d)[ Tt](\d\d:\d\d:\d\d(?:\.\d+)?) ?(?:UTC|GMT|Z|([+-]\d\d):?(\d\d))", re.ASCII)


class AdapterError(DeploytrailError):
    """A payload that is not what its source sends: answered 422."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the webhook's URL says where the payload does not: `?region=…&environment=…&service=…`.

    `options`: those of the source's own options (`Source.options`) that the URL gives.
    """

    region: str = ""
    environment: str = ""
    service: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapted:
    """Records of a payload; `ignored` says why there are none."""

    records: tuple[tuple[RecordType, dict[str, Any]], ...] = ()
    ignored: str = ""


Adapt = Callable[[Any, Mapping[str, str], Defaults, int], Adapted]


@dataclass(frozen=True, slots=True)
class Source:
    """A source of webhooks, as its module says it in `SOURCE`.

    `adapt(payload, headers, defaults, received_at)`: headers by lower-case name, `received_at` in
    µs; AdapterError where the payload is not what this source sends. `signature`: how deliveries
    prove who sent them, a name of `gateway.signatures.SCHEMES`. `statuses`: every status word of
    the source → what it is for us; `ignored`: each word that gives no record, on purpose → why.
    `options`: what else the webhook's URL may say, name → meaning. `fills`: the fields that the
    source can fill, of each kind of record that it gives; the golden tests prove both directions.
    `delivery`: where a delivery's own id stands, which a repetition has again and no other delivery
    has: a header by its lower-case name, or a pointer into the payload (`/event/id`); the first
    that is there counts.
    """

    name: str
    title: str
    adapt: Adapt
    fills: Mapping[RecordType, frozenset[str]]
    signature: str = "bearer"
    statuses: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    delivery: tuple[str, ...] = ()


def text(value: object, *path: str) -> str:
    """The text at a path of nested objects; "" where there is none. Numbers are written out."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return str(value)[:_TEXT_LIMIT]


def delivery_id(source: Source, payload: object, headers: Mapping[str, str]) -> str:
    """What a source itself calls a delivery; "" where it says nothing."""
    for place in source.delivery:
        found = text(payload, *place[1:].split("/")) if place.startswith("/") else headers.get(place, "")
        if found:
            return found
    return ""


def mapping(value: object, *path: str) -> Mapping[str, Any]:
    """The object at a path; an empty one where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def instant(value: object, *path: str) -> int | None:
    """The instant at a path; None where there is none, or none between 2000 and 2100.

    RFC 3339 text; the same with a space before the time or the offset (GitLab: `2021-04-28 21:50:00
    +0200`, `… UTC`); numbers, also as text, of seconds, ms, µs or ns since the epoch: between 2000
    and 2100 no two of these units share a number.
    """
    given = text(value, *path).strip()
    with contextlib.suppress(ValueError):
        return parse_instant(given)
    with contextlib.suppress(ValueError, OverflowError):
        return _epoch(float(given)) if "." in given else _epoch(int(given))
    if spaced := _SPACED.fullmatch(given):
        day, clock, hours, minutes = spaced.groups()
        offset = f"{hours}:{minutes}" if hours else "Z"
        with contextlib.suppress(ValueError):
            return parse_instant(f"{day}T{clock}{offset}")
    return None


def moment(value: object, *path: str) -> str:
    """The instant at a path as RFC 3339 text, for a tag; "" where there is none."""
    micros = instant(value, *path)
    return "" if micros is None else format_instant(micros)


def committed_at(commit: object, sha: str) -> str:
    """When the commit `sha` was made, as the tag of that name says it; "" where `commit` is another one, or unknown."""
    return moment(commit, "timestamp") if sha and text(commit, "id") == sha else ""


def _epoch(number: float) -> int | None:
    for unit in (1_000_000, 1000, 1):
        if EARLIEST <= number * unit < LATEST:
            return round(number * unit)
    return round(number / 1000) if EARLIEST <= number / 1000 < LATEST else None


def record(
    kind: RecordType, source: str, identity: tuple[str, ...], place: Mapping[str, str], /, **fields: Any
) -> tuple[RecordType, dict[str, Any]]:
    """A record of `kind` without what is empty; its id follows from `identity`, what the source itself calls it."""
    value = {kind.id_field: name_based_id(source, *identity), **place, "source": source, **fields}
    return kind, {name: item for name, item in value.items() if item is not None and item != "" and item != {}}


def placed(
    defaults: Defaults, source: str, *, region: str = "", environment: str = "", service: str = "", host: str = ""
) -> dict[str, str]:
    """Where it is: what the payload says, else what the webhook's URL says, else that nobody knows."""
    return {
        "region": first(region, defaults.region, OTHER_REGION),
        "environment": first(environment, defaults.environment, UNKNOWN_PLACE),
        "service": first(service, defaults.service, UNKNOWN_PLACE),
        "producer_id": f"{source}:{host}" if host else source,
    }


def host_of(url: str) -> str:
    """The host of a URL, which tells one installation from another; "" where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def items(value: object, *path: str) -> list[Any]:
    """The list at a path; an empty one where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return list(value) if isinstance(value, (list, tuple)) else []


def texts(**given: str) -> dict[str, str]:
    """Those that are not empty, as tags or labels."""
    return {name: item for name, item in given.items() if item}


def deployer(name: str, *, bot: bool = False) -> dict[str, str]:
    """The fields of who deployed; nothing where nobody is named."""
    if not name:
        return {}
    return {"deployer": name, "deployer_type": "automation" if bot or name.endswith("[bot]") else "person"}


def each(payloads: Sequence[Any], adapt: Callable[[Any], Adapted]) -> Adapted:
    """What comes of several payloads that were posted as one; AdapterError says which one is wrong."""
    records: list[tuple[RecordType, dict[str, Any]]] = []
    reasons: dict[str, None] = {}
    for index, payload in enumerate(payloads):
        try:
            found = adapt(payload)
        except AdapterError as error:
            raise AdapterError(f"event {index}: {error}" if len(payloads) > 1 else str(error)) from error
        records.extend(found.records)
        reasons[found.ignored] = None
    return Adapted(tuple(records), "" if records else "; ".join(filter(None, reasons)) or "no events")


def says_deploy(*names: str) -> bool:
    """Whether one of the names that people gave to a workflow, a stage or a job says that it deploys."""
    return any(map(_DEPLOYS.search, names))


def environment_of(name: str, default: str) -> str:
    """The environment that a job or stage called `name` deploys to: "Deploy to prod" → production.

    `default`, of the webhook's URL, is what that one is called here; and the one where `name` tells of none or several.
    """
    said = _environments_in(name)
    if len(said) != 1 or said == _environments_in(default):
        return default
    return next(iter(said))


def _environments_in(name: str) -> set[str]:
    words = (word.lower() for word in _WORD.findall(_PRE.sub("preprod", name)))
    return {_ENVIRONMENTS[word] for word in words if word in _ENVIRONMENTS}


def usual(kind: RecordType, *more: str, never: Iterable[str] = ()) -> frozenset[str]:
    """`more` fields, and those that most sources fill of such a record, without what this one `never` can.

    Never: a place that no payload of the source names, so that only the webhook's URL can.
    """
    word = {
        RecordType.DEPLOYMENT_EVENT: ("event_type", "deployment_id"),
        RecordType.SIGNAL: ("signal_type",),
        RecordType.APPROVAL: ("approval_type",),
        RecordType.OBSERVATION: ("observation_type",),
    }[kind]
    place = ("occurred_at", "region", "environment", "service", "producer_id", "source")
    return frozenset({kind.id_field, *word, *place, *more}.difference(never))


def first(*texts: str) -> str:
    """The first text that is not empty."""
    return next(filter(None, texts), "")
