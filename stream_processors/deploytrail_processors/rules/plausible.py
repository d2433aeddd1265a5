"""Can this be a record at all? What decodes may still say what nothing can rest on."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from deploytrail_schemas.instants import check_range
from deploytrail_schemas.records import RecordType


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
    try:
        check_range(value["occurred_at"])
    except ValueError as error:
        return f"occurred_at: {error}"
    return ""
