"""Questions answered from the tables by place and time give what they gave from the whole history."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from benchmarks.history import load
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.migrate import migrate, migrations
from deploytrail_sinks.clickhouse.writer import connect

BY_PLACE = 220  # the first migration that keeps tables by place and time
EVENTS = int(os.environ.get("DEPLOYTRAIL_TEST_HISTORY_EVENTS", "8000"))
SEEDS = range(int(os.environ.get("DEPLOYTRAIL_TEST_HISTORY_SEEDS", "1")))
TABLES = ("policies", "deployment_events", "deployment_revisions", "findings", "signals", "observations", "approvals")
MONTH = "since = '2025-09-01 00:00:00', until = '2025-10-01 00:00:00'"
NOW = "as_of = '2026-12-01 00:00:00', environment = 'production'"
EARLIER = "as_of = '2025-09-20 00:00:00', environment = 'production'"
QUESTIONS = [
    "what_runs",
    "drift",
    "active_deployments",
    "deployment_parts",
    *(f"version_at(at = '{at}')" for at in ("2025-02-01 10:00:00", "2025-09-30 12:00:00", "2299-12-30 00:00:00")),
    *(f"config_at(at = '{at}')" for at in ("2025-02-01 10:00:00", "2299-12-30 00:00:00")),
    "effective_deployments(at = '2025-09-30 12:00:00')",
    "version_at(at = '2025-09-30 12:00:00') WHERE service = 'svc-0001'",
    "config_at(at = '2025-09-30 12:00:00') WHERE service = 'svc-0001'",
    "who_changed(key = 'pool_size')",
    "who_changed(key = 'pool_size') WHERE service = 'svc-0001'",
    *(
        f"changed_before(service = 'svc-{number:04}', region = 'eu-west-1', environment = 'production', "
        "at = '2025-09-30 12:00:00', minutes = 30000)"
        for number in (0, 1, 7)
    ),
    *(f"counted_deployments({MONTH}, {as_of}, excluded_kinds = [])" for as_of in (NOW, EARLIER)),
    *(f"dora({MONTH}, {as_of}, excluded_kinds = ['configuration_change'])" for as_of in (NOW, EARLIER)),
    f"deployment_risk({MONTH}, {NOW}, excluded_kinds = [])",
    f"coverage({MONTH})",
    f"broken_ticket_links({MONTH}, environment = 'production')",
]


@pytest.fixture(scope="module", params=SEEDS)
def databases(request: pytest.FixtureRequest, clickhouse: str) -> Iterator[tuple[Client, str, dict[str, str]]]:
    """The same disturbed history as it was answered from before; as it is now; and as it is after an upgrade."""
    client, rng = connect(Settings(clickhouse_url=clickhouse)), random.Random(request.param)
    before, now, upgraded = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("before", "now", "upgraded"))
    for database in (before, upgraded):
        client.command(f"CREATE DATABASE {database}")
        _apply(client, database, until=BY_PLACE)
    load(client.command, before, EVENTS)
    disturb(client, before, rng)
    migrate(client, now)
    for database in (now, upgraded):
        for table in TABLES:
            for part in range(3):  # what no merge has put together yet
                chosen = f"WHERE cityHash64(kafka_partition, kafka_offset) % 3 = {part} ORDER BY rand()"
                client.command(f"INSERT INTO {database}.{table} SELECT * FROM {before}.{table} {chosen}")
    # Of two revisions of one number the one that came last counts, also where the upgrade reads them.
    again = _said_again(client, before, rng)
    for database in (before, now, upgraded):
        client.insert(f"{database}.deployment_revisions", *again)
    for _ in ("upgrade", "the same again, as after a kill"):
        _apply(client, upgraded, since=BY_PLACE)
    yield client, before, {"now": now, "upgraded": upgraded}
    for name in (before, now, upgraded):
        client.command(f"DROP DATABASE {name} SYNC")


def _apply(client: Client, database: str, since: int = 0, until: int = 10_000) -> None:
    for migration in migrations():
        if since <= migration.number < until:
            for statement in migration.statements(database):
                client.command(statement.text)


def _said_again(client: Client, database: str, rng: random.Random) -> tuple[list[list[Any]], list[str]]:
    """Newest revisions under their own number, with another state: the state of the processor was lost."""
    newest = f"SELECT * FROM {database}.current_deployments FINAL WHERE state = 'succeeded' ORDER BY kafka_offset"
    found = client.query(newest)
    columns = list(found.column_names)
    rows = [dict(zip(columns, map(_in_utc, row), strict=True)) for row in found.result_rows]
    told = [
        row | {"state": "voided", "kafka_offset": 2_140_000_000 + number}
        for number, row in enumerate(rng.sample(rows, len(rows) // 10))
    ]
    return [[row[column] for column in columns] for row in told], columns


def disturb(client: Client, database: str, rng: random.Random) -> None:
    """Tell more of some deployments: undone, moved, ended at another time, other names, parts, void, ties."""
    found = client.query(
        f"SELECT * FROM {database}.current_deployments FINAL ORDER BY kafka_offset LIMIT {EVENTS // 4}"
    )
    columns = list(found.column_names)
    rows = [dict(zip(columns, map(_in_utc, row), strict=True)) for row in found.result_rows]
    places = [{k: row[k] for k in ("environment", "service")} for row in rows]
    told = []
    for number, row in enumerate(rng.sample(rows, len(rows) // 3)):
        ended = row["finished_at"] or row["recorded_at"]
        other = rng.choice(rows)
        later = ended + timedelta(minutes=rng.randint(1, 100_000))
        change: dict[str, Any] = rng.choice(
            [
                {"state": "rolled_back", "finished_at": later, "rolled_back_by": other["deployment_id"]},
                {"state": "succeeded", "finished_at": later},
                {"state": "succeeded", "finished_at": other["finished_at"]} | rng.choice(places),
                {"superseded_by": other["deployment_id"]},
                {"state": "voided"},
                {"merged_into": other["deployment_id"]},
                {"part_of": other["deployment_id"]},
                {"part_of": other["deployment_id"], "service": other["service"]},
                {"version": "", "artifact_digest": ""},
                {"state": "running", "finished_at": None},
                rng.choice(places),
            ]
        )
        for step in range(rng.choice([1, 1, 2])):
            row = row | {"revision": row["revision"] + 1, "kafka_offset": 2_000_000_000 + 10 * number + step}
            row = row | {"recorded_at": min(later, datetime(2026, 11, 1, tzinfo=UTC))}
            told.append(row | change)
            change |= rng.choice([{}, {"state": "succeeded", "finished_at": ended}])
    # Those that end together: the smallest id counts.
    told += [
        row | {"revision": 9, "state": "succeeded", "finished_at": datetime(2026, 10, 30, tzinfo=UTC)}
        | {"environment": "production", "service": "svc-0001", "kafka_offset": 2_100_000_000 + i}
        for i, row in enumerate(rng.sample(rows, 20))
    ]  # fmt: skip
    client.insert(f"{database}.deployment_revisions", [[row[c] for c in columns] for row in told], columns)


def _in_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


@pytest.mark.requirement("M1.4", "M3.4")
@pytest.mark.parametrize("filled", ["now", "upgraded"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_the_answer_that_the_whole_history_gives(
    databases: tuple[Client, str, dict[str, str]], question: str, filled: str
) -> None:
    client, reference, others = databases
    before, now = (client.query(f"SELECT * FROM {database}.{question}") for database in (reference, others[filled]))

    assert before.column_names == now.column_names
    assert sorted(map(repr, now.result_rows)) == sorted(map(repr, before.result_rows))
    assert now.result_rows or "WHERE" in question or "changed_before" in question
