"""A report that begins before what the tables keep says so, the same on every day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from deploytrail_schemas.instants import to_micros
from deploytrail_sinks.reports.document import Report
from deploytrail_sinks.reports.reach import LABEL, marked

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
REPORT = Report("Coverage", (("Period", "2025-09"),), (), main="")


def ago(days: float) -> int:
    return to_micros(NOON - timedelta(days=days))


@pytest.mark.requirement("M7.1")
def test_what_begins_before_the_tiers_is_marked_first_and_without_a_date() -> None:
    found = marked(REPORT, ago(396), 395, NOON)

    assert [label for label, _ in found.facts] == [LABEL, "Period"]
    assert "begins before what the tables keep, 395 days" in found.facts[0][1]
    assert marked(REPORT, ago(396), 395, NOON + timedelta(days=1)) == found


@pytest.mark.parametrize(("since", "days"), [(ago(394), 395), (ago(395), 395), (ago(5000), None), (None, 395)])
def test_what_the_tables_have_whole_is_as_it_was(since: int | None, days: int | None) -> None:
    assert marked(REPORT, since, days, NOON) is REPORT
