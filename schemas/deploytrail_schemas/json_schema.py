"""JSON Schemas (2020-12) of every kind of record, generated from its newest Avro schema.

Two for each kind. The *reported* one accepts what `json_values.validate` accepts of JSON that
`json_values.parse_json` has read: reporters' fields, null for a default, no unknown field. The
*canonical* one describes the lines of `json_lines`: every field, with those that the intake app
sets, and `record_type`, which tells the kinds apart.

`python -m deploytrail_schemas.json_schema` writes them to the folder `json` beside this module.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from deploytrail_schemas.json_lines import RECORD_TYPE
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import AvroSchema, avro_schema, fields, is_instant, versions

JsonSchema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).with_name("json")
_LONG = {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
# Not $ alone: Python's ends before a last line break. Classes, not \d: Python's knows the digits of all scripts.
_END = r"(?![\s\S])"
_TIME = r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})" + _END
_INSTANT_TEXT = {"type": "string", "format": "date-time", "pattern": r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}" + _TIME}
_INSTANT_ANY = {"type": "string", "format": "date-time", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}" + _TIME}
_INSTANT_MICROS = {"type": "integer", "minimum": 946_684_800_000_000, "exclusiveMaximum": 4_102_444_800_000_000}
_UUID = {"type": "string", "pattern": r"^[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}" + _END}
_UUIDS = frozenset({"event_id", "signal_id", "approval_id", "observation_id", "finding_id"})
_NOT_EMPTY = frozenset({"deployment_id", "region", "environment", "service"})
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}


def json_schema(kind: RecordType, *, canonical: bool = False) -> JsonSchema:
    """The schema of a kind's JSON objects, as reported or canonical."""
    source = avro_schema(kind)
    version = max(versions(kind))
    said = [field for field in fields(kind) if canonical or field["name"] not in CANONICAL_FIELDS]
    form = _canonical if canonical else _reported
    properties = {field["name"]: form(kind, field) | {"description": _described(field)} for field in said}
    required = [field["name"] for field in said if canonical or "default" not in field]
    if canonical:
        properties = {RECORD_TYPE: {"const": kind.value, "description": "Kind of the record."}} | properties
        required = [RECORD_TYPE, *required]
    return {
        "$schema": DIALECT,
        "$id": f"urn:deploytrail:{kind.file_stem}:v{version}:{'canonical' if canonical else 'reported'}",
        "title": kind.value,
        "description": source["doc"],
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def file_name(kind: RecordType, *, canonical: bool = False) -> str:
    """The file of a kind's schema: signal.v1.schema.json, signal.v1.canonical.schema.json."""
    return f"{kind.file_stem}.v{max(versions(kind))}{'.canonical' if canonical else ''}.schema.json"


def file_text(kind: RecordType, *, canonical: bool = False) -> str:
    """The text of that file."""
    return json.dumps(json_schema(kind, canonical=canonical), indent=1, ensure_ascii=False) + "\n"


def _reported(kind: RecordType, field: AvroSchema) -> JsonSchema:
    name, optional = field["name"], "default" in field
    if is_instant(field):
        return {"anyOf": [_INSTANT_TEXT, _INSTANT_MICROS, *([{"type": "null"}] if optional else [])]}
    avro, declared = _branch(field)
    if avro == "enum":
        return {"enum": [*declared["symbols"], *([None] if optional else [])]}
    if name in _UUIDS:
        shape: JsonSchema = dict(_UUID)
    elif avro == "string" and not optional and (name in _NOT_EMPTY or name == kind.id_field):
        shape = {"type": "string", "minLength": 1}
    else:
        shape = _plain(avro)
    return shape | {"type": [shape["type"], "null"]} if optional else shape


def _canonical(_: RecordType, field: AvroSchema) -> JsonSchema:
    optional = isinstance(field["type"], list)
    if is_instant(field):
        # A number where the instant lies outside of the years that text can name.
        return {"anyOf": [_INSTANT_ANY, _LONG, *([{"type": "null"}] if optional else [])]}
    avro, declared = _branch(field)
    if avro == "enum":
        return {"enum": [*declared["symbols"], *([None] if optional else [])]}
    shape = _plain(avro)
    # JSON has no NaN and no infinity: such a double is null.
    return shape | {"type": [shape["type"], "null"]} if optional or avro == "double" else shape


def _plain(avro: str) -> JsonSchema:
    shapes: dict[str, JsonSchema] = {
        "string": {"type": "string"},
        "boolean": {"type": "boolean"},
        "double": {"type": "number"},
        "long": _LONG,
        "map": _STRINGS,
        "array": {"type": "array", "items": {"type": "string"}},
    }
    return dict(shapes[avro])


def _branch(field: AvroSchema) -> tuple[str, AvroSchema]:
    declared = field["type"]
    if isinstance(declared, list):
        declared = next(branch for branch in declared if branch != "null")
    return (declared, {}) if isinstance(declared, str) else (declared["type"], declared)


def _described(field: AvroSchema) -> str:
    text = str(field["doc"])
    default = field.get("default")
    return text if default in (None, "", {}, []) else f"{text} Default: {json.dumps(default)}."


def write_files(folder: Path = FOLDER) -> list[Path]:
    """Write every schema; the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for kind in RecordType:
        for canonical in (False, True):
            path = folder / file_name(kind, canonical=canonical)
            path.write_text(file_text(kind, canonical=canonical), "utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    for path in write_files(*map(Path, sys.argv[1:2])):
        sys.stdout.write(f"{path.name}\n")
