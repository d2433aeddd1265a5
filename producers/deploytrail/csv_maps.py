"""CSV of legacy systems as our records: dialect and columns are declared once, in a YAML file of maps.

    legacy-deploys:
      kind: deployment                 # or signal, approval, observation
      delimiter: ";"                   # quote ("), encoding (utf-8): where they differ
      time_format: "%d.%m.%Y %H:%M"    # of instants; without: RFC 3339, or a number since the epoch
      timezone: Europe/Vienna          # of instants that name none
      columns: {deployment_id: Nr, service: App, version: Version, occurred_at: Start, event_type: Status}
      values: {event_type: {OK: succeeded, NOK: failed}}
      constants: {environment: production, region: eu-central-1}
      confidence: 0.8                  # of deployments; how far this source is trusted

Pure but for `load`. Ids follow from the line's content, so that a file that is sent again is the same records.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import format_instant, to_micros
from deploytrail_schemas.json_values import Violation, validate
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import fields, is_instant
from deploytrail_schemas.text_values import SEPARATOR, from_texts

from deploytrail.adapters.base import instant

KINDS = {
    "deployment": RecordType.DEPLOYMENT_EVENT,
    "signal": RecordType.SIGNAL,
    "approval": RecordType.APPROVAL,
    "observation": RecordType.OBSERVATION,
}
MAX_CELL = 64 << 10
CONFIDENCE = 0.8


@dataclass(frozen=True, slots=True)
class CsvMap:
    """How one system's CSV is read. `columns`: our field → their column."""

    name: str
    kind: RecordType
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8-sig"
    time_format: str = ""
    zone: tzinfo | None = None
    confidence: float = CONFIDENCE


@dataclass(frozen=True, slots=True)
class Line:
    """One good line: its number in the file, and the record."""

    number: int
    value: dict[str, Any]


class TooManyLines(DeploytrailError):
    """A file that is too long to be read at once: send it in parts."""


def load(path: Path) -> dict[str, CsvMap]:
    """The maps of a file by name; ConfigurationError names what is wrong in it."""
    import yaml

    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"the CSV maps in {path} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(f"{path} holds no CSV maps; expected NAME: {{kind: …, columns: …}}")
    return {str(name): csv_map(str(name), spec) for name, spec in given.items()}


def csv_map(name: str, spec: Any) -> CsvMap:
    """A map as its YAML says it; ConfigurationError where it makes no sense."""
    try:
        return _csv_map(name, dict(spec))
    except (ValueError, TypeError, KeyError, LookupError, OSError) as error:
        raise ConfigurationError(f"the CSV map {name!r} is wrong: {error}") from error


def _csv_map(name: str, spec: dict[str, Any]) -> CsvMap:
    unknown = spec.keys() - _KEYS
    if unknown:
        raise ValueError(f"it has no {', '.join(sorted(map(str, unknown)))}; there are {', '.join(sorted(_KEYS))}")
    if spec.get("kind", "deployment") not in KINDS:
        raise ValueError(f"kind is {spec['kind']!r}; expected one of {', '.join(KINDS)}")
    kind = KINDS[spec.get("kind", "deployment")]
    known = {f["name"] for f in fields(kind)}.difference(CANONICAL_FIELDS)
    made = CsvMap(
        name=name,
        kind=kind,
        columns={str(k): str(v) for k, v in dict(spec["columns"]).items()},
        constants={str(k): str(v) for k, v in dict(spec.get("constants", {})).items()},
        values={str(k): {str(a): str(b) for a, b in dict(v).items()} for k, v in dict(spec.get("values", {})).items()},
        delimiter=str(spec.get("delimiter", ",")),
        quote=str(spec.get("quote", '"')),
        encoding=str(spec.get("encoding", "utf-8-sig")),
        time_format=str(spec.get("time_format", "")),
        zone=ZoneInfo(spec["timezone"]) if "timezone" in spec else None,
        confidence=float(spec.get("confidence", CONFIDENCE)),
    )
    for field in (*made.columns, *made.constants):
        if field.partition(SEPARATOR)[0] not in known:
            raise ValueError(f"{kind.value} has no field {field!r}")
    codecs.lookup(made.encoding)
    csv.reader([], delimiter=made.delimiter, quotechar=made.quote)
    return made


_KEYS = {
    *("kind", "columns", "constants", "values", "delimiter", "quote", "encoding", "time_format", "timezone"),
    "confidence",
}


def read(mapping: CsvMap, data: bytes, received_at: int, *, most: int = 1 << 62) -> tuple[list[Line], list[Violation]]:
    """The records of the good lines, and what is wrong with each of the others (`/LINE/FIELD`).

    TooManyLines where there are more than `most`, good or bad.
    """
    try:
        text = data.decode(mapping.encoding)
    except UnicodeDecodeError as error:
        return [], [Violation("", f"not {mapping.encoding} at byte {error.start}")]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mapping.delimiter, quotechar=mapping.quote, strict=True)
    good: list[Line] = []
    wrong: list[Violation] = []
    header: list[str] | None = None
    lines = 0
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            wrong.append(Violation(f"/{rows.line_num}", f"is no CSV: {error}"))
            break  # where the next line begins is anyone's guess
        if cells is None:
            break
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if missing := sorted(set(mapping.columns.values()) - set(header)):
                return [], [Violation("/1", f"the header has no column {', '.join(map(repr, missing))}")]
            continue
        lines += 1
        if lines > most:
            raise TooManyLines(f"more than {most} lines; one request may carry so many")
        value, problems = _line(mapping, header, cells, received_at)
        if problems:
            wrong += [Violation(f"/{rows.line_num}{v.pointer}", v.detail) for v in problems]
        else:
            good.append(Line(rows.line_num, value))
    return good, wrong


def _line(
    mapping: CsvMap, header: list[str], cells: list[str], received_at: int
) -> tuple[dict[str, Any], list[Violation]]:
    if len(cells) != len(header):
        return {}, [Violation("", f"has {counted(len(cells), 'cell')}; the header has {len(header)}")]
    row = dict(zip(header, cells, strict=True))
    pairs = [*mapping.constants.items(), *((ours, row[theirs].strip()) for ours, theirs in mapping.columns.items())]
    wrong: list[Violation] = []
    said: list[tuple[str, str]] = []
    for field, text in pairs:
        try:
            said.append((field, _cell(mapping, field, text)))
        except ValueError as error:
            wrong.append(Violation(f"/{field}", str(error)))
    if wrong:
        return {}, wrong
    identity = name_based_id("csv", mapping.name, *cells)
    usual: dict[str, Any] = {
        mapping.kind.id_field: identity,
        "occurred_at": received_at,
        "producer_id": f"csv:{mapping.name}",
        "source": "csv",
    }
    if mapping.kind is RecordType.DEPLOYMENT_EVENT:
        usual |= {"confidence": mapping.confidence, "deployment_id": f"csv:{mapping.name}:{identity}"}
    return validate(mapping.kind, usual | from_texts(mapping.kind, said))


def _cell(mapping: CsvMap, field: str, text: str) -> str:
    if field in mapping.values and text:
        if text not in mapping.values[field]:
            raise ValueError(f"is {text!r}; expected one of {', '.join(mapping.values[field])}")
        return mapping.values[field][text]
    if text and field in _instants(mapping.kind):
        return _instant(mapping, text)
    return text


def _instants(kind: RecordType) -> frozenset[str]:
    return frozenset(f["name"] for f in fields(kind) if is_instant(f))


def _instant(mapping: CsvMap, text: str) -> str:
    if not mapping.time_format:
        found = instant({"at": text}, "at")
        return format_instant(found) if found is not None else text  # the check says what is wrong
    try:
        at = datetime.strptime(text, mapping.time_format)  # noqa: DTZ007  # its zone follows
    except ValueError:
        raise ValueError(f"is {text!r}; expected the form {mapping.time_format!r}") from None
    if at.tzinfo is None:
        if mapping.zone is None:
            raise ValueError(f"is {text!r}, which names no time zone, and neither does the map")
        at = at.replace(tzinfo=mapping.zone)
    return format_instant(to_micros(at))
