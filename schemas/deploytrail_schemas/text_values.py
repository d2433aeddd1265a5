"""Records out of texts alone: form fields, CSV cells, syslog parameters.

In: (name, text) pairs as a person or an old system writes them. Out: the JSON object that
`json_values.validate` checks, with numbers and booleans where the schema has them. A text that is
no number where one is expected stays text, so that the check names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from math import isfinite
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, is_instant

# Entries of a map: tags.sprint=42, config_changes.POOL_SIZE=20, labels.team=shop.
SEPARATOR = "."
# int() and float() alone read more: spaces, underscores, digits of all scripts, nan.
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def from_texts(kind: RecordType, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The object of a record of `kind`; empty texts are left out, the last of several wins."""
    found: dict[str, Any] = {}
    for name, text in pairs:
        if text == "":
            continue
        field, dot, key = name.partition(SEPARATOR)
        if dot and _types(kind).get(field) == "map":
            entries = found.setdefault(field, {})
            if isinstance(entries, dict):
                entries[key] = text
        else:
            found[name] = _typed(_types(kind).get(name, "string"), text)
    return found


def _typed(declared: str, text: str) -> Any:
    if declared in ("long", "instant") and _WHOLE.fullmatch(text):
        return int(text)
    if declared == "double" and _NUMBER.fullmatch(text) and isfinite(float(text)):
        return float(text)
    if declared == "boolean" and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    return text


@cache
def _types(kind: RecordType) -> dict[str, str]:
    found = {}
    for field in fields(kind):
        declared = field["type"]
        if isinstance(declared, list):
            declared = next(t for t in declared if t != "null")
        name = declared if isinstance(declared, str) else declared["type"]
        found[field["name"]] = "instant" if is_instant(field) else str(name)
    return found
