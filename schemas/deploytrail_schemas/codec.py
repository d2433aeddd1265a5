"""Records to bytes and back.

Avro single-object encoding (Avro 1.12): C3 01, the writer schema's fingerprint, the body.
Values are dicts by field name; instants are int microseconds since the epoch, unknown text is
"", unknown times and numbers are None, maps are {}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

from deploytrail_schemas.avro_writer import writer_for
from deploytrail_schemas.errors import DeploytrailError, EncodeError
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import (
    AvroSchema,
    avro_schema,
    read_versions,
    schema_fingerprint,
    versions,
    without_logical_types,
)

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
CONFLUENT_MARKER = 0
MAX_MESSAGE_BYTES = 1 << 20
# The leading fields of every kind that names a place; a truncated writer schema reads just these.
ROUTING_FIELDS = {
    RecordType.DEPLOYMENT_EVENT: 9,
    RecordType.SIGNAL: 6,
    RecordType.APPROVAL: 6,
    RecordType.OBSERVATION: 6,
    RecordType.TICK: 2,
    RecordType.RECORD: 7,
    RecordType.FINDING: 10,
    RecordType.GLOBAL_CHANGE: 9,
}

Value = dict[str, Any]


class DecodeError(DeploytrailError):
    """Bytes that are no sound record: a dead letter with this reason."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Writer(NamedTuple):
    """A writer schema that this version of deploytrail knows."""

    kind: RecordType
    version: int
    parsed: AvroSchema  # instants as plain longs
    routing: AvroSchema  # only the leading fields


@cache
def writers() -> dict[bytes, Writer]:
    """Every known writer schema by its fingerprint."""
    from fastavro import parse_schema

    known: dict[bytes, Writer] = {}
    for kind in RecordType:
        for version, schema in versions(kind).items():
            plain = without_logical_types(schema)
            routing = {**plain, "fields": plain["fields"][: ROUTING_FIELDS[kind]]}
            known[schema_fingerprint(schema)] = Writer(
                kind, version, _parsed(parse_schema(plain)), _parsed(parse_schema(routing))
            )
    return known


def learn() -> bool:
    """Take in schema files that were laid beside this package while it runs; whether there were any.

    A reader of a long life meets newer writers: with their files there, it needs no restart. What it
    writes itself stays as it was.
    """
    from fastavro import parse_schema

    found = False
    for kind in RecordType:
        for version, schema in read_versions(kind, besides=frozenset(versions(kind))).items():
            plain = without_logical_types(schema)
            _newest(kind)  # as it was until now
            routing = {**plain, "fields": plain["fields"][: ROUTING_FIELDS[kind]]}
            writer = Writer(kind, version, _parsed(parse_schema(plain)), _parsed(parse_schema(routing)))
            versions(kind)[version] = schema
            writers()[schema_fingerprint(schema)] = writer
            found = True
    return found


@cache
def _newest(kind: RecordType) -> tuple[bytes, AvroSchema, Callable[[Value], bytes | None]]:
    from fastavro import parse_schema

    schema = avro_schema(kind)
    plain = without_logical_types(schema)
    return MARKER + schema_fingerprint(schema), _parsed(parse_schema(plain)), writer_for(plain)


def _parsed(schema: Any) -> AvroSchema:
    parsed: AvroSchema = schema
    return parsed


def encode(kind: RecordType, value: Value) -> bytes:
    """The bytes of a record under its newest schema; missing fields take their defaults.

    EncodeError names what does not fit, also for fields that the schema does not have.
    """
    header, schema, write = _newest(kind)
    body = write(value)
    if body is not None:
        return header + body
    from fastavro import schemaless_writer

    out = BytesIO()
    out.write(header)
    try:
        schemaless_writer(out, schema, value, strict_allow_default=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise EncodeError(f"{kind.value} cannot be encoded: {error}") from error
    return out.getvalue()


def decode(data: bytes | None) -> tuple[RecordType, Value]:
    """Kind and value of a record, read whole and strictly under the newest schema of its kind.

    DecodeError where the bytes are empty, of another wire format, of an unknown schema, cut off,
    out of range or followed by more bytes.
    """
    writer = writer_of(data)
    assert data is not None
    body = BytesIO(data)
    body.seek(HEADER_BYTES)
    value = _read(body, writer, writer.parsed)
    if body.tell() != len(data):
        raise DecodeError(
            DeadLetterReason.MALFORMED,
            f"{len(data) - body.tell()} bytes follow the {writer.kind.value}, which ends at byte {body.tell()}",
        )
    return writer.kind, value


def decode_routing(data: bytes | None) -> tuple[RecordType, Value]:
    """Kind and leading fields (id, type, time, place) of a record that was decoded whole before."""
    writer = writer_of(data)
    assert data is not None
    body = BytesIO(data)
    body.seek(HEADER_BYTES)
    return writer.kind, _read(body, writer, writer.routing, projected=True)


def writer_of(data: bytes | None) -> Writer:
    """The writer schema that the bytes name; DecodeError where there is none that we know."""
    if not data:
        raise DecodeError(DeadLetterReason.EMPTY, "the message has no value")
    if len(data) > MAX_MESSAGE_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{len(data)} bytes; a message may have {MAX_MESSAGE_BYTES}")
    if data[:2] != MARKER:
        what = (
            "Confluent wire format, for which no schema registry is set" if data[0] == CONFLUENT_MARKER else "unknown"
        )
        raise DecodeError(DeadLetterReason.UNKNOWN_WIRE_FORMAT, f"starts with {data[:2].hex()} ({what}); expected c301")
    writer = writers().get(data[2:HEADER_BYTES])
    if writer is None:
        raise DecodeError(
            DeadLetterReason.UNKNOWN_SCHEMA,
            f"no known schema has the fingerprint {data[2:HEADER_BYTES].hex()}; upgrade this reader first",
        )
    return writer


def _read(body: BytesIO, writer: Writer, schema: AvroSchema, *, projected: bool = False) -> Value:
    from fastavro import schemaless_reader

    _, newest, _ = _newest(writer.kind)
    # Resolution to the newest schema costs; most bytes are of the newest.
    same = projected or writer.version == max(versions(writer.kind))
    try:
        value: Any = schemaless_reader(body, schema, None if same else newest)
    except Exception as error:  # hostile bytes make the reader raise nearly anything
        detail = str(error) or type(error).__name__
        raise DecodeError(
            DeadLetterReason.MALFORMED, f"not a {writer.kind.value} version {writer.version}: {detail}"
        ) from error
    record: Value = value
    return record
