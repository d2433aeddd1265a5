"""A report as Markdown, HTML, CSV or JSON: text that is the same for the same report, written as it is made.

What stands in a cell comes from whoever reported it, so no cell can act: in Markdown and HTML everything that means
something is escaped, and in CSV a cell that a spreadsheet would compute begins with an apostrophe
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable, Sequence
from typing import TextIO
from urllib.parse import quote

from deploytrail_sinks.reports.document import Report, Table

_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MARKS = re.compile(r"([\\`*_{}\[\]()#|~!])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NOTHING_FROM_ELSEWHERE = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:2rem;color:#1a1a1a}
table{border-collapse:collapse;margin:.5rem 0 2rem}
th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f2f2f2}dt{font-weight:600}dd{margin:0 0 .4rem}
@media print{@page{size:A3 landscape}body{margin:0;font-size:9px}}"""


def markdown(report: Report, out: TextIO, pictures: Sequence[str] = ()) -> None:
    """CommonMark with GitHub's tables. `pictures`: the files that hold the report's."""
    out.write(f"# {_marked(report.title)}\n\n")
    out.writelines(f"- **{_marked(label)}**: {_marked(text)}\n" for label, text in report.facts)
    out.writelines(f"\n![{_marked(report.title)}]({quote(name)})\n" for name in pictures)
    for table in report.tables:
        out.write(f"\n## {_marked(table.title)}\n\n")
        if table.note:
            out.write(f"{table.note}\n\n")
        if not len(table.rows):
            out.write("None.\n")
            continue
        out.write(f"| {' | '.join(table.columns)} |\n|{' --- |' * len(table.columns)}\n")
        for row in table.rows:
            out.write(f"| {' | '.join(map(_marked, row))} |\n")


def as_html(report: Report, out: TextIO) -> None:
    """One page without anything from elsewhere."""
    title = html.escape(report.title)
    out.write(f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n')
    out.write(f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_FROM_ELSEWHERE}">\n')
    out.write(f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<dl>\n")
    out.writelines(f"<dt>{_escaped(label)}</dt><dd>{_escaped(text)}</dd>\n" for label, text in report.facts)
    out.write("</dl>\n")
    out.writelines(f"{picture}\n" for picture in report.pictures)
    for table in report.tables:
        out.write(f'<h2 id="{html.escape(table.name)}">{_escaped(table.title)}</h2>\n')
        if table.note:
            out.write(f"<p>{_escaped(table.note)}</p>\n")
        if not len(table.rows):
            out.write("<p>None.</p>\n")
            continue
        head = "".join(f"<th>{_escaped(name)}</th>" for name in table.columns)
        out.write(f"<table><thead><tr>{head}</tr></thead><tbody>\n")
        for row in table.rows:
            out.write(f"<tr>{''.join(f'<td>{_escaped(cell)}</td>' for cell in row)}</tr>\n")
        out.write("</tbody></table>\n")
    out.write("</body></html>\n")


def as_csv(table: Table, out: TextIO) -> None:
    """RFC 4180 with one head line, of one table."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([_inert(cell) for cell in row])


def as_json(report: Report, out: TextIO) -> None:
    """`{"title", "facts": {…}, "tables": {name: [{column: text}]}}`, a row a line."""
    out.write(f'{{"title": {_json(report.title)},\n"facts": {_json(dict(report.facts))},\n"tables": {{')
    for number, table in enumerate(report.tables):
        out.write(f"{',' if number else ''}\n{_json(table.name)}: [")
        for place, row in enumerate(table.rows):
            out.write(f"{',' if place else ''}\n{_json(dict(zip(table.columns, row, strict=True)))}")
        out.write("]")
    out.write("}}\n")


def _csv_of_main(report: Report, out: TextIO) -> None:
    as_csv(report.table(report.main), out)


FORMATS: dict[str, Callable[[Report, TextIO], None]] = {
    "markdown": markdown,
    "html": as_html,
    "csv": _csv_of_main,
    "json": as_json,
}


def _marked(text: str) -> str:
    return _MARKS.sub(r"\\\1", html.escape(_seen(text), quote=False)).replace("\n", " ").replace("\t", " ")


def _escaped(text: str) -> str:
    return html.escape(_seen(text))


def _seen(text: str) -> str:
    """Without what hides or turns around other text."""
    return _CONTROL.sub("\ufffd", text)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_COMPUTED) and not _NUMBER.fullmatch(text) else text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=False)
