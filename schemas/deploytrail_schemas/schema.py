"""Avro schemas by kind and version, read from the files beside this module."""

from __future__ import annotations

import json
from collections.abc import Set
from functools import cache
from importlib import resources
from typing import Any

from deploytrail_schemas.records import RecordType

AvroSchema = dict[str, Any]


@cache
def versions(kind: RecordType) -> dict[int, AvroSchema]:
    """Every version of a kind's schema, oldest first, as written in its file."""
    return read_versions(kind)


def read_versions(kind: RecordType, besides: Set[int] = frozenset()) -> dict[int, AvroSchema]:
    """The versions whose files lie there now, oldest first, but for those that are known already."""
    found: dict[int, AvroSchema] = {}
    for entry in resources.files("deploytrail_schemas").joinpath("avro").iterdir():
        stem, dot, rest = entry.name.partition(".v")
        number = rest.removesuffix(".avsc")
        if dot and stem == kind.file_stem and rest != number and int(number) not in besides:
            found[int(number)] = json.loads(entry.read_text("utf-8"))
    return dict(sorted(found.items()))


def avro_schema(kind: RecordType) -> AvroSchema:
    """The newest schema of a kind, with documentation and logical types."""
    return list(versions(kind).values())[-1]


def fields(kind: RecordType) -> list[AvroSchema]:
    """The fields of a kind's newest schema, in wire order."""
    return list(avro_schema(kind)["fields"])


@cache
def fingerprint(kind: RecordType, version: int | None = None) -> bytes:
    """CRC-64-AVRO fingerprint, 8 bytes little-endian as in single-object encoding.

    Source: Avro 1.12 specification, "Schema fingerprints". It does not see logical types,
    defaults or documentation: a change of one of these needs a new field or record name.
    """
    every = versions(kind)
    return schema_fingerprint(every[version if version is not None else max(every)])


def schema_fingerprint(schema: AvroSchema) -> bytes:
    """CRC-64-AVRO fingerprint of any schema, 8 bytes little-endian."""
    from fastavro.schema import fingerprint as crc
    from fastavro.schema import to_parsing_canonical_form

    return bytes.fromhex(crc(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def without_logical_types(schema: AvroSchema) -> AvroSchema:
    """The same schema with plain longs for instants: the bytes are equal, and Python reads them faster."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            if set(node) == {"type", "logicalType"}:
                return node["type"]
            return {key: strip(value) for key, value in node.items() if key != "logicalType"}
        if isinstance(node, list):
            return [strip(item) for item in node]
        return node

    stripped: AvroSchema = strip(schema)
    return stripped


def is_instant(field: AvroSchema) -> bool:
    """Whether a field holds microseconds since the epoch."""
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return any(isinstance(t, dict) and t.get("logicalType") == "timestamp-micros" for t in types)
