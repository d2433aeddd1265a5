"""The table of every field in the README, generated from the schemas.

`python -m deploytrail_schemas.field_table README.md` writes it between its two marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import AvroSchema, avro_schema, is_instant
from deploytrail_schemas.settings import describe

BEGIN, END = "<!-- fields: generated -->", "<!-- fields: end -->"
SETTINGS_BEGIN, SETTINGS_END = "<!-- settings: generated -->", "<!-- settings: end -->"
_UNITS = {"_ms": "ms", "_ns": "ns", "confidence": "0–1", "probability": "0–1", "cohort_weight": "0–1"}


def field_table() -> str:
    """Markdown: one table a kind, with name, type, unit and meaning of each field."""
    parts = []
    for kind in RecordType:
        schema = avro_schema(kind)
        if kind is RecordType.GLOBAL_CHANGE:
            parts.append(f"### {kind.value}\n\n{schema['doc']}")
            continue
        rows = [f"| `{f['name']}` | {type_name(f)} | {unit(f)} | {_cell(f['doc'])} |" for f in schema["fields"]]
        head = f"### {kind.value}\n\n{schema['doc']}\n\n| field | type | unit | meaning |\n|---|---|---|---|\n"
        parts.append(head + "\n".join(rows))
    return "\n\n".join(parts)


def settings_table() -> str:
    """Markdown: every setting with type, default and meaning."""
    rows = [
        f"| `{name}` | {kind} | `{default}` | {_cell(text)} |"
        if default
        else f"| `{name}` | {kind} | | {_cell(text)} |"
        for name, kind, default, text in describe()
    ]
    return "| variable | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)


def type_name(field: AvroSchema) -> str:
    """A field's type for people: `string`, `long or null`, `one of a, b`, `map of string`."""
    declared = field["type"]
    optional = isinstance(declared, list)
    if optional:
        declared = next(t for t in declared if t != "null")
    if is_instant(field):
        name = "instant"
    elif isinstance(declared, str):
        name = declared
    elif declared["type"] == "enum":
        name = "one of " + ", ".join(f"`{symbol}`" for symbol in declared["symbols"])
    else:
        name = f"{declared['type']} of {declared.get('values') or declared.get('items')}"
    return f"{name} or null" if optional else name


def unit(field: AvroSchema) -> str:
    """The unit of a field's value, empty where it has none."""
    if is_instant(field):
        return "µs since the epoch, UTC"
    return next((text for ending, text in _UNITS.items() if field["name"].endswith(ending)), "")


def fill(text: str) -> str:
    """The README with both generated tables in their places."""
    text = _between(text, BEGIN, END, field_table())
    return _between(text, SETTINGS_BEGIN, SETTINGS_END, settings_table())


def _between(text: str, begin: str, end: str, content: str) -> str:
    before, mark, rest = text.partition(begin)
    _, mark_end, after = rest.partition(end)
    if not mark or not mark_end:
        raise SystemExit(f"the README lacks the mark {begin if not mark else end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(fill(readme.read_text("utf-8")), "utf-8")
