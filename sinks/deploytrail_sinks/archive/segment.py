"""A segment: raw Kafka records of one partition and class, in an Avro object container file.

Names and layout stay for good:

    TOPIC/PARTITION (3 digits)/CLASS/FIRST_OFFSET (20 digits).avro

A segment covers the offsets from `first_offset` to `last_offset`; it holds those of them that are
of its class. The segments of one class cover a partition without gap or overlap, each naming the
digest of the one before; the classes of a partition together hold every offset.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, replace
from typing import Any

import fastavro
from deploytrail_schemas.errors import DeploytrailError

FORMAT = "1"
SALT_BYTES = 16
_PREFIX = "deploytrail."
_SCHEMA = fastavro.parse_schema(
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


class SegmentError(DeploytrailError):
    """A segment that is not what it should be."""


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record. `salt` is drawn when it is first taken into a segment."""

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


@dataclass(frozen=True, slots=True)
class Segment:
    """Records of one class that lie between two offsets, both included."""

    topic: str
    partition: int
    retention_class: str
    first_offset: int
    last_offset: int
    previous_sha256: str  # empty for the first
    records: tuple[Record, ...]
    gaps: tuple[tuple[int, int], ...] = ()  # offsets that Kafka no longer had, both ends included
    compacted: bool = False  # of a topic whose offsets have holes by design

    @property
    def name(self) -> str:
        """The object's name."""
        return segment_name(self.topic, self.partition, self.retention_class, self.first_offset)


def folder_name(topic: str, partition: int, retention_class: str) -> str:
    """Where the segments of a sequence lie."""
    return f"{topic}/{partition:03}/{retention_class}"


def segment_name(topic: str, partition: int, retention_class: str, first_offset: int) -> str:
    """The name of the segment that begins at an offset."""
    return f"{folder_name(topic, partition, retention_class)}/{first_offset:020}.avro"


def digest(data: bytes) -> str:
    """SHA-256 of an object, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def salted(record: Record) -> Record:
    """The record with a fresh salt."""
    return replace(record, salt=os.urandom(SALT_BYTES))


def content_digest(records: tuple[Record, ...]) -> str:
    """SHA-256 over the Avro encoding of the records one after the other, hexadecimal.

    It finds damage in the newest segment too, which no segment behind it is chained to.
    """
    encoded = io.BytesIO()
    for record in records:
        fastavro.schemaless_writer(encoded, _SCHEMA, _to_avro(record))
    return digest(encoded.getvalue())


def write_segment(segment: Segment) -> bytes:
    """The bytes of a segment: the same for the same records and salts."""
    metadata = {
        "format": FORMAT,
        "topic": segment.topic,
        "partition": str(segment.partition),
        "class": segment.retention_class,
        "first_offset": str(segment.first_offset),
        "last_offset": str(segment.last_offset),
        "prev_segment_sha256": segment.previous_sha256,
        "records": str(len(segment.records)),
        "content_sha256": content_digest(segment.records),
        "compacted": "true" if segment.compacted else "false",
        "gaps": ",".join(f"{first}-{last}" for first, last in segment.gaps),
    }
    out = io.BytesIO()
    described = repr(sorted(metadata.items())).encode()
    fastavro.writer(
        out,
        _SCHEMA,
        (_to_avro(record) for record in segment.records),
        codec="zstandard",
        metadata={_PREFIX + name: text for name, text in metadata.items()},
        sync_marker=hashlib.sha256(described).digest()[:16],
    )
    return out.getvalue()


def read_segment(data: bytes) -> Segment:
    """The segment of bytes; SegmentError where they are not a whole, consistent one."""
    try:
        reader = fastavro.reader(io.BytesIO(data))
        said = {k.removeprefix(_PREFIX): v for k, v in reader.metadata.items() if k.startswith(_PREFIX)}
        records = tuple(_from_avro(value) for value in reader)
        if said["format"] != FORMAT:
            raise SegmentError(f"format {said['format']}; this version reads {FORMAT}")
        segment = Segment(
            said["topic"],
            int(said["partition"]),
            said["class"],
            int(said["first_offset"]),
            int(said["last_offset"]),
            said["prev_segment_sha256"],
            records,
            tuple(_gap(text) for text in said["gaps"].split(",") if text),
            said["compacted"] == "true",
        )
        count = int(said["records"])
        content = said["content_sha256"]
    except SegmentError:
        raise
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise SegmentError(f"cannot be read: {type(error).__name__}: {error}") from error
    _check(segment, count)
    if content != content_digest(segment.records):
        raise SegmentError("holds other records than were written: its content digest differs")
    return segment


def _check(segment: Segment, count: int) -> None:
    offsets = [record.offset for record in segment.records]
    if count != len(offsets):
        raise SegmentError(f"says {count} records and holds {len(offsets)}")
    if offsets != sorted(set(offsets)):
        raise SegmentError("offsets do not rise")
    if offsets and not segment.first_offset <= offsets[0] <= offsets[-1] <= segment.last_offset:
        raise SegmentError(
            f"holds offsets {offsets[0]} to {offsets[-1]}, covers {segment.first_offset} to {segment.last_offset}"
        )


def _to_avro(record: Record) -> dict[str, Any]:
    headers = [{"name": name, "value": value} for name, value in record.headers]
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": record.timestamp_type,
        "key": record.key,
        "value": record.value,
        "headers": headers,
        "salt": record.salt,
    }


def _from_avro(value: Any) -> Record:
    headers = tuple((header["name"], header["value"]) for header in value["headers"])
    return Record(
        value["offset"],
        value["timestamp"],
        value["timestamp_type"],
        value["key"],
        value["value"],
        headers,
        value["salt"],
    )


def _gap(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last)
