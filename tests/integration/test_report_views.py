"""Reports that answer from ClickHouse's views, on the hand-written history of the questions."""

from __future__ import annotations

import csv
import io
import json
import shutil
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.migrate import migrate_as_set
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.reports.pdf import BROWSERS
from support.clickhouse import ClickHouseProcess
from support.commands import run
from support.monday import play
from support.questions import Trail, at, candidate, record
from support.values import approval, event, observation, signal


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


@pytest.mark.requirement("M7.3", "M8.1")
def test_a_producer_whose_numbers_lie_on_two_shards_has_lost_none_of_them(clickhouse: str, tmp_path: Path) -> None:
    received = datetime(2026, 11, 2, 12, tzinfo=UTC)
    columns = ["kafka_offset", "kafka_timestamp", "received_at", "producer_id", "producer_seq"]
    folder = tmp_path / "other"
    folder.mkdir()
    with ClickHouseProcess(folder) as other:
        env = {
            "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"us-east-1={other.url}",
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"shards_{uuid.uuid4().hex[:8]}",
        }
        settings = Settings.load(env)
        migrate_as_set(settings)
        for url, numbers in ((clickhouse, (1, 3, 4, 7)), (other.url, (2, 5))):
            rows = [[seq, received, received, "runner-1", seq] for seq in numbers]
            connect(settings, url).insert(f"{settings.clickhouse_database}.deployment_events", rows, columns)
        done = run("report", "coverage", "--month", "2026-11", "--table", "loss", env=env, cwd=tmp_path)
        connect(settings).command(f"DROP DATABASE {settings.clickhouse_database}")

    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout, newline=""))
    assert (row["producer id"], row["arrived"], row["missing"]) == ("runner-1", "6", "1")


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


def _late(trail: Trail, written: int) -> None:
    """What arrives at `written` of that Monday: of every kind, about what is known of it and what is not."""
    of_monday = {"received_at": at("12:00")}
    late = candidate("s-payments", "P1", 1, 0.1, at("09:10"), explanation="another thought")
    unmapped = {
        "finding_id": "u1", "rule": "unmapped_name", "verdict": "violation", "reason": "unknown", "occurred_at":
        at("10:00"), "region": "eu-west-1", "environment": "production", "service": "shop", "severity": "warning",
        "evidence": {"environment": "production"},
    }  # fmt: skip
    for kind, value in (
        (RecordType.DEPLOYMENT_EVENT, event("started", at("10:01"), deployment_id="A", producer_id="runner-1",
                                            producer_seq=3, reporter="dtk_1", deployer="zoe", **of_monday)),
        (RecordType.DEPLOYMENT_EVENT, event("started", at("09:01"), deployment_id="P1", service="payments",
                                            reporter="dtk_9", **of_monday)),
        (RecordType.APPROVAL, approval("approved", at("10:55"), deployment_id="B", change_ticket="CHG2",
                                       approver="gus", reporter="dtk_3", **of_monday)),
        (RecordType.OBSERVATION, observation(at("20:30"), service="night-cron", version="0.2", **of_monday)),
        (RecordType.SIGNAL, signal("alert_firing", at("09:20"), signal_id="s-more", fingerprint="f1", title="Errors",
                                   incident_id="INC1", **of_monday)),
        (RecordType.RECORD, record("inferred", "succeeded", at("08:00"), at("08:01"), provenance="inferred",
                                   version="9.9")),
        (RecordType.RECORD, record("P1", "failed", at("09:00"), at("09:06"), service="payments", revision=2,
                                   version="7.0.1", change_ticket="CHG-new")),
        (RecordType.RECORD, record("PR", "succeeded", at("09:30"), at("09:35"), service="payments", kind="rollback",
                                   rollback_of="P1")),
        (RecordType.FINDING, late),
        (RecordType.FINDING, unmapped),
    ):  # fmt: skip
        trail.store(kind, [value], written=written)
    trail.apply("service", "shop", 3, "2026-11-02T01:00:00Z", {"team": "bazaar"}, written)
    trail.apply("approval", "cab", 1, "2026-01-01T00:00:00Z", {"holders": {"cab": ["una"]}}, written)
    trail.apply("environment", "qa", 1, "2026-01-01T00:00:00Z", {"production": True}, written)


@pytest.mark.requirement("M5.6", "M6.3", "M7.6")
def test_as_of_an_instant_each_is_the_same_to_the_byte_though_late_events_have_come(
    clickhouse: str, tmp_path: Path
) -> None:
    trail = Trail(clickhouse)
    play(trail)
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
    asked = Reports(env, tmp_path, trail)
    then = ("--as-of", "2026-11-10T00:00:00Z", "--format", "html")
    every = SAME[:3]
    before = {words[0]: (asked.text(*words, *then), asked.text(*words)) for words in every}
    _late(trail, written=at("09:00", 12))
    after = {words[0]: (asked.text(*words, *then), asked.text(*words)) for words in every}
    nothing = asked.text("timeline", "INC1", "--as-of", "2026-11-01T00:00:00Z", code=78)
    trail.close()

    assert "2026-11-10T00:00:00.000" in before["coverage"][0]
    assert [name for name, (as_of, _) in after.items() if as_of != before[name][0]] == []
    assert [name for name, (_, now) in after.items() if now == before[name][1]] == []
    assert "nothing is known of the incident 'INC1'" in nothing


@pytest.mark.parametrize("words", SAME, ids=lambda words: words[0])
def test_each_is_the_same_to_the_byte_when_repeated(words: tuple[str, ...], reports: Reports) -> None:
    assert reports.text(*words, "--format", "html") == reports.text(*words, "--format", "html")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no browser here that prints PDF")
@pytest.mark.timeout(600)
def test_a_browser_makes_a_pdf(reports: Reports) -> None:
    reports.text("timeline", "INC1", "--format", "pdf", "--output", "inc.pdf")

    assert (reports.folder / "inc.pdf").read_bytes().startswith(b"%PDF-")


def test_what_cannot_be_told_is_said(reports: Reports) -> None:
    assert "nothing is known of the incident 'INC-404'" in reports.text("timeline", "INC-404", code=78)
    assert "needs --output" in reports.text("timeline", "INC1", "--format", "pdf", code=64)
