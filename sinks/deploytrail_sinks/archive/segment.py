"""A segment: raw Kafka records of one partition and class, in an Avro object container file.

Names and layout stay for good:

    TOPIC/PARTITION (3 digits)/CLASS/FIRST_OFFSET (20 digits).avro

A segment covers the offsets from `first_offset` to `last_offset`; it holds those of them that are
of its class. The segments of one class cover a partition without gap or overlap, each naming the
digest of the one before; the classes of a partition together hold every offset.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import fastavro
from backports import zstd
from deploytrail_schemas.avro_writer import long_bytes
from deploytrail_schemas.errors import DeploytrailError

from deploytrail_sinks.archive.container import read_container
from deploytrail_sinks.archive.raw_records import SALT_BYTES, SCHEMA, Record, encoded, salted
from deploytrail_sinks.archive.store import ObjectStore

__all__ = [
    "FORMAT",
    "SALT_BYTES",
    "Record",
    "Segment",
    "SegmentError",
    "content_digest",
    "digest",
    "folder_name",
    "gaps_in",
    "gaps_text",
    "is_segment",
    "read_segment",
    "salted",
    "segment_name",
    "write_segment",
]
FORMAT = "1"
_PREFIX = "deploytrail."
_BLOCK = 1 << 20  # bytes of a block before compression
_LEVEL = 1  # on trails of ours level 3 takes twice as long and packs no better
_NAME = re.compile(r"[^/]+/[0-9]{3,}/[^/]+/[0-9]{20}\.avro")


class SegmentError(DeploytrailError):
    """A segment that is not what it should be."""


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
    previous_version: str = ""  # the version of the object before it, in a store that keeps versions
    retain_until: str = ""  # the date that it was created with; a store may lengthen it, never shorten it

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


def is_segment(name: str) -> bool:
    """Whether an object is a segment by its name: other things of the archive lie beside them."""
    return _NAME.fullmatch(name) is not None


def content_digest(records: tuple[Record, ...]) -> str:
    """SHA-256 over the Avro encoding of the records one after the other, hexadecimal.

    It finds damage in the newest segment too, which no segment behind it is chained to.
    """
    return digest(b"".join(encoded(records)))


def write_segment(segment: Segment) -> bytes:
    """The bytes of a segment: the same for the same records and salts."""
    blocks = list(_blocks(encoded(segment.records)))
    content = hashlib.sha256()
    for _, raw in blocks:
        content.update(raw)
    metadata = {
        "format": FORMAT,
        "topic": segment.topic,
        "partition": str(segment.partition),
        "class": segment.retention_class,
        "first_offset": str(segment.first_offset),
        "last_offset": str(segment.last_offset),
        "prev_segment_sha256": segment.previous_sha256,
        "prev_segment_version": segment.previous_version,
        "retain_until": segment.retain_until,
        "records": str(len(segment.records)),
        "content_sha256": content.hexdigest(),
        "compacted": "true" if segment.compacted else "false",
        "gaps": gaps_text(segment.gaps),
    }
    marker = hashlib.sha256(repr(sorted(metadata.items())).encode()).digest()[:16]
    out = io.BytesIO()
    described = {_PREFIX + name: text for name, text in metadata.items()}
    fastavro.writer(out, SCHEMA, (), codec="zstandard", metadata=described, sync_marker=marker)
    for count, raw in blocks:
        packed = zstd.compress(raw, level=_LEVEL)
        out.write(b"".join((long_bytes(count), long_bytes(len(packed)), packed, marker)))
    return out.getvalue()


def _blocks(parts: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Blocks that a reader can unpack one by one: how many records, and their bytes."""
    begin = size = 0
    for at, part in enumerate(parts):
        size += len(part)
        if size >= _BLOCK:
            yield at + 1 - begin, b"".join(parts[begin : at + 1])
            begin, size = at + 1, 0
    if begin < len(parts):
        yield len(parts) - begin, b"".join(parts[begin:])


def read_segment(data: bytes) -> Segment:
    """The segment of bytes; SegmentError where they are not a whole, consistent one."""
    try:
        metadata, unpacked, records = read_container(data)
        said = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
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
            gaps_in(said["gaps"]),
            said["compacted"] == "true",
            said.get("prev_segment_version", ""),
            said.get("retain_until", ""),
        )
        count = int(said["records"])
        content = said["content_sha256"]
    except SegmentError:
        raise
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise SegmentError(f"cannot be read: {type(error).__name__}: {error}") from error
    _check(segment, count)
    # Of the bytes, and of what was read from them: nothing hides behind the records of a block.
    if {digest(unpacked), content_digest(segment.records)} != {content}:
        raise SegmentError("holds other records than were written: its content digest differs")
    return segment


def stored_segment(store: ObjectStore, name: str) -> Segment:
    """The segment of a name; SegmentError, with the name, where it is none or nothing is there."""
    return stored_bytes(store, name)[1]


def stored_bytes(store: ObjectStore, name: str) -> tuple[bytes, Segment]:
    """The same with its bytes."""
    try:
        data = store.read(name)
        return data, read_segment(data)
    except KeyError:
        raise SegmentError(f"{name} is listed and is no object") from None
    except SegmentError as error:
        raise SegmentError(f"{name} {error}") from error


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
    behind = segment.first_offset  # of the gaps so far: a range that is told twice could hide another's end
    for first, last in segment.gaps:
        if not segment.first_offset <= first <= last <= segment.last_offset:
            raise SegmentError(f"speaks of a gap from {first} to {last}, which it does not cover")
        if first < behind:
            raise SegmentError(f"speaks of a gap from {first} to {last} behind one that reaches to {behind - 1}")
        behind = last + 1
        if bisect.bisect_left(offsets, first) != bisect.bisect_right(offsets, last):
            raise SegmentError(f"holds records in the gap that it says is from {first} to {last}")


def gaps_text(gaps: tuple[tuple[int, int], ...]) -> str:
    """Gaps as a segment's metadata, and a receipt, say them: 3-5,9-9."""
    return ",".join(f"{first}-{last}" for first, last in gaps)


def gaps_in(text: str) -> tuple[tuple[int, int], ...]:
    """The gaps of such a text; ValueError."""
    return tuple((int(first), int(last)) for first, _, last in (gap.partition("-") for gap in text.split(",") if gap))
