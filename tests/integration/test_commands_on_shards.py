"""Purge and rehydration where regions lie on two engines."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.archive.segment import Record, Segment, salted, write_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.purge import purge, purge_again
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import run
from support.values import SECOND, event

EU, US = "eu-west-1", "us-east-1"
DAY = 86_400 * SECOND
FIRST = 1_789_300_800_000_000  # 2026-09-13T12:00:00Z


@pytest.fixture(scope="module")
def american(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a second engine."""
    with ClickHouseProcess(tmp_path_factory.mktemp("american")) as server:
        yield server.url


@pytest.fixture
def env(clickhouse: str, american: str) -> dict[str, str]:
    return {
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{US}={american}",
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"shards_{uuid.uuid4().hex[:8]}",
    }


@pytest.fixture
def clients(clickhouse: str, american: str, env: dict[str, str]) -> tuple[Client, Client]:
    """Both shards, with their tables."""
    pair = (connect(Settings(clickhouse_url=clickhouse)), connect(Settings(clickhouse_url=american)))
    for client in pair:
        migrate(client, env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"])
    return pair


def environments(client: Client, database: str) -> list[tuple[str, int]]:
    rows = client.query(f"SELECT environment, count() FROM {database}.deployment_events GROUP BY 1 ORDER BY 1")
    return [(str(row[0]), int(row[1])) for row in rows.result_rows]


@pytest.mark.requirement("M7.2", "M8.1")
def test_a_purge_reaches_every_shard_and_spares_what_a_policy_of_the_first_one_calls_production(
    env: dict[str, str], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    database, now = env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"], datetime.now(UTC)
    policy = [0, 0, now, "environment", "blue", 1, now, '{"production": true}']  # policies are on the first shard
    names = ["kafka_partition", "kafka_offset", "kafka_timestamp", "kind", "name", "version", "effective_from", "spec"]
    clients[0].insert(f"{database}.policies", [policy], names)
    columns = ["kafka_partition", "kafka_offset", "kafka_timestamp", "deployment_id", "environment", "corrected_at"]
    for shard, client in enumerate(clients):
        places = [(place, days) for place in ("production", "blue", "qa") for days in (10, 400)]
        rows = [[shard, i, now, "d", place, now - timedelta(days=days)] for i, (place, days) in enumerate(places)]
        client.insert(f"{database}.deployment_events", rows, columns)
    purging = env | {"DEPLOYTRAIL_PURGE_AFTER_DAYS": "30"}
    dry = run("purge", "--dry-run", env=purging, cwd=tmp_path)
    unchanged = [environments(client, database) for client in clients]
    found = run("purge", env=purging, cwd=tmp_path)
    receipts = json.loads(found.stdout) if found.returncode == 0 else found.stderr
    kept = [
        client.query(f"SELECT production_untouched, receipt FROM {database}.purges").result_rows for client in clients
    ]

    assert dry.returncode == 0, dry.stderr
    assert unchanged == [[("blue", 2), ("production", 2), ("qa", 2)]] * 2
    assert [environments(client, database) for client in clients] == [[("blue", 2), ("production", 2), ("qa", 1)]] * 2
    assert [receipt["shard"] for receipt in receipts] == [0, 1]
    assert [receipt["tables"][0]["by_environment"] for receipt in receipts] == [{"qa": 1}] * 2
    assert all(receipt["production_untouched"] for receipt in receipts)
    assert [(rows[0][0], json.loads(rows[0][1])["purge_id"]) for rows in kept] == [
        (True, receipt["purge_id"]) for receipt in receipts
    ]


@pytest.mark.requirement("M7.2", "M8.1")
def test_what_one_shard_purged_does_not_come_back_on_another_that_has_the_region_now(
    env: dict[str, str], clients: tuple[Client, Client]
) -> None:
    database, now = env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"], datetime.now(UTC)
    replayed = f"{database}_replayed"
    columns = ["kafka_partition", "kafka_offset", "kafka_timestamp", "deployment_id", "environment", "corrected_at"]
    # The last one came after the purge, about a time before it.
    rows = [[5, offset, now, "d", "qa", now - timedelta(days=400)] for offset in range(3)]
    for client in clients:
        migrate(client, replayed)
    clients[0].insert(f"{database}.deployment_events", rows[:2], columns)
    purge(clients, database, now=now, after=timedelta(days=30))
    clients[1].insert(f"{replayed}.deployment_events", rows, columns)
    purge_again(clients, database, replayed)

    left = clients[1].query(f"SELECT kafka_offset FROM {replayed}.deployment_events").result_rows
    assert left == [(2,)]


def archived(folder: Path, values: list[dict[str, Any]]) -> str:
    """An archive of one segment with these events, in their order."""
    records = tuple(
        salted(Record(offset, value["received_at"] // 1000, 1, b"k", encode(RecordType.DEPLOYMENT_EVENT, value), ()))
        for offset, value in enumerate(values)
    )
    segment = Segment("deploytrail.events", 9, "production", 0, len(records) - 1, "", records)
    LocalFolder(folder).create(segment.name, write_segment(segment), "2100-01-01T00:00:00Z")
    return f"file:{folder}"


@pytest.mark.requirement("M7.1", "M8.1")
def test_what_comes_back_from_the_archive_comes_and_goes_on_every_shard(
    env: dict[str, str], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    values = [event("started", FIRST, deployment_id=region, region=region) for region in (EU, US)]
    bring = ("rehydrate", "--from", "2026-09-13", "--to", "2026-09-14")
    env |= {"DEPLOYTRAIL_ARCHIVE": archived(tmp_path / "archive", values)}

    def there() -> list[list[str]]:
        query = f"SELECT deployment_id FROM {env['DEPLOYTRAIL_CLICKHOUSE_DATABASE']}.all_deployment_events"
        return [[str(row[0]) for row in client.query(query).result_rows] for client in clients]

    brought = run(*bring, env=env, cwd=tmp_path)
    first = there()
    forgotten = run("rehydrate", "--forget", env=env, cwd=tmp_path)
    none = there()
    again = run(*bring, env=env, cwd=tmp_path)
    second = there()

    assert [r.returncode for r in (brought, forgotten, again)] == [0, 0, 0], brought.stderr + again.stderr
    assert first == second == [[EU], [US]]
    assert none == [[], []]
    assert again.stdout.startswith("2 rows")


@pytest.mark.requirement("M7.1", "M8.3")
def test_days_are_brought_back_by_the_time_that_the_tiers_go_by_whatever_was_brought_back_before(
    env: dict[str, str], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    """The second one's clock ran a year behind; of the first day, the first and the last message are wanted."""
    values = [
        event("started", FIRST, deployment_id="first"),
        event("started", FIRST + DAY - 365 * DAY, deployment_id="slow clock", corrected_at=FIRST + DAY),
        event("started", FIRST + SECOND, deployment_id="first, too"),
    ]
    env |= {"DEPLOYTRAIL_ARCHIVE": archived(tmp_path / "archive", values)}

    def brought(first: str, behind: str) -> list[str]:
        done = run("rehydrate", "--from", first, "--to", behind, env=env, cwd=tmp_path)
        view = f"{env['DEPLOYTRAIL_CLICKHOUSE_DATABASE']}.all_deployment_events"
        query = f"SELECT deployment_id FROM {view} ORDER BY kafka_offset"
        assert done.returncode == 0, done.stderr
        return [str(row[0]) for row in clients[0].query(query).result_rows]

    day = date(2026, 9, 13)
    by_wrong_clock = brought(f"{day + timedelta(days=1 - 365)}", f"{day + timedelta(days=2 - 365)}")
    one_day = brought("2026-09-13", "2026-09-14")
    two_days = brought("2026-09-13", "2026-09-15")

    assert by_wrong_clock == []
    assert one_day == ["first", "first, too"]
    assert two_days == ["first", "slow clock", "first, too"]


def test_a_purge_refuses_a_cluster_and_replicas_that_it_would_leave_as_they_are(tmp_path: Path) -> None:
    nowhere = {"DEPLOYTRAIL_CLICKHOUSE_URL": "http://127.0.0.1:1"}
    cluster = run("purge", env=nowhere | {"DEPLOYTRAIL_CLICKHOUSE_CLUSTER": "c"}, cwd=tmp_path)
    two = {"DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{EU}=http://127.0.0.1:1,http://127.0.0.1:2"}
    replicas = run("purge", env=nowhere | two, cwd=tmp_path)

    assert (cluster.returncode, replicas.returncode) == (78, 78)
    assert "cannot delete from the tables of a cluster" in cluster.stderr
    assert "one URL a shard" in replicas.stderr
