"""Raw Kafka records as Avro: the schema of a segment, and a writer several times as fast as a general one. Pure.

The bytes are those of Avro's binary encoding (https://avro.apache.org/docs/1.12.0/specification/#binary-encoding);
a test compares them with fastavro's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import fastavro
from deploytrail_schemas.avro_writer import long_bytes

SALT_BYTES = 16
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "ArchivedRecord",
        "namespace": "io.deploytrail.archive.v1",
        "doc": "One Kafka record as it was.",
        "fields": [
            {"name": "offset", "type": "long", "doc": "Offset in its partition."},
            {"name": "timestamp", "type": "long", "doc": "Kafka's timestamp, milliseconds since the epoch."},
            {"name": "timestamp_type", "type": "int", "doc": "1: set by the producer; 2: time of appending."},
            {"name": "key", "type": ["null", "bytes"], "doc": "Raw key."},
            {"name": "value", "type": ["null", "bytes"], "doc": "Raw value."},
            {
                "name": "headers",
                "doc": "Headers in order; a name may stand more than once.",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [
                            {"name": "name", "type": "string", "doc": "Name."},
                            {"name": "value", "type": ["null", "bytes"], "doc": "Raw value."},
                        ],
                    },
                },
            },
            {
                "name": "salt",
                "type": "bytes",
                "doc": "Random bytes that hide the content behind a commitment to it.",
            },
        ],
    }
)
_POOL = 4096  # salts that are drawn at one go
_SHORT = tuple(long_bytes(number) for number in range(1 << 13))
# The last two bytes of a long number change with every record, those before them seldom.
_LOW = tuple(bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(1 << 14))


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record. `salt` is drawn before it is taken into a segment."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    salt: bytes = b""

    def content(self) -> tuple[Any, ...]:
        """What Kafka gave, without the salt: two readers of one record agree on it."""
        return (self.offset, self.timestamp, self.timestamp_type, self.key, self.value, self.headers)


def salts() -> Iterator[bytes]:
    """Salts without end."""
    while True:
        drawn = os.urandom(_POOL * SALT_BYTES)
        for at in range(0, len(drawn), SALT_BYTES):
            yield drawn[at : at + SALT_BYTES]


def salted(record: Record) -> Record:
    """The record with a fresh salt."""
    return replace(record, salt=os.urandom(SALT_BYTES))


def encoded(records: Iterable[Record]) -> list[bytes]:
    """The Avro encoding of each record."""
    short, large = _SHORT, _large
    out = []
    for r in records:
        key, value, headers, salt = r.key, r.value, r.headers, r.salt
        out.append(
            b"".join(
                (
                    short[r.offset] if 0 <= r.offset < 8192 else large(r.offset),
                    large(r.timestamp),
                    short[r.timestamp_type] if r.timestamp_type >= 0 else large(r.timestamp_type),
                    b"\0" if key is None else b"\2" + (short[len(key)] if len(key) < 8192 else large(len(key))) + key,
                    b"\0"
                    if value is None
                    else b"\2" + (short[len(value)] if len(value) < 8192 else large(len(value))) + value,
                    _headers(headers) if headers else b"\0",
                    short[len(salt)],
                    salt,
                )
            )
        )
    return out


def _headers(headers: tuple[tuple[str, bytes | None], ...]) -> bytes:
    parts = [_large(len(headers))]
    for name, value in headers:
        parts.append(_name(name))
        parts.append(b"\0" if value is None else b"\2" + _large(len(value)) + value)
    parts.append(b"\0")
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    text = name.encode()
    return long_bytes(len(text)) + text


def _large(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    if left < 1 << 14:
        return long_bytes(number)
    return _LOW[left & 0x3FFF] + _high(left >> 14)


@lru_cache(maxsize=4096)
def _high(left: int) -> bytes:
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def from_avro(value: Any) -> Record:
    """The record of what a reader of Avro gives."""
    return Record(
        value["offset"],
        value["timestamp"],
        value["timestamp_type"],
        value["key"],
        value["value"],
        tuple((header["name"], header["value"]) for header in value["headers"]),
        value["salt"],
    )
