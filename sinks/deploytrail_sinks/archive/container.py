"""Read a segment's Avro object container without trusting it: what it declares is bounded before it is followed.

A general reader follows the schema that the file brings, and its block counts and sizes, wherever they lead: into
recursion without end, or into all the memory there is. Ours has one schema, so the file's must be that one.
"""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
from backports import zstd
from deploytrail_schemas.avro_writer import long_bytes

from deploytrail_sinks.archive.raw_records import SCHEMA, Record, from_avro

_MAGIC, _MARKER = b"Obj\x01", 16
_SCHEMA_BYTES = 64 << 10
BLOCK_LIMIT = 256 << 20  # bytes unpacked; writers end a block behind the record that reaches 1 MiB
_LEAST = 7  # bytes of a record: each of its fields at its shortest


class ContainerError(ValueError):
    """Bytes that are no container of ours."""


def _schema(text: bytes) -> Any:
    if len(text) > _SCHEMA_BYTES:
        raise ContainerError(f"its schema has {len(text)} bytes")
    found = json.loads(text)
    return {k: v for k, v in found.items() if not k.startswith("__")} if isinstance(found, dict) else found


def _plain() -> tuple[bytes, Any]:
    """What a container of ours begins with where nothing is packed, without the marker; and its schema."""
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, (), codec="null", sync_marker=bytes(_MARKER))
    data = out.getvalue()
    metadata, _ = _metadata(_Bytes(data))
    return data, _schema(metadata["avro.schema"])


class _Bytes:
    """A place in bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ContainerError("ends in the middle, or declares more than it has")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)
            if shift > 63:
                raise ContainerError("has a number without end")


def _metadata(source: _Bytes) -> tuple[dict[str, bytes], bytes]:
    """The header's metadata and marker."""
    if source.take(len(_MAGIC)) != _MAGIC:
        raise ContainerError("is no Avro object container file")
    found: dict[str, bytes] = {}
    while count := source.long():
        if count < 0:
            raise ContainerError("has metadata as no writer of ours writes it")
        for _ in range(count):
            name = source.take(source.long()).decode()
            if name in found:
                raise ContainerError(f"says {name[:40]!r} twice")
            found[name] = source.take(source.long())
    return found, source.take(_MARKER)


_HEADER, _OURS = _plain()


def read_container(data: bytes) -> tuple[dict[str, str], bytes, tuple[Record, ...]]:
    """Metadata, the unpacked blocks one after the other, and the records that they say they hold.

    Raises nearly anything where the bytes are damaged; never without bound in time or memory.
    """
    source = _Bytes(data)
    metadata, marker = _metadata(source)
    if metadata.get("avro.codec") != b"zstandard" or _schema(metadata.get("avro.schema", b"")) != _OURS:
        raise ContainerError("has another schema or codec than the archive's")
    plain, unpacked = [_HEADER], []
    while source.at < len(data):
        begin = source.at
        count = source.long()
        counted = data[begin : source.at]
        raw = _unpack(source.take(source.long()))
        if source.take(_MARKER) != marker:
            raise ContainerError("has a block without the marker behind it")
        if not 0 < count <= len(raw) // _LEAST:
            raise ContainerError(f"has a block of {len(raw)} bytes that says it holds {count} records")
        unpacked.append(raw)
        plain += [counted, long_bytes(len(raw)), raw, bytes(_MARKER)]
    records = tuple(from_avro(value) for value in fastavro.reader(io.BytesIO(b"".join(plain))))
    return {name: text.decode() for name, text in metadata.items()}, b"".join(unpacked), records


def _unpack(packed: bytes) -> bytes:
    reader = zstd.ZstdDecompressor()
    raw = reader.decompress(packed, max_length=BLOCK_LIMIT)
    if not reader.eof or reader.unused_data:
        raise ContainerError(f"has a block that does not end, or is larger than {BLOCK_LIMIT} bytes")
    return raw
