"""Reports as text: the same for the same report, and no cell acts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import TextIO

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import format_instant
from deploytrail_sinks.reports.document import Report, Spooled, Table, rows
from deploytrail_sinks.reports.period import month, quarter
from deploytrail_sinks.reports.rendering import FORMATS, as_csv
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = '=HYPERLINK("http://evil.example","x")|<script>alert(1)</script>[a](b)`c`\u202egpj'


def report(cell: str = HOSTILE) -> Report:
    kept = Spooled()
    kept.append([cell, "2"])
    kept.append(["next", "-3.5"])
    tables = (
        Table("main", "All of it", ("what", "count"), kept, "A note."),
        Table("none", "Nothing", ("what",), rows([])),
    )
    return Report("Audit <of> *it*", (("Period", cell),), tables, "main")


def text(write: Callable[[Report, TextIO], None], of: Report) -> str:
    out = io.StringIO(newline="")
    write(of, out)
    return out.getvalue()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_equal_reports_are_equal_text(name: str) -> None:
    assert text(FORMATS[name], report()) == text(FORMATS[name], report())


def test_no_cell_acts_in_html_and_markdown() -> None:
    page, marked = text(FORMATS["html"], report()), text(FORMATS["markdown"], report())

    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "\u202e" not in page + marked
    assert "<script" not in marked
    assert "[a](b)" not in marked
    (line,) = [line for line in marked.splitlines() if line.startswith("| =HYPERLINK")]
    assert line.count("|") - line.count("\\|") == 3


@given(st.text(max_size=30))
def test_a_spreadsheet_computes_no_cell_and_csv_comes_back(cell: str) -> None:
    out = io.StringIO(newline="")
    as_csv(report(cell).table("main"), out)
    head, first, second = csv.reader(io.StringIO(out.getvalue(), newline=""))

    assert head == ["what", "count"]
    assert first[0].removeprefix("'") == cell.removeprefix("'")
    assert not first[0].startswith(("=", "@", "\t", "\r"))
    assert second == ["next", "-3.5"]


@given(st.text(max_size=30))
def test_json_comes_back(cell: str) -> None:
    found = json.loads(text(FORMATS["json"], report(cell)))

    assert found["facts"] == {"Period": cell}
    assert found["tables"] == {"main": [{"what": cell, "count": "2"}, {"what": "next", "count": "-3.5"}], "none": []}


def test_rows_of_a_file_are_read_by_several_at_once() -> None:
    kept = Spooled()
    for number in range(3):
        kept.append([str(number)])

    assert [(a, b) for a, b in zip(kept, kept, strict=True)] == [((str(n),), (str(n),)) for n in range(3)]
    assert len(kept) == 3


def test_a_month_begins_and_ends_by_its_zone() -> None:
    berlin, utc, winter = month("2026-10", "Europe/Berlin"), month("2026-10"), quarter("2026-Q4")

    assert [format_instant(t)[:16] for t in (berlin.start, berlin.end)] == ["2026-09-30T22:00", "2026-10-31T23:00"]
    assert [format_instant(t)[:16] for t in (utc.start, utc.end)] == ["2026-10-01T00:00", "2026-11-01T00:00"]
    assert [format_instant(t)[:16] for t in (winter.start, winter.end)] == ["2026-10-01T00:00", "2027-01-01T00:00"]


@pytest.mark.parametrize("wrong", ["2026-13", "2026", "1999-01", "october", "2026-1"])
def test_what_is_no_month_is_said(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        month(wrong)


def test_a_wrong_zone_is_said() -> None:
    with pytest.raises(ConfigurationError, match="IANA"):
        month("2026-10", "Mars/Olympus")
