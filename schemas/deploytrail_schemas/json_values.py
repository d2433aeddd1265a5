"""JSON from outside: read strictly, checked against the Avro schemas, every violation listed."""

from __future__ import annotations

import difflib
import json
import math
import re
import uuid
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any

from deploytrail_schemas.codec import MAX_MESSAGE_BYTES
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.instants import check_range, parse_instant
from deploytrail_schemas.quick_check import NOT_EMPTY, UUIDS, quick_check
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import AvroSchema, fields, is_instant

MAX_DEPTH = 32
MOST_VIOLATIONS = 1000  # that are told of one value: whoever sends junk must not cost more than he sends
_LONGEST_HINTED = 64
_LONG = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: where (an RFC 6901 pointer) and what was expected."""

    pointer: str
    detail: str


class JsonError(DeploytrailError):
    """A text that is no acceptable JSON; `too_large` where only its size is wrong."""

    def __init__(self, detail: str, *, too_large: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.too_large = too_large


def parse_json(data: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """The value of a JSON text (RFC 8259).

    JsonError for more than `max_bytes`, bytes that are not UTF-8, syntax errors, duplicate keys,
    NaN and infinities, lone surrogates, nesting deeper than 32 and integers beyond 64 bits.
    """
    if len(data) > max_bytes:
        raise JsonError(f"{len(data)} bytes; at most {max_bytes} are accepted", too_large=True)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from None
    value = _read_quickly(text)
    if value is not _UNSURE:
        return value
    _check_depth(_outside_strings(text))
    return _read_strictly(text)


_UNSURE = object()


def _read_quickly(text: str) -> Any:
    """The value of a text in which nothing is wrong; _UNSURE where that does not show at once."""
    if "\\" in text and _SURROGATE.search(text):
        return _UNSURE
    if any(space in text for space in (" :", "\n:", "\r:", "\t:")):
        return _UNSURE
    try:
        value = _DECODER.decode(text)
        # A quote before a colon ends a key, or stands in or before a text: as many keys as these, and none stood twice.
        return value if _count_keys(value, MAX_DEPTH) == text.count('":') else _UNSURE
    except (ValueError, RecursionError, JsonError):
        return _UNSURE


def _read_strictly(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_int, parse_float=_float
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None


def validate(kind: RecordType, obj: object) -> tuple[dict[str, Any], list[Violation]]:
    """The record value of a JSON object, and all that is wrong with it.

    Instants are RFC 3339 text or integer microseconds; null stands for a default. Unknown fields
    are refused (what has no field belongs into `tags`), and so are the fields that only the
    intake app sets. A missing id is made by the caller, not here.
    """
    if not isinstance(obj, dict):
        return {}, [Violation("", f"a {kind.value} is an object, not {_name_of(obj)}")]
    value = quick_check(kind, obj)
    return (value, []) if value is not None else _explained(kind, obj)


def _explained(kind: RecordType, obj: dict[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    known = _known_fields(kind)
    value: dict[str, Any] = {}
    wrong: list[Violation] = []
    for name, given in obj.items():
        if len(wrong) >= MOST_VIOLATIONS:
            break
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        if name in CANONICAL_FIELDS:
            wrong.append(Violation(pointer, "is set by deploytrail itself and cannot be reported"))
        elif name not in known:
            wrong.append(Violation(pointer, f"{kind.value} has no field {name!r}{_hint(kind, name)}"))
        elif given is None and "default" in known[name]:
            continue
        else:
            converted, problems = _convert(known[name], given, pointer)
            value[name] = converted
            wrong.extend(problems)
    wrong.extend(
        Violation("/" + name, "is required")
        for name, field in known.items()
        if "default" not in field and name not in obj
    )
    wrong.extend(
        Violation("/" + name, "must not be empty")
        for name in (*NOT_EMPTY, kind.id_field)
        if name in known and "default" not in known[name] and value.get(name) == "" and name in obj
    )
    return value, wrong


@lru_cache(1024)
def _hint(kind: RecordType, name: str) -> str:
    near = difflib.get_close_matches(name, _known_fields(kind), n=1) if len(name) <= _LONGEST_HINTED else ()
    return f"; did you mean {near[0]!r}?" if near else "; put it into tags"


@cache
def _known_fields(kind: RecordType) -> dict[str, AvroSchema]:
    return {field["name"]: field for field in fields(kind) if field["name"] not in CANONICAL_FIELDS}


def _convert(field: AvroSchema, given: object, pointer: str) -> tuple[Any, list[Violation]]:
    if is_instant(field):
        return _instant(given, pointer)
    declared = field["type"]
    if isinstance(declared, list):
        declared = next(t for t in declared if t != "null")
    name = declared if isinstance(declared, str) else declared["type"]
    if name == "enum":
        if given in declared["symbols"]:
            return given, []
        return None, [Violation(pointer, f"is {_shown(given)}; expected one of {', '.join(declared['symbols'])}")]
    if name == "map":
        return _text_map(given, pointer)
    if name == "array":
        if isinstance(given, list) and all(isinstance(item, str) for item in given):
            return given, []
        return None, [Violation(pointer, f"is {_name_of(given)}; expected a list of strings")]
    if field["name"].endswith("_id") and field["name"] in UUIDS and isinstance(given, str):
        return _uuid(given, pointer)
    return _scalar(name, given, pointer)


# uuid.UUID alone reads more: braces, hyphens anywhere, signs, underscores.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}")


def _uuid(given: str, pointer: str) -> tuple[Any, list[Violation]]:
    if _UUID.fullmatch(given):
        return str(uuid.UUID(given)), []
    return None, [Violation(pointer, f"is {_shown(given)}; expected a UUID")]


def _scalar(name: str, given: object, pointer: str) -> tuple[Any, list[Violation]]:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if name == "string" and isinstance(given, str):
        return given, []
    if name == "boolean" and isinstance(given, bool):
        return given, []
    if name == "long" and (whole := _whole(given)) is not None:
        return whole, []
    if name == "double" and number:
        return float(given), []  # type: ignore[arg-type]  # number says that it is one
    expected = {
        "string": "a string",
        "boolean": "true or false",
        "long": "a 64-bit integer",
        "double": "a number",
    }
    return None, [Violation(pointer, f"is {_name_of(given)}; expected {expected[name]}")]


def _text_map(given: object, pointer: str) -> tuple[Any, list[Violation]]:
    if not isinstance(given, dict):
        return None, [Violation(pointer, f"is {_name_of(given)}; expected an object of strings")]
    wrong = (
        Violation(f"{pointer}/{key}", f"is {_name_of(item)}; expected a string")
        for key, item in given.items()
        if not isinstance(item, str)
    )
    return given, list(islice(wrong, MOST_VIOLATIONS))


def _instant(given: object, pointer: str) -> tuple[Any, list[Violation]]:
    try:
        if isinstance(given, str):
            return parse_instant(given), []
        if (whole := _whole(given)) is not None:
            return check_range(whole), []
    except ValueError as error:
        return None, [Violation(pointer, str(error))]
    return None, [Violation(pointer, f"is {_name_of(given)}; expected RFC 3339 text such as 2026-11-02T09:30:00Z")]


def _whole(given: object) -> int | None:
    """The 64-bit integer that a JSON number is; 4.0 is 4, since JSON has one kind of number."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    if isinstance(given, float) and not given.is_integer():
        return None
    return int(given) if int(given) in _LONG else None


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)


def _outside_strings(text: str) -> str:
    """A JSON text without its strings; what follows an opening quote that is never closed is left out too."""
    if "\\" in text:
        text = _ESCAPED.sub("", text)
    return "".join(text.split('"')[::2])


def _check_depth(outside: str) -> None:
    """Refuse deep nesting before the parser recurses into it."""
    if outside.count("[") + outside.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", outside):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise JsonError(f"nested deeper than {MAX_DEPTH}")


def _count_keys(value: Any, depth: int) -> int:
    """How many keys all objects of a value have; JsonError where it nests deeper than that."""
    if type(value) is dict:
        found, nested = len(value), [item for item in value.values() if type(item) in _NESTED]
    elif type(value) is list:
        found, nested = 0, value
    else:
        return 0
    if not depth:
        raise JsonError("nested too deep")
    for item in nested:
        found += _count_keys(item, depth - 1)
    return found


_NESTED = frozenset((dict, list))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in pairs:
        if key in found:
            raise JsonError(f"the key {_shown(key)} stands twice in one object")
        _no_surrogate(key)
        if isinstance(item, str):
            _no_surrogate(item)
        found[key] = item
    return found


def _no_surrogate(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("a string holds half of a surrogate pair") from None


def _no_constant(name: str) -> Any:
    raise JsonError(f"{name} is not JSON")


def _int(digits: str) -> int:
    if len(digits) < 19:
        return int(digits)
    # The length first: turning a million digits into an integer takes seconds.
    if len(digits) > 20 or int(digits) not in _LONG:
        raise JsonError(f"the integer {digits[:24]}… does not fit 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise JsonError(f"the number {digits[:24]} is too large")
    return number


_DECODER = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_no_constant)


def _name_of(given: object) -> str:
    if given is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(given), type(given).__name__)


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "…"
