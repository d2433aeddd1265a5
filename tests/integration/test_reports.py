"""The audit report over a real Kafka, the real engine and an archive."""

from __future__ import annotations

import csv
import io
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.reports.audit import audit
from deploytrail_sinks.reports.period import Period, month
from deploytrail_sinks.reports.trail import Trail
from support.commands import run, running
from support.kafka import make_topics, wait_for, write
from support.values import MINUTE, NOON, approval, event

DAY = 24 * 60 * MINUTE


@dataclass(frozen=True)
class Stores:
    """A Kafka, a ClickHouse and an archive that hold the same."""

    env: dict[str, str]
    folder: Path

    def report(self, *words: str, code: int = 0) -> str:
        done = run("report", "audit", "--month", "2026-11", *words, env=self.env, cwd=self.folder)
        assert done.returncode == code, done.stderr
        return done.stdout

    def tables(self, *words: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report("--format", "json", *words, code=code))
        return found

    def put(self, topic: Topic, kind: RecordType, *values: dict[str, Any]) -> None:
        write(self.env["DEPLOYTRAIL_KAFKA"], topic, [(1, b"k", encode(kind, value)) for value in values])


def record(name: str, at: int = NOON, revision: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "deployment_id": name, "revision": revision, "state": "succeeded", "recorded_at": at, "region": "eu-west-1",
        "environment": "production", "service": "shop", "started_at": at, "finished_at": at + MINUTE,
        "deployer": "dora", "change_ticket": "CHG-1", "artifact_digest": "sha256:aa", "kind": "release",
        "sources": ["library"],
    } | fields  # fmt: skip


@pytest.fixture(scope="module")
def stores(own_kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("reports")
    make_topics(own_kafka)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"reports_{uuid.uuid4().hex[:8]}",
        "DEPLOYTRAIL_ARCHIVE": f"file:{folder / 'archive'}",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "1",
    }
    found = Stores(env, folder)
    found.put(
        Topic.RECORDS,
        RecordType.RECORD,
        *(record(f"shop-{n}", NOON + n * MINUTE, state="running", finished_at=None) for n in range(700)),
        *(record(f"shop-{n}", NOON + n * MINUTE, 2) for n in range(700)),
        record("webhook-1", state="merged", merged_into="shop-1"),
        record("october", NOON - 5 * DAY),
        record("staged", environment="staging"),
        # amended: it was never in production
        record("moved", state="running", finished_at=None),
        record("moved", revision=2, environment="staging"),
        record("foreign", deployer="=cmd()|x", change_ticket=""),
    )
    found.put(
        Topic.EVENTS,
        RecordType.DEPLOYMENT_EVENT,
        event("started", deployment_id="webhook-1", permit_id="p-1", tags={"commit_authors": "cy"}),
    )
    found.put(
        Topic.EVENTS,
        RecordType.APPROVAL,
        approval("approved", NOON - MINUTE, deployment_id="", change_ticket="CHG-1", approver="ada", service=""),
    )
    finding = {
        "rule": "change_window", "occurred_at": NOON, "region": "eu-west-1", "environment": "production",
        "service": "shop", "deployment_id": "shop-2", "severity": "error",
    }  # fmt: skip
    found.put(
        Topic.FINDINGS,
        RecordType.FINDING,
        finding | {"finding_id": "f1", "verdict": "violation", "reason": "outside_allowed_windows"},
        finding | {"finding_id": "f2", "verdict": "ok", "reason": "inside_allowed_window", "supersedes": "f1"},
        finding
        | {"finding_id": "f3", "deployment_id": "shop-3", "verdict": "violation", "reason": "inside_denied_window"},
    )
    with running("sink", "clickhouse", env=env, cwd=folder), running("sink", "archive", env=env, cwd=folder):
        wait_for(lambda: _is_whole(found), what="the same in every store")
        yield found


def _is_whole(stores: Stores) -> bool:
    done = run("report", "audit", "--month", "2026-11", env=stores.env, cwd=stores.folder)
    return done.returncode == 0 and "| Kafka | 701 |" in done.stdout


@pytest.mark.requirement("M5.2")
def test_every_production_deployment_is_a_row_and_all_stores_agree(stores: Stores) -> None:
    found = stores.tables()
    population = {row["source"]: row for row in found["tables"]["population"]}
    listed = [row["deployment"] for row in found["tables"]["deployments"]]

    assert found["facts"]["Population"] == "reconciles: ClickHouse, Kafka, archive"
    assert len(listed) == len(set(listed)) == 701
    assert set(listed) == {f"shop-{n}" for n in range(700)} | {"foreign"}
    assert list(population) == ["report", "ClickHouse", "Kafka", "archive"]
    assert {row["digest"] for row in population.values()} == {population["Kafka"]["digest"]}
    assert {row["deployments"] for row in population.values()} == {"701"}


@pytest.mark.requirement("M5.2")
def test_exceptions_are_what_stands_and_what_is_missing(stores: Stores) -> None:
    found = stores.tables()["tables"]
    exceptions = sorted((row["exception"], row["deployment"]) for row in found["exceptions"])
    (one,) = [row for row in found["deployments"] if row["deployment"] == "shop-1"]

    assert exceptions == [
        ("inside_denied_window", "shop-3"),
        ("no_approval", "foreign"),
        ("no_change_ticket", "foreign"),
    ]
    assert (one["approvers"], one["authors"], one["permit"], one["window"]) == ("ada", "cy", "p-1", "not judged")


@pytest.mark.requirement("M5.2")
@pytest.mark.parametrize("form", ["markdown", "html", "csv", "json"])
def test_it_is_the_same_to_the_byte_when_repeated(form: str, stores: Stores) -> None:
    first = stores.report("--format", form)

    assert first == stores.report("--format", form)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(first)))
        assert {row["deployer"] for row in rows} == {"dora", "'=cmd()|x"}


@pytest.mark.requirement("M5.2")
def test_what_only_one_of_report_and_independent_population_counts_is_named(stores: Stores) -> None:
    listed = [f"shop-{n}" for n in range(700) if n != 7]
    (stores.folder / "ci.csv").write_text("\n".join(["deployment_id", *listed, "ghost-9"]))
    found = stores.tables("--population", "ci.csv", code=1)
    (stores.folder / "whole.csv").write_text("\n".join(["deployment_id", *listed, "shop-7", "foreign"]))
    whole = stores.tables("--population", "whole.csv", "--without", "kafka", "--without", "archive")

    assert found["facts"]["Population"] == "does not reconcile: 3 differences"
    assert [tuple(row.values()) for row in found["tables"]["differences"]] == [
        ("independent population", "line 701: ghost-9", "is not on record"),
        ("independent population", "eu-west-1/foreign", "is not in it"),
        ("independent population", "eu-west-1/shop-7", "is not in it"),
    ]
    assert whole["facts"]["Population"] == "reconciles: ClickHouse, the independent population"


def test_a_month_without_data_is_told_in_the_report_and_on_standard_error(stores: Stores) -> None:
    words = ("--month", "2025-01", "--without", "kafka", "--without", "archive", "--format", "json")
    done = run("report", "audit", *words, env=stores.env, cwd=stores.folder)

    assert (done.returncode, done.stderr.count("no deployment of the period is on record")) == (0, 1)
    assert next(iter(json.loads(done.stdout)["facts"])) == "No data"


@pytest.mark.requirement("M5.2")
def test_what_comes_later_changes_nothing_as_of_before(stores: Stores) -> None:
    now = run("report", "audit", "--month", "2026-11", "--format", "json", env=stores.env, cwd=stores.folder)
    assert json.loads(now.stdout)["facts"]["Deployments"] == "701"
    as_of = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    before = stores.report("--as-of", as_of)
    time.sleep(0.01)
    stores.put(Topic.RECORDS, RecordType.RECORD, record("late", NOON + DAY), record("shop-1", NOON, 3, state="failed"))
    wait_for(lambda: stores.tables("--without", "archive")["facts"]["Deployments"] == "702", what="the late one")

    assert stores.report("--as-of", as_of) == before
    assert "failed 1" in stores.tables("--without", "archive")["facts"]["Outcomes"]


@pytest.mark.requirement("M5.2")
def test_what_kafka_no_longer_holds_is_no_difference(stores: Stores) -> None:
    """The last test that writes or deletes here: records before an offset are deleted, as retention does."""
    admin = AdminClient({"bootstrap.servers": stores.env["DEPLOYTRAIL_KAFKA"]})

    def kept_from(offset: int) -> None:
        for done in admin.delete_records([TopicPartition(Topic.RECORDS.value, 1, offset)]).values():
            done.result(30)

    words = ("report", "audit", "--month", "2026-11")
    wait_for(lambda: run(*words, env=stores.env, cwd=stores.folder).returncode == 0, what="the archive's last segment")
    before = {row["source"]: row for row in stores.tables()["tables"]["population"]}
    kept_from(1_000)
    partly = stores.tables()
    kept_from(OFFSET_END)
    whole = stores.tables()
    rows = [{row["source"]: row for row in found["tables"]["population"]} for found in (partly, whole)]

    count, aged = int(rows[0]["report"]["deployments"]), int(rows[0]["Kafka"]["aged out"])
    assert before["Kafka"]["aged out"] == ""
    assert 0 < aged < count == aged + int(rows[0]["Kafka"]["deployments"])
    said = f"reconciles: ClickHouse, Kafka (without {aged} that have aged out), archive"
    assert partly["facts"]["Population"] == said
    assert partly["tables"]["differences"] == []
    assert whole["facts"]["Population"] == "reconciles: ClickHouse, archive; not read: Kafka"
    assert rows[1]["Kafka"]["offsets of the records topic"] == ("holds nothing of the period any more: it has aged out")


@pytest.mark.requirement("M5.2")
def test_the_listing_is_compared_with_what_clickhouse_counts_by_itself(stores: Stores) -> None:
    settings = Settings.load(stores.env)
    trail = Trail([connect(settings)], settings.clickhouse_database)
    counted = trail.population(month("2026-11"), ["production"])
    listed = {d["deployment_id"] for block in trail.deployments(month("2026-11"), ["production"]) for d in block}

    assert {name for _, name in counted.deployments} == listed
    assert counted.source == "ClickHouse"

    class Forgetful(Trail):
        def deployments(self, period: Period, environments: Sequence[str]) -> Iterator[list[Any]]:
            for block in super().deployments(period, environments):
                yield [d for d in block if d["deployment_id"] != "shop-3"]

    report = audit(Forgetful([connect(settings)], settings.clickhouse_database), month("2026-11"), ["production"])
    assert dict(report.facts)["Population"] == "does not reconcile: 1 difference"
    assert list(report.table("differences").rows) == [
        ("ClickHouse", "eu-west-1/shop-3", "the report does not hold it, ClickHouse has revision 2")
    ]


@pytest.mark.requirement("M5.2")
def test_what_is_wrong_with_the_question_is_said(stores: Stores) -> None:
    wrong = run("report", "audit", "--month", "2026-13", env=stores.env, cwd=stores.folder)
    table = run("report", "audit", "--month", "2026-11", "--table", "no", env=stores.env, cwd=stores.folder)
    away = stores.env | {"DEPLOYTRAIL_CLICKHOUSE_URL": "http://127.0.0.1:1"}
    gone = run("report", "audit", "--month", "2026-11", env=away, cwd=stores.folder)

    assert (wrong.returncode, table.returncode, gone.returncode) == (64, 64, 69)
    assert "expected one such as 2026-10" in wrong.stderr
    assert "there are population" in table.stderr
    assert "Traceback" not in gone.stderr
