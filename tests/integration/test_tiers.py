"""Rows move from the hot volume to the cold one, then out; what left comes back from the archive; one view has all."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.archive.segment import Record, Segment, salted, write_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.clickhouse.batches import Range, Row
from deploytrail_sinks.clickhouse.migrate import migrate_as_set
from deploytrail_sinks.clickhouse.tiers import tier_statements
from deploytrail_sinks.clickhouse.writer import Writer, connect
from support.clickhouse import ClickHouseProcess
from support.commands import run
from support.kafka import wait_for
from support.values import event

# As deploy/clickhouse/storage.xml, with a folder for the S3 disk.
STORAGE = """<clickhouse><storage_configuration>
<disks><deploytrail_cold><type>local</type><path>{cold}/</path></deploytrail_cold></disks>
<policies><deploytrail><volumes>
<default><disk>default</disk></default><cold><disk>deploytrail_cold</disk></cold>
</volumes></deploytrail></policies>
</storage_configuration></clickhouse>"""
AGES = (1, 40, 400)  # days: hot, cold, gone


def trail(days: int, offset: int) -> Row:
    at = datetime.now(UTC) - timedelta(days=days)
    micros = int(at.timestamp() * 1_000_000)
    value = encode(RecordType.DEPLOYMENT_EVENT, event("started", micros, deployment_id=f"{days} days ago"))
    return Row("deploytrail.events", 1, offset, micros // 1000, b"k", value, ())


def ids(client: Client, source: str) -> list[str]:
    return [row[0] for row in client.query(f"SELECT deployment_id FROM {source} ORDER BY kafka_offset").result_rows]


@pytest.mark.requirement("M7.1")
def test_rows_move_by_age_and_one_view_reaches_every_tier(tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    cold.mkdir()
    (tmp_path / "config.xml").write_text(STORAGE.format(cold=cold))
    rows = [trail(days, offset) for offset, days in enumerate(AGES)]
    env = {"DEPLOYTRAIL_CLICKHOUSE_CONFIG": str(tmp_path / "config.xml")}
    with ClickHouseProcess(tmp_path, env) as server:
        settings = Settings(
            clickhouse_url=server.url,
            clickhouse_hot_days=30,
            clickhouse_cold_days=365,
            clickhouse_storage_policy="deploytrail",
            archive=f"file:{tmp_path}/archive",
        )
        migrate_as_set(settings)
        client = connect(settings)
        again = tier_statements(client, settings)
        for row in rows:  # a part each
            Writer(settings).insert(Range(row.topic, 1, (row,)), RecordType.DEPLOYMENT_EVENT, 1, [row])
        client.command("OPTIMIZE TABLE deploytrail.deployment_events FINAL")
        disks = (
            "SELECT disk_name, sum(rows) FROM system.parts WHERE active AND database = 'deploytrail' "
            "AND table = 'deployment_events' GROUP BY 1 ORDER BY 1"
        )
        wait_for(
            lambda: "400 days ago" not in ids(client, "deploytrail.deployment_events"), what="the end of the oldest"
        )
        store = LocalFolder(tmp_path / "archive")
        records = tuple(salted(Record(r.offset, r.timestamp, 1, r.key, r.value, r.headers)) for r in rows)
        segment = Segment("deploytrail.events", 1, "production", 0, 2, "", records)
        store.create(segment.name, write_segment(segment), "2100-01-01T00:00:00Z")
        before = ids(client, "deploytrail.all_deployment_events")
        day = (datetime.now(UTC) - timedelta(days=400)).date()
        command = ["rehydrate", "--from", f"{day}", "--to", f"{day + timedelta(days=1)}"]
        called = {
            "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
            "DEPLOYTRAIL_ARCHIVE": settings.archive,
        }
        results = [run(*command, env=called, cwd=tmp_path) for _ in range(2)]
        everything = [*command[:2], "2000-01-01", "--to", "2100-01-01"]
        after = ids(client, "deploytrail.all_deployment_events")
        whole = run(*everything, env=called, cwd=tmp_path)
        all_of_them = ids(client, "deploytrail.all_deployment_events")
        gone = run("rehydrate", "--forget", env=called, cwd=tmp_path)

        assert again == []
        assert before == ["1 days ago", "40 days ago"]
        assert [(r.returncode, r.stdout.split(" row")[0]) for r in results] == [(0, "1"), (0, "1")], results[0].stderr
        assert after == all_of_them == ["1 days ago", "40 days ago", "400 days ago"]
        assert whole.returncode == gone.returncode == 0
        assert ids(client, "deploytrail.all_deployment_events") == before
        assert client.query(disks).result_rows


@pytest.mark.requirement("M7.1")
def test_a_part_whose_rows_are_old_lies_on_the_cold_volume(tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    cold.mkdir()
    (tmp_path / "config.xml").write_text(STORAGE.format(cold=cold))
    with ClickHouseProcess(tmp_path, {"DEPLOYTRAIL_CLICKHOUSE_CONFIG": str(tmp_path / "config.xml")}) as server:
        settings = Settings(clickhouse_url=server.url, clickhouse_hot_days=30, clickhouse_storage_policy="deploytrail")
        migrate_as_set(settings)
        client = connect(settings)
        for offset, days in enumerate((1, 40)):
            row = trail(days, offset)
            Writer(settings).insert(Range(row.topic, 1, (row,)), RecordType.DEPLOYMENT_EVENT, 1, [row])
        disks = (
            "SELECT disk_name, sum(rows) FROM system.parts WHERE active AND database = 'deploytrail' "
            "AND table = 'deployment_events' GROUP BY 1 ORDER BY 1"
        )
        wait_for(
            lambda: client.query(disks).result_rows == [("default", 1), ("deploytrail_cold", 1)], what="one row on each"
        )

        assert any(cold.rglob("*.bin"))


def test_tables_keep_everything_unless_told(clickhouse: str) -> None:
    settings = Settings(clickhouse_url=clickhouse, clickhouse_database=f"tiers_{uuid.uuid4().hex[:8]}")
    migrate_as_set(settings)
    client = connect(settings)
    kept = tier_statements(client, settings)
    told = replace(settings, clickhouse_hot_days=30, clickhouse_cold_days=365)

    assert kept == []
    assert tier_statements(client, told)[0].endswith(
        ".deployment_events MODIFY TTL corrected_at + toIntervalDay(395) DELETE"
    )


@pytest.mark.requirement("M7.1", "M5.2")
def test_a_report_of_a_time_before_the_tiers_says_that_it_is_incomplete(clickhouse: str, tmp_path: Path) -> None:
    settings = Settings(
        clickhouse_url=clickhouse,
        clickhouse_database=f"tiers_{uuid.uuid4().hex[:8]}",
        clickhouse_hot_days=30,
        clickhouse_cold_days=365,
    )
    migrate_as_set(settings)
    env = {
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": settings.clickhouse_database,
    }
    then, now = (f"{datetime.now(UTC) - timedelta(days=days):%Y-%m}" for days in (430, 0))

    def reported(*words: str) -> tuple[bool, bool]:
        """Whether the report says so, and whether standard error does."""
        done = run("report", *words, "--environment", "production", env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said = "begins before what the tables keep, 395 days"
        return said in done.stdout, said in done.stderr and "archive restore" in done.stderr

    audits = [
        reported("audit", "--without", "kafka", "--without", "archive", "--month", month) for month in (then, now)
    ]

    assert audits == [(True, True), (False, False)]
    assert [reported("coverage", "--month", month) for month in (then, now)] == [(True, True), (False, False)]
