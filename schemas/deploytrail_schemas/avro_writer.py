"""A writer made for one schema: the same bytes as fastavro's, several times as fast.

For flat records of text, numbers, booleans, instants, enums, maps and lists of text, as ours are.
It writes what fits exactly and says None to everything else, which fastavro then writes or refuses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

Write = Callable[[Any], bytes]
_LONGEST = range(-(1 << 63), 1 << 63)
_NOTHING = object()
_double = struct.Struct("<d").pack
_eight = struct.Struct("8B").pack


class Unwritable(Exception):
    """A value that is not exactly of its type."""


def writer_for(schema: dict[str, Any]) -> Callable[[dict[str, Any]], bytes | None]:
    """`write(value)`: the Avro body of a record; None where fastavro has to decide.

    `schema` is a record schema without logical types.
    """
    writers = [_writer_of(field["type"]) for field in schema["fields"]]
    places = {
        field["name"]: (at, writers[at], _unsaid(field.get("default", _NOTHING)))
        for at, field in enumerate(schema["fields"])
    }
    defaults = [_default(field, write) for field, write in zip(schema["fields"], writers, strict=True)]

    def write(value: dict[str, Any]) -> bytes | None:
        parts: list[Any] = defaults.copy()
        try:
            for name, item in value.items():
                at, write_field, unsaid = places[name]
                if item is not unsaid:  # most fields of a record are: their bytes stand there already
                    parts[at] = write_field(item)
            return b"".join(parts)
        except (Unwritable, UnicodeEncodeError, KeyError, TypeError):
            return None

    return write


def _unsaid(default: Any) -> Any:
    """A default that values have as the very same object, so that one look tells; else what no value is."""
    return default if default is None or (type(default) is str and not default) else _NOTHING


def _default(field: dict[str, Any], write: Write) -> bytes | None:
    """The bytes of a field's default; None, which no record can be joined with, where there is none."""
    try:
        return write(field["default"]) if "default" in field else None
    except Unwritable:  # fastavro knows what to make of it
        return None


def long_bytes(number: int) -> bytes:
    """A long: zigzag, seven bits a byte (Avro 1.12, "Binary Encoding")."""
    left = (number << 1) ^ (number >> 63)
    if 1 << 49 <= left < 1 << 56:  # microseconds of our days, at one go
        return _eight(
            left & 0x7F | 0x80,
            left >> 7 & 0x7F | 0x80,
            left >> 14 & 0x7F | 0x80,
            left >> 21 & 0x7F | 0x80,
            left >> 28 & 0x7F | 0x80,
            left >> 35 & 0x7F | 0x80,
            left >> 42 & 0x7F | 0x80,
            left >> 49,
        )
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


_LENGTHS = tuple(long_bytes(length) for length in range(1024))


def _writer_of(declared: Any) -> Write:
    if isinstance(declared, list):
        return _union(declared)
    if isinstance(declared, str):
        return _PLAIN[declared]
    name = declared["type"]
    if name == "enum":
        return _enum(declared["symbols"])
    if name == "map":
        return _map(_writer_of(declared["values"]))
    if name == "array":
        return _array(_writer_of(declared["items"]))
    return _PLAIN[name]


def _union(branches: list[Any]) -> Write:
    if len(branches) != 2 or "null" not in branches:
        return _unknown
    null = long_bytes(branches.index("null"))
    other = 1 - branches.index("null")
    index, write = long_bytes(other), _writer_of(branches[other])
    return lambda item: null if item is None else index + write(item)


def _enum(symbols: list[str]) -> Write:
    known = {symbol: long_bytes(index) for index, symbol in enumerate(symbols)}

    def write(item: Any) -> bytes:
        if type(item) is str and (found := known.get(item)) is not None:
            return found
        raise Unwritable

    return write


def _map(write_item: Write) -> Write:
    def write(item: Any) -> bytes:
        if type(item) is not dict:
            raise Unwritable
        if not item:
            return b"\0"
        entries = [_text(key) + write_item(one) for key, one in item.items()]
        return b"".join((long_bytes(len(item)), *entries, b"\0"))

    return write


def _array(write_item: Write) -> Write:
    def write(item: Any) -> bytes:
        if type(item) is not list:
            raise Unwritable
        return b"".join((long_bytes(len(item)), *map(write_item, item), b"\0")) if item else b"\0"

    return write


def _text(item: Any) -> bytes:
    if type(item) is not str:
        raise Unwritable
    data = item.encode()
    length = len(data)
    return (_LENGTHS[length] if length < 1024 else long_bytes(length)) + data


def _long(item: Any) -> bytes:
    if type(item) is not int or item not in _LONGEST:
        raise Unwritable
    return long_bytes(item)


def _number(item: Any) -> bytes:
    if type(item) is not float:
        raise Unwritable
    return _double(item)


def _boolean(item: Any) -> bytes:
    if type(item) is not bool:
        raise Unwritable
    return b"\1" if item else b"\0"


def _unknown(_: Any) -> bytes:
    raise Unwritable


_PLAIN: dict[str, Write] = {"string": _text, "long": _long, "double": _number, "boolean": _boolean}
