"""Reports that answer from ClickHouse's views, on the hand-written history of the questions."""

from __future__ import annotations

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.reports.pdf import BROWSERS
from support.commands import run
from support.monday import play
from support.questions import Trail, at, record


@dataclass(frozen=True)
class Reports:
    env: dict[str, str]
    folder: Path
    trail: Trail

    def text(self, *words: str, code: int = 0) -> str:
        done = run("report", *words, env=self.env, cwd=self.folder)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def tables(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text(*words, "--format", "json"))
        return found


@pytest.fixture(scope="module")
def reports(clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reports]:
    trail = Trail(clickhouse)
    play(trail)
    taken = datetime(2026, 11, 2, tzinfo=UTC)
    everywhere = (["*"], ["*"], ["*"])
    grants = [[taken, f"dtk_{n}", "retail", *everywhere, ["report"], taken, None, None] for n in (1, 3)]
    columns = ["taken_at", "credential", "team", "services", "environments", "regions", "verbs", "created_at"]
    trail.client.insert(f"{trail.database}.grants", grants, column_names=[*columns, "expires_at", "revoked_at"])
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
    yield Reports(env, tmp_path_factory.mktemp("reports"), trail)
    trail.close()


@pytest.mark.requirement("M6.3")
def test_a_timeline_has_its_candidates_its_entries_and_a_picture(reports: Reports) -> None:
    found = reports.tables("timeline", "INC1")
    page = reports.text("timeline", "INC1", "--format", "html")
    picture = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    shown = "".join(picture.itertext())

    assert found["facts"]["Likely cause"] == "P1 (70%)"
    assert (found["facts"]["Began"], found["facts"]["Ended"]) == (
        "2026-11-02T09:10:00.000Z",
        "2026-11-02T09:40:00.000Z",
    )
    assert [(c["deployment"], c["probability"]) for c in found["tables"]["candidates"]] == [
        ("P1", "70%"),
        ("none of them", "30%"),
    ]
    assert [(e["at"][11:16], e["what"], e["source"]) for e in found["tables"]["timeline"]][-1][:2] == (
        "09:40",
        "alert_resolved",
    )
    assert "P1" in shown
    assert "09:10:00 ± " in shown


@pytest.mark.requirement("M6.3")
def test_markdown_has_its_picture_beside_it(reports: Reports) -> None:
    reports.text("timeline", "INC1", "--output", "inc 1.md")
    text = (reports.folder / "inc 1.md").read_text()

    assert "![Timeline of INC1](inc%201.1.svg)" in text
    ET.parse(reports.folder / "inc 1.1.svg")


@pytest.mark.requirement("M5.6")
def test_access_is_reviewed_with_unused_grants_first(reports: Reports) -> None:
    found = reports.tables("access", "--quarter", "2026-Q4")

    rows = [(row["credential"], row["verdict"]) for row in found["tables"]["access"]]
    assert rows[0] == ("dtk_3", "unused")
    assert ("dtk_1", "used") in rows


@pytest.mark.requirement("M7.6")
def test_coverage_says_what_runs_that_nobody_reported(reports: Reports) -> None:
    found = reports.tables("coverage", "--quarter", "2026-Q4")
    rows = {(row["team"], row["tool"]): row for row in found["tables"]["coverage"]}

    running, known = (sum(int(row[name]) for row in rows.values()) for name in ("running", "running registered"))
    assert 0 < known < running
    assert found["facts"]["Running and reported"].startswith(f"{known} of {running} (")
    assert set(found["tables"]) == {"coverage", "unreported", "tickets", "loss"}


@pytest.mark.requirement("M6.4")
def test_a_teams_scorecard_has_the_four_keys_as_of_a_day(reports: Reports) -> None:
    (row,) = reports.tables("team", "retail", "--month", "2026-11")["tables"]["dora"]
    table = reports.text("team", "retail", "--month", "2026-11", "--table", "frequency")
    days = list(csv.DictReader(io.StringIO(table, newline="")))

    assert int(row["total"]) >= int(row["failed"]) > 0
    assert {day["team"] for day in days} == {"retail"}
    early = reports.tables("team", "retail", "--month", "2026-11", "--as-of", "2026-11-01T00:00:00Z")
    assert early["tables"]["dora"] == []
    assert "nothing is known of the team 'retial'; there are " in reports.text(
        "team", "retial", "--month", "2026-11", code=78
    )


def test_a_verdict_that_was_told_again_counts_once_and_what_supersedes_it_later_changes_nothing_before(
    reports: Reports,
) -> None:
    place = {"region": "eu-west-1", "environment": "production", "service": "shop", "deployment_id": "A"}
    verdict = place | {"rule": "change_window", "occurred_at": at("10:00"), "severity": "error"}
    against = verdict | {"finding_id": "w1", "verdict": "violation", "reason": "outside_allowed_windows"}
    for _ in range(2):
        reports.trail.store(RecordType.FINDING, [against], written=at("10:01"))
    after = verdict | {"finding_id": "w2", "verdict": "ok", "reason": "break_glass", "supersedes": "w1"}
    reports.trail.store(RecordType.FINDING, [after], written=at("12:00", 4))

    def told(day: int) -> list[tuple[str, str]]:
        found = reports.tables("team", "retail", "--month", "2026-11", "--as-of", f"2026-11-{day:02}T00:00:00Z")
        rows = found["tables"]["findings"]
        return [(row["reason"], row["findings"]) for row in rows if row["rule"] == "change_window"]

    assert told(4) == [("outside_allowed_windows", "1")]
    assert told(5) == []


@pytest.mark.requirement("M6.4", "M7.6")
def test_what_policy_calls_production_is_reported_in_each_environment_by_itself(
    clickhouse: str, tmp_path: Path
) -> None:
    trail = Trail(clickhouse)
    for number, environment in enumerate(("production", "prod-eu", "prod-eu", "qa")):
        trail.store(RecordType.RECORD, [record(f"d{number}", "succeeded", at("10:00"), at("10:05"), team="retail",
                                               environment=environment)])  # fmt: skip
    since, written = "2026-01-01T00:00:00Z", at("08:00")
    trail.apply("service", "shop", 1, since, {"team": "retail"}, written)
    trail.apply("environment", "prod-eu", 1, since, {"production": True}, written)
    trail.apply("environment", "qa", 1, since, {"production": False}, written)
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
    asked = Reports(env, tmp_path, trail)
    every = asked.tables("team", "retail", "--month", "2026-11")
    some = asked.tables("team", "retail", "--month", "2026-11", "--environment", "qa", "--environment", "production")
    before = asked.tables("team", "retail", "--month", "2026-11", "--as-of", "2026-11-02T07:00:00Z")
    links = asked.tables("coverage", "--month", "2026-11")
    again = [asked.text("team", "retail", "--month", "2026-11", "--format", "html") for _ in range(2)]
    trail.close()

    def totals(found: dict[str, Any]) -> list[tuple[str, str]]:
        return [(row["environment"], row["total"]) for row in found["tables"]["dora"]]

    assert totals(every) == [("prod-eu", "2"), ("production", "1")]
    assert every["facts"]["Environments"] == "prod-eu, production"
    assert {row["environment"] for row in every["tables"]["frequency"]} == {"prod-eu", "production"}
    assert totals(some) == [("qa", "1"), ("production", "1")]
    assert before["facts"]["Environments"] == "production"
    assert [(row["environment"], row["reason"]) for row in links["tables"]["tickets"]] == [
        ("prod-eu", "no_ticket"),
        ("prod-eu", "no_ticket"),
        ("production", "no_ticket"),
    ]
    assert links["facts"]["Tickets"] == "of prod-eu, production"
    assert again[0] == again[1]


SAME = (
    ("timeline", "INC1"),
    ("access", "--quarter", "2026-Q4"),
    ("coverage", "--month", "2026-11"),
    ("team", "retail", "--month", "2026-11"),
)


@pytest.mark.parametrize("words", SAME, ids=lambda words: words[0])
def test_each_is_the_same_to_the_byte_when_repeated(words: tuple[str, ...], reports: Reports) -> None:
    assert reports.text(*words, "--format", "html") == reports.text(*words, "--format", "html")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no browser here that prints PDF")
@pytest.mark.timeout(200)
def test_a_browser_makes_a_pdf(reports: Reports) -> None:
    reports.text("timeline", "INC1", "--format", "pdf", "--output", "inc.pdf")

    assert (reports.folder / "inc.pdf").read_bytes().startswith(b"%PDF-")


def test_what_cannot_be_told_is_said(reports: Reports) -> None:
    assert "nothing is known of the incident 'INC-404'" in reports.text("timeline", "INC-404", code=78)
    assert "needs --output" in reports.text("timeline", "INC1", "--format", "pdf", code=64)
