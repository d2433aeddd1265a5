"""Whether a JSON object is a sound record, at one look a field; what is wrong with others `json_values` explains.

Made once for each kind. It accepts nothing that `json_values.validate` refuses, and gives the same value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from deploytrail_schemas.instants import EARLIEST, LATEST, parse_instant
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import AvroSchema, fields, is_instant

UUIDS = frozenset(("event_id", "signal_id", "approval_id", "observation_id", "finding_id"))
NOT_EMPTY = ("deployment_id", "region", "environment", "service")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_WRONG = object()
Check = Callable[[Any], Any]


class _Checks(NamedTuple):
    texts: frozenset[str]  # fields that any text fits
    others: dict[str, Check]
    optional: frozenset[str]
    required: tuple[str, ...]
    not_empty: tuple[str, ...]


def quick_check(kind: RecordType, obj: dict[str, Any]) -> dict[str, Any] | None:
    """The record value of an object; None where it has to be looked at closely."""
    texts, others, optional, required, not_empty = _checks(kind)
    value: dict[str, Any] = {}
    for name, given in obj.items():
        if type(given) is str and name in texts:
            value[name] = given
        elif given is None:
            if name not in optional:
                return None
        else:
            check = others.get(name)
            if check is None or (converted := check(given)) is _WRONG:
                return None
            value[name] = converted
    for name in required:
        if name not in value:
            return None
    for name in not_empty:
        if value[name] == "":
            return None
    return value


@cache
def _checks(kind: RecordType) -> _Checks:
    known = {field["name"]: field for field in fields(kind) if field["name"] not in CANONICAL_FIELDS}
    found = {name: _check_of(field) for name, field in known.items()}
    required = tuple(name for name, field in known.items() if "default" not in field)
    return _Checks(
        frozenset(name for name, check in found.items() if check is None),
        {name: check for name, check in found.items() if check is not None},
        frozenset(known) - frozenset(required),
        required,
        tuple(name for name in (*NOT_EMPTY, kind.id_field) if name in required),
    )


def _check_of(field: AvroSchema) -> Check | None:
    if is_instant(field):
        return _instant
    declared = field["type"]
    if isinstance(declared, list):
        declared = next(t for t in declared if t != "null")
    name = declared if isinstance(declared, str) else declared["type"]
    if name == "enum":
        symbols = frozenset(declared["symbols"])
        return lambda given: given if type(given) is str and given in symbols else _WRONG
    if name == "string":
        return _uuid if field["name"] in UUIDS else None
    return {"long": _long, "double": _number, "boolean": _boolean, "map": _map, "array": _array}[name]


def _instant(given: Any) -> Any:
    if type(given) is int:
        return given if EARLIEST <= given < LATEST else _WRONG
    if type(given) is str:
        try:
            return parse_instant(given)
        except ValueError:
            pass
    return _WRONG


def _uuid(given: Any) -> Any:
    return given if type(given) is str and _UUID(given) else _WRONG


def _long(given: Any) -> Any:
    return given if type(given) is int and -(1 << 63) <= given < 1 << 63 else _WRONG


def _number(given: Any) -> Any:
    return float(given) if type(given) in (float, int) else _WRONG


def _boolean(given: Any) -> Any:
    return given if type(given) is bool else _WRONG


def _map(given: Any) -> Any:
    return given if type(given) is dict and all([type(item) is str for item in given.values()]) else _WRONG


def _array(given: Any) -> Any:
    return given if type(given) is list and all([type(item) is str for item in given]) else _WRONG
