"""The log's entries: what is hashed into its leaves. They say that a record is there, and not what it says. Pure.

A segment is entered as one entry for the object, one for each gap in it, one for each of its records, in this
order. An entry is canonical JSON (RFC 8785), its names in order:

    {"kind":"segment","name":NAME,"records":NUMBER,"sha256":HEX}
    {"first":OFFSET,"kind":"gap","last":OFFSET,"partition":NUMBER,"topic":TOPIC}
    {"commitment":BASE64,"kind":"record","offset":OFFSET,"partition":NUMBER,"topic":TOPIC}

Other objects that are kept for good (published checkpoints, time stamps) are entered as

    {"kind":"object","name":NAME,"sha256":HEX}

A commitment is SHA-256 over a label, the record's 16-byte salt and its content as canonical JSON. Salt and
content lie in the segment: once it is gone, nobody can try out what the record may have been. 64-bit numbers
are strings, since JSON numbers end at 2^53.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice, takewhile
from typing import Any

from deploytrail_sinks.archive.segment import SALT_BYTES, Record, Segment

LABEL = b"deploytrail record v1\n"
_GAP = b'{"first"'  # how the entry of a gap begins, and no other
# Names in order and no floats: then the plain encoder writes what RFC 8785 asks for; a test compares.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def content(topic: str, partition: int, record: Record) -> dict[str, Any]:
    """A record's content as JSON, as an auditor reads it; bytes are base64."""
    return {
        "headers": [[name, _base64(value)] for name, value in record.headers],
        "key": _base64(record.key),
        "offset": str(record.offset),
        "partition": partition,
        "timestamp": str(record.timestamp),
        "timestamp_type": record.timestamp_type,
        "topic": topic,
        "value": _base64(record.value),
    }


def commitment(topic: str, partition: int, record: Record) -> bytes:
    """The salted commitment to a record."""
    if len(record.salt) != SALT_BYTES:
        raise ValueError(f"offset {record.offset} has a salt of {len(record.salt)} bytes; expected {SALT_BYTES}")
    return sha256(LABEL + record.salt + _encode(content(topic, partition, record)).encode()).digest()


def record_entry(topic: str, partition: int, record: Record) -> bytes:
    """The entry of a record."""
    committed = b64encode(commitment(topic, partition, record)).decode()
    return _encode(
        {
            "commitment": committed,
            "kind": "record",
            "offset": str(record.offset),
            "partition": partition,
            "topic": topic,
        }
    ).encode()


def object_entry(name: str, sha256_hex: str) -> bytes:
    """The entry of an object that is no segment."""
    return _encode({"kind": "object", "name": name, "sha256": sha256_hex}).encode()


def segment_entry(name: str, records: int, sha256_hex: str) -> bytes:
    """The entry of a segment's object."""
    return _encode({"kind": "segment", "name": name, "records": records, "sha256": sha256_hex}).encode()


def gap_entry(topic: str, partition: int, first: int, last: int) -> bytes:
    """The entry of a gap."""
    return _encode(
        {"first": str(first), "kind": "gap", "last": str(last), "partition": partition, "topic": topic}
    ).encode()


def segment_entries(segment: Segment, sha256_hex: str) -> Iterator[bytes]:
    """Everything that is entered for a segment, in order."""
    yield segment_entry(segment.name, len(segment.records), sha256_hex)
    for first, last in segment.gaps:
        yield gap_entry(segment.topic, segment.partition, first, last)
    for record in segment.records:
        yield record_entry(segment.topic, segment.partition, record)


def gaps_of(entries: Sequence[bytes]) -> int:
    """How many gaps are among the entries of a segment."""
    return sum(1 for _ in takewhile(lambda entry: entry.startswith(_GAP), islice(entries, 1, None)))


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
