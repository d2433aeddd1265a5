"""Kafka messages as an Avro object container file, without decoding them.

An Avro record is its fields one after the other, so the position in Kafka written before the body
of a record is the body of a wider record. Each message becomes a block of its own: a body that is
longer or shorter than its fields is then noticed by whoever reads the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from deploytrail_schemas.codec import HEADER_BYTES
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import versions

from deploytrail_sinks.clickhouse.tables import POSITION

_ONE = b"\x02"  # a block of one record


@dataclass(frozen=True, slots=True)
class Layout:
    """The file of one writer schema: its header, its marker between blocks, its columns."""

    header: bytes
    sync: bytes
    columns: tuple[str, ...]


@cache
def layout(kind: RecordType, version: int) -> Layout:
    """The layout for records that a version of a kind's schema wrote."""
    written = versions(kind)[version]
    wider = {
        "type": "record",
        "name": f"{kind.value}Row",
        "namespace": written["namespace"],
        "fields": POSITION + written["fields"],
    }
    text = json.dumps(wider).encode()
    sync = hashlib.md5(text, usedforsecurity=False).digest()
    entries = _text(b"avro.schema") + _text(text) + _text(b"avro.codec") + _text(b"null")
    header = b"Obj\x01" + varint(2) + entries + b"\x00" + sync
    return Layout(header, sync, tuple(field["name"] for field in wider["fields"]))


def varint(number: int) -> bytes:
    """Zigzag variable-length encoding of a long (Avro 1.12, "Binary encoding")."""
    rest = (number << 1) ^ (number >> 63)
    if rest < 0x80:
        return bytes((rest,))
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def container(shape: Layout, partition: int, rows: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The file of one partition's (offset, timestamp in ms, message value) of one writer schema."""
    place = varint(partition)
    out = bytearray(shape.header)  # grown in place: pieces that are joined in the end take twice the time
    behind = shape.sync + _ONE
    lengths: dict[int, bytes] = {}  # few different ones
    at, stamp = -1, b""
    out += _ONE
    for offset, timestamp, value in rows:
        if timestamp != at:  # many messages of a batch come in one millisecond
            at, stamp = timestamp, varint(timestamp)
        before = place + varint(offset) + stamp
        length = len(before) + len(value) - HEADER_BYTES
        if length not in lengths:
            lengths[length] = varint(length)
        out += lengths[length]
        out += before
        out += value[HEADER_BYTES:]
        out += behind
    del out[-len(_ONE) :]  # no block follows the last one
    return bytes(out)


def _text(data: bytes) -> bytes:
    return varint(len(data)) + data
