"""Can this be a record at all? What decodes may still say what nothing can rest on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import isfinite
from typing import Any

from deploytrail_schemas.instants import check_range
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields

_OWN = frozenset({"sent_at", "received_at", "corrected_at"})


def problem(kind: RecordType, value: Mapping[str, Any]) -> str:
    """What is wrong with a reported record, in words; empty where it is plausible.

    Avro can say numbers that JSON cannot: one that is not finite would pass through every comparison and mean.
    """
    for name in (kind.id_field, *(["deployment_id"] if kind is RecordType.DEPLOYMENT_EVENT else [])):
        if not value[name]:
            return f"{name} is empty"
    for name, given in value.items():
        if isinstance(given, float) and not isfinite(given):
            return f"{name} is {given}; expected a finite number, or none where it is not known"
    for name in _instants(kind):
        try:
            if value.get(name) is not None:
                check_range(value[name])
        except ValueError as error:
            return f"{name}: {error}"
    return ""


@cache
def _instants(kind: RecordType) -> tuple[str, ...]:
    """The fields that are instants: what no calendar has would end whatever rule looks at it, and the verdict with it.
    What the intake app says of its own is left out."""
    return tuple(
        field["name"]
        for field in fields(kind)
        if field["name"] not in _OWN and "timestamp-micros" in str(field["type"])
    )
