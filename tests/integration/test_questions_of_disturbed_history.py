"""Questions answered from the tables by place and time give what they gave from the whole history; and as of a time
they give what they give where nothing has been told since."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from benchmarks.history import load
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.migrate import migrate, migrations
from deploytrail_sinks.clickhouse.writer import connect

BY_PLACE = 220  # the first migration that keeps tables by place and time
FEWEST_ROWS = 232  # the first one whose questions look at the newest first, and only then whether it holds
EVENTS = int(os.environ.get("DEPLOYTRAIL_TEST_HISTORY_EVENTS", "8000"))
SEEDS = range(int(os.environ.get("DEPLOYTRAIL_TEST_HISTORY_SEEDS", "1")))
SERVICES = int(os.environ.get("DEPLOYTRAIL_TEST_HISTORY_SERVICES", "25"))  # asked one by one, of some hundreds
TABLES = ("policies", "deployment_events", "deployment_revisions", "findings", "signals", "observations", "approvals")
MONTH = "since = '2025-09-01 00:00:00', until = '2025-10-01 00:00:00'"
NOW = "as_of = '2026-12-01 00:00:00', environment = 'production'"
EARLY = "2025-09-20 00:00:00"
EARLIER = f"as_of = '{EARLY}', environment = 'production'"
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
AS_OF = [
    *("counted_deployments", "dora", "change_failures", "deployment_risk"),
    *("deployment_frequency", "incident_causes"),
]
OF_FEW_ROWS = [
    *("newest_deployments", "what_runs", "drift", "deployment_parts", "cohorts"),
    f"effective_deployments(at = '{EARLY}')",
    *(f"parts_known(as_of = '{as_of}')" for as_of in (EARLY, "2026-12-01 00:00:00")),
    *(f"change_failures({MONTH}, {as_of}, excluded_kinds = [])" for as_of in (NOW, EARLIER)),
    *(f"dora({MONTH}, {as_of}, excluded_kinds = [])" for as_of in (NOW, EARLIER)),
]
KNOWN_BY = {"deployment_revisions": "recorded_at", "findings": "kafka_timestamp", "policies": "kafka_timestamp"}


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    """What all that is random in a history follows from."""
    return int(request.param)


@pytest.fixture(scope="module")
def databases(seed: int, clickhouse: str) -> Iterator[tuple[Client, str, dict[str, str]]]:
    """The same disturbed history as it was answered from before; as it is now; and as it is after an upgrade."""
    client, rng = connect(Settings(clickhouse_url=clickhouse)), random.Random(seed)
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
    in_region: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        in_region.setdefault(row["region"], []).append(row)
    told = []
    for number, row in enumerate(rng.sample(rows, len(rows) // 3)):
        ended = row["finished_at"] or row["recorded_at"]
        other = rng.choice(rows)
        near = rng.choice(in_region[row["region"]])
        later = ended + timedelta(minutes=rng.randint(1, 100_000))
        change: dict[str, Any] = rng.choice(
            [
                {"state": "rolled_back", "finished_at": later, "rolled_back_by": other["deployment_id"]},
                {"state": "succeeded", "finished_at": later},
                {"state": "succeeded", "finished_at": other["finished_at"]} | rng.choice(places),
                {"superseded_by": other["deployment_id"]},
                {"state": "voided"},
                {"merged_into": near["deployment_id"]},
                {"part_of": near["deployment_id"]},
                {"part_of": near["deployment_id"], "service": near["service"]},
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
    # Those that end together: the smallest id counts. None that is a part: the reference lets no link be taken back.
    parts = {row["deployment_id"] for row in (*rows, *told) if row["part_of"]}
    whole = [row for row in rows if row["deployment_id"] not in parts]
    told += [
        row | {"revision": 9, "state": "succeeded", "finished_at": datetime(2026, 10, 30, tzinfo=UTC)}
        | {"environment": "production", "service": "svc-0001", "kafka_offset": 2_100_000_000 + i}
        for i, row in enumerate(rng.sample(whole, 20))
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
    before = client.query(f"SELECT * FROM {reference}.{question}")
    now = client.query(f"SELECT {', '.join(before.column_names) or '*'} FROM {others[filled]}.{question}")

    assert sorted(map(repr, now.result_rows)) == sorted(map(repr, before.result_rows))
    assert now.result_rows or "WHERE" in question or "changed_before" in question


@pytest.fixture(scope="module")
def told(seed: int, databases: tuple[Client, str, dict[str, str]]) -> Iterator[tuple[Client, str, str]]:
    """A history with much that came late, and another one that ends before it came."""
    client, source, _ = databases
    late, then = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("late", "then"))
    for database in (late, then):
        migrate(client, database)
    for table in TABLES:
        client.command(f"INSERT INTO {late}.{table} SELECT * FROM {source}.{table}")
    come_late(client, late, random.Random(seed))
    for table in TABLES:
        known = f"{KNOWN_BY.get(table, 'received_at')} <= '{EARLY}'"
        client.command(f"INSERT INTO {then}.{table} SELECT * FROM {late}.{table} WHERE {known}")
    yield client, late, then
    for name in (late, then):
        client.command(f"DROP DATABASE {name} SYNC")


def come_late(client: Client, database: str, rng: random.Random) -> None:
    """Of deployments of the month, late by days: links to a whole and away from it, events with another commit, alerts
    and what may have caused them."""
    asked = f"SELECT * FROM {database}.current_deployments FINAL WHERE environment = 'production' AND started_at"
    found = client.query(f"{asked} >= '2025-09-01' AND started_at < '2025-10-01' ORDER BY kafka_offset")
    columns, offset = list(found.column_names), 2_130_000_000
    rows = [dict(zip(columns, map(_in_utc, row), strict=True)) for row in found.result_rows]
    revisions = []
    for row in rng.sample(rows, len(rows) // 2):
        near = rng.choice([other["deployment_id"] for other in rows if other["region"] == row["region"]])
        when = row["recorded_at"]
        for part_of in rng.choice([[near], [near, ""], [near, "", near]]):
            when, offset = when + timedelta(days=rng.randint(1, 12)), offset + 1
            row = row | {"revision": row["revision"] + 1, "part_of": part_of, "recorded_at": when}
            revisions.append(row | {"kafka_offset": offset})
    client.insert(f"{database}.deployment_revisions", [[row[c] for c in columns] for row in revisions], columns)
    signals, findings = [], []
    for row in [row for row in rng.sample(rows, len(rows) // 2) for _ in range(rng.choice([1, 1, 3]))]:
        at, name, place = row["started_at"] + timedelta(minutes=5), f"late-{offset}", [row["region"], row["service"]]
        received, offset = at + timedelta(days=rng.choice([0, rng.randint(1, 20)])), offset + 3
        signals.append([offset, name, "alert_firing", *place, "production", "critical", name, at, received])
        for step, (days, probability) in enumerate([(0, 0.2), (rng.randint(1, 20), 0.8)]):
            said = received + timedelta(days=days)
            findings.append([offset + step, said, f"{name}-{step}", "incident_correlation", *place, "production",
                             "critical", at, row["deployment_id"], name, 1, probability])  # fmt: skip
    names = (
        "kafka_offset signal_id signal_type region service environment severity fingerprint corrected_at received_at"
    )
    client.insert(f"{database}.signals", signals, names.split())
    names = (
        "kafka_offset kafka_timestamp finding_id rule region service environment severity occurred_at deployment_id "
        "signal_id rank probability"
    )
    client.insert(f"{database}.findings", findings, names.split())
    client.command(
        f"INSERT INTO {database}.deployment_events SELECT * REPLACE (kafka_offset + 2000000000 AS kafka_offset, "
        "concat(event_id, '-late') AS event_id, hex(cityHash64(event_id)) AS commit_sha, "
        "map('committed_at', formatDateTime(corrected_at - INTERVAL 3 DAY, '%Y-%m-%dT%H:%i:%SZ')) AS tags, "
        "received_at + toIntervalDay(cityHash64(event_id, 1) % 30) AS received_at) "
        f"FROM {database}.deployment_events WHERE event_type = 'started' AND corrected_at >= '2025-08-25'"
    )


@pytest.mark.requirement("M6.4")
@pytest.mark.parametrize("question", AS_OF)
def test_as_of_a_time_a_question_has_the_answer_that_it_had_then(told: tuple[Client, str, str], question: str) -> None:
    client, late, then = told
    more = {"incident_causes": "", "deployment_frequency": ", excluded_kinds = [], zone = 'UTC'"}
    rest = more.get(question, ", excluded_kinds = []")
    early, since = (
        [client.query(f"SELECT * FROM {database}.{question}({MONTH}, {as_of}{rest})").result_rows for as_of in times]
        for database, times in ((then, [EARLIER, NOW]), (late, [EARLIER, NOW]))
    )

    # As of then: alike, also as seen from then; what came since is seen.
    assert _rounded(early[0]) == _rounded(early[1]) == _rounded(since[0]) != _rounded(since[1])
    assert early[0]


def _rounded(rows: Iterable[Sequence[Any]]) -> list[str]:
    """In any order, as earlier views gave lists, too; sums of fractions differ in the last digit by theirs."""

    def alike(value: Any) -> Any:
        if isinstance(value, list):
            return sorted(value)
        return round(value, 9) if isinstance(value, float) else value

    return sorted(repr([alike(value) for value in row]) for row in rows)


@pytest.fixture(scope="module")
def shaken(seed: int, told: tuple[Client, str, str]) -> Iterator[tuple[Client, str, str]]:
    """A history with much that came late, links that were taken back and rows that a purge took: as its questions were
    answered before, and as they are now."""
    client, late, _ = told
    before, now = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("rows", "fewer"))
    client.command(f"CREATE DATABASE {before}")
    _apply(client, before, until=FEWEST_ROWS)
    migrate(client, now)
    for database in (before, now):
        for table in TABLES:
            for part in range(2):  # what no merge has put together yet
                chosen = f"WHERE cityHash64(kafka_partition, kafka_offset, 'again') % 2 = {part}"
                client.command(f"INSERT INTO {database}.{table} SELECT * FROM {late}.{table} {chosen}")
    shake(client, late, (before, now), random.Random(seed))
    hashed = "reinterpretAsUInt128(sipHash128(region, deployment_id))"
    for database in (before, now):
        for table in ("deployment_revisions", "current_deployments", "placed_deployments", "part_history"):
            gone = f"ALTER TABLE {database}.{table} DELETE WHERE {hashed} % 50 = 0"
            client.command(gone, settings={"mutations_sync": 2})
        gone = f"ALTER TABLE {database}.deployment_heads DELETE WHERE id % 50 = 0"
        client.command(gone, settings={"mutations_sync": 2})
    yield client, before, now
    for name in (before, now):
        client.command(f"DROP DATABASE {name} SYNC")


def shake(client: Client, source: str, into: Sequence[str], rng: random.Random) -> None:
    """Of the newest success of many places: undone, void, amended, moved, a part of another, and no part any more."""
    asked = f"SELECT * FROM {source}.current_deployments FINAL WHERE state = 'succeeded' AND finished_at IS NOT NULL"
    found = client.query(f"{asked} ORDER BY finished_at DESC, deployment_id LIMIT 3 BY service, environment, region")
    columns, offset = list(found.column_names), 2_141_000_000
    rows = [dict(zip(columns, map(_in_utc, row), strict=True)) for row in found.result_rows]
    told = []
    for row in rng.sample(rows, len(rows) // 2):
        near = rng.choice([other for other in rows if other["region"] == row["region"]])
        whole = {"part_of": near["deployment_id"]}
        later = row["finished_at"] + timedelta(minutes=rng.randint(1, 500_000))
        undone = {"state": "rolled_back", "finished_at": later}
        steps: list[dict[str, Any]] = rng.choice(
            [
                [{"state": "voided"}],
                [undone],
                [undone, {"state": "succeeded", "finished_at": row["finished_at"]}],
                [undone | {"service": near["service"]}],
                [{"finished_at": near["finished_at"]}],
                [{"finished_at": later}, {"state": "failed"}],
                [{"state": "running", "finished_at": None}],
                [{"version": "", "artifact_digest": ""}],
                [{"service": near["service"], "environment": near["environment"]}],
                [whole],
                [whole | {"service": near["service"]}],
                [whole | {"service": near["service"]}, {"part_of": ""}],
                [whole, {"part_of": ""}, whole],
                [{"merged_into": near["deployment_id"]}],
                [{"commit_sha": "amended"}],
            ]
        )
        for step in steps:
            offset, said = offset + 1, row["recorded_at"] + timedelta(minutes=rng.randint(1, 10_000))
            row = row | {"revision": row["revision"] + 1, "kafka_offset": offset, "recorded_at": said} | step
            told.append(row)
    rng.shuffle(told)  # a replay of several partitions brings them in any order
    for database in into:
        client.insert(f"{database}.deployment_revisions", [[row[c] for c in columns] for row in told], columns)


@pytest.mark.requirement("M1.4", "M3.4", "M6.4")
@pytest.mark.parametrize("question", OF_FEW_ROWS)
def test_a_question_that_reads_fewer_rows_says_the_same(shaken: tuple[Client, str, str], question: str) -> None:
    client, before, now = shaken
    reference = client.query(f"SELECT * FROM {before}.{question}")
    found = client.query(f"SELECT {', '.join(reference.column_names)} FROM {now}.{question}")

    assert _rounded(found.result_rows) == _rounded(reference.result_rows)
    assert found.result_rows


@pytest.mark.requirement("M6.4")
def test_the_alerts_that_a_change_explains_have_one_order(shaken: tuple[Client, str, str]) -> None:
    client, _, database = shaken
    asked = f"SELECT signals FROM {database}.change_failures({MONTH}, {NOW}, excluded_kinds = [])"
    several = [row[0] for row in client.query(asked).result_rows if len(row[0]) > 1]

    assert several
    assert several == [sorted(signals) for signals in several]


@pytest.mark.requirement("M1.4", "M8.1")
def test_what_runs_of_one_service_is_what_is_said_of_it_among_all(seed: int, shaken: tuple[Client, str, str]) -> None:
    client, _, database = shaken
    every: dict[str, list[str]] = {}
    for service, *row in client.query(f"SELECT service, * FROM {database}.what_runs").result_rows:
        every.setdefault(service, []).append(repr(tuple(row)))
    asked = (
        f"SELECT DISTINCT service FROM {database}.deployment_revisions WHERE kafka_offset > 2141000000 ORDER BY service"
    )
    shaken_ones = [row[0] for row in client.query(asked).result_rows]
    rng = random.Random(seed)
    chosen = ["svc-0001", "unheard-of", *rng.sample(shaken_ones, min(SERVICES, len(shaken_ones)))]
    found = {}
    for service in chosen:
        answer = client.query(f"SELECT * FROM {database}.what_runs_of(service = '{service}')")
        found[service] = [repr(row) for row in answer.result_rows]

    assert {service: sorted(rows) for service, rows in found.items()} == {
        service: sorted(every.get(service, [])) for service in chosen
    }
    assert found["svc-0001"]
    assert not found["unheard-of"]
