"""Tables dropped and replayed to the same content; non-production purged while production stays as it is."""

from __future__ import annotations

import itertools
import json
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.content import content
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.purge import DERIVED, TIMES, purge, purge_again
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import Command, run, running
from support.kafka import make_topics, wait_for, write
from support.values import NOON, SECOND, event, signal

EVENTS = 300
REPLACING = ("current_deployments", "policies")
FED = ("deployment_events", "signals", "deployment_revisions", "findings", "dead_letters", *REPLACING)


@pytest.fixture(scope="module")
def env(own_kafka: str, clickhouse: str) -> dict[str, str]:
    """A trail with every kind of row, poison and repeats, on a Kafka of its own."""
    make_topics(own_kafka)
    trail: list[tuple[int, bytes | None, bytes | None]] = []
    for i in range(EVENTS):
        at, environment = NOON + i * SECOND, ("production", "qa")[i % 2]
        deployed = event("started", at, deployment_id=f"d{i}", tags={"n": str(i)}, environment=environment)
        trail.append((1 + i % 3, b"k", encode(RecordType.DEPLOYMENT_EVENT, deployed)))
        if i % 50 == 0:
            trail.append((1, b"k", b"\xc3\x01nowriterx"))
            trail.append((2, b"k", encode(RecordType.SIGNAL, signal(at=at, value=None))))
    write(own_kafka, Topic.EVENTS, trail)
    records = [
        (1 + i % 3, b"k", encode(RecordType.RECORD, record(i, revision, ("production", "qa")[i % 2])))
        for i in range(60)
        for revision in (1, 2, 2)
    ]
    write(own_kafka, Topic.RECORDS, records)
    write(own_kafka, Topic.POLICIES, [(0, f"service/shop/{n}".encode(), policy(n)) for n in (1, 2)])
    return {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"rebuilt_{uuid.uuid4().hex[:8]}",
    }


def policy(version: int) -> bytes:
    since = f"2026-0{version}-01T00:00:00Z"
    return json.dumps(
        {"kind": "service", "name": "shop", "version": version, "effective_from": since, "spec": {"team": "retail"}}
    ).encode()


def record(number: int, revision: int, environment: str) -> dict[str, object]:
    return {
        "deployment_id": f"d{number}",
        "revision": revision,
        "state": ("", "running", "succeeded")[revision],
        "recorded_at": NOON + number * SECOND,
        "region": "eu-west-1",
        "environment": environment,
        "service": "shop",
        "version": f"1.{number}",
        "finished_at": NOON + number * SECOND if revision == 2 else None,
    }


@pytest.fixture(scope="module")
def client(env: dict[str, str]) -> Client:
    return connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))


@pytest.fixture
def filled(env: dict[str, str], client: Client, tmp_path: Path) -> Iterator[str]:
    """The name of the database, once the sink has stored everything and was stopped."""
    database = env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
        wait_for(lambda: counts(client, database)[:2] == [EVENTS, 180], what="the rows")
        wait_for(lambda: counts(client, database)[2:] == [6, 2], what="the dead letters and policies")
        assert sink.stop() == 0
    yield database


def counts(client: Client, database: str) -> list[int]:
    tables = ("deployment_events", "deployment_revisions", "dead_letters", "policies")
    return [client.query(f"SELECT count() FROM {database}.{table}").result_rows[0][0] for table in tables]


def contents(client: Client, database: str) -> dict[str, tuple[int, str]]:
    hidden = "* EXCEPT (kafka_partition, kafka_offset, kafka_timestamp)"
    return {
        table: content(client, f"{database}.{table}{' FINAL' if table in REPLACING else ''}",
                       hidden if table in REPLACING else "*")
        for table in FED
    }  # fmt: skip


@pytest.mark.requirement("M3.4")
@pytest.mark.timeout(900)
def test_tables_that_were_emptied_are_replayed_to_the_same_content(
    env: dict[str, str], filled: str, client: Client, tmp_path: Path
) -> None:
    before = contents(client, filled)
    client.command(f"TRUNCATE TABLE {filled}.deployment_events")
    for table in REPLACING:
        client.command(f"TRUNCATE TABLE {filled}.{table}")
    refused = run("rebuild", env=env, cwd=tmp_path, seconds=240)
    unchanged = client.query(f"SELECT count() FROM {filled}.deployment_events").result_rows
    rebuilt = run("rebuild", "--accept", env=env, cwd=tmp_path, seconds=240)
    again = run("rebuild", env=env, cwd=tmp_path, seconds=240)

    assert refused.returncode == 1, refused.stderr
    assert f"deployment_events: 0 rows, DIFFERS: the trail gives {EVENTS} rows" in refused.stdout.splitlines()
    assert f"signals: {before['signals'][0]} rows, identical" in refused.stdout.splitlines()
    assert unchanged == [(0,)]
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert contents(client, filled) == before
    assert again.returncode == 0 and "DIFFERS" not in again.stdout
    assert client.query(f"SELECT count() FROM system.databases WHERE name = '{filled}_rebuild'").result_rows == [(0,)]


@pytest.mark.requirement("M3.4")
@pytest.mark.timeout(900)
def test_a_rebuild_that_is_killed_leaves_the_tables_whole_and_another_one_ends(
    env: dict[str, str], filled: str, client: Client, tmp_path: Path
) -> None:
    before = contents(client, filled)
    rng = random.Random(9)
    for _ in range(4):
        client.command(f"DROP TABLE IF EXISTS {filled}.rebuild_lock SYNC")
        client.command(f"DROP TABLE IF EXISTS {filled}.swap_lock SYNC")
        command = Command("rebuild", "--accept", env=env, cwd=tmp_path)
        wait_for(lambda c=command: any("replaying" in line for line in c.lines) or c.process.poll() is not None,
                 what="its begin")  # type: ignore[misc]  # fmt: skip
        time.sleep(rng.uniform(0.0, 3.0))
        command.kill()

        assert contents(client, filled) == before
    client.command(f"DROP TABLE IF EXISTS {filled}.rebuild_lock SYNC")
    client.command(f"DROP TABLE IF EXISTS {filled}.swap_lock SYNC")
    last = run("rebuild", env=env, cwd=tmp_path, seconds=240)

    assert last.returncode == 0, last.stderr
    assert contents(client, filled) == before


@pytest.mark.timeout(900)
def test_a_sink_steps_aside_for_the_swap_and_nothing_is_lost_around_it(
    env: dict[str, str], filled: str, client: Client, tmp_path: Path
) -> None:
    def more(title: str) -> None:
        values = [(5, b"k", encode(RecordType.SIGNAL, signal(at=NOON + i, title=title))) for i in range(40)]
        write(env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, values)

    def stored(title: str) -> int:
        found = client.query(f"SELECT count() FROM {filled}.signals WHERE title = '{title}'").result_rows
        return int(found[0][0])

    with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
        more("before")
        wait_for(lambda: stored("before") == 40, what="rows of the sink")
        rebuild = Command("rebuild", env=env, cwd=tmp_path)
        wait_for(lambda: sink.process.poll() is not None, what="the sink's end")
        more("meanwhile")
        # As its supervisor would start it again at once.
        again = Command("sink", "clickhouse", env=env, cwd=tmp_path)
        try:
            code = rebuild.process.wait(240)
            again.wait_ready(240)
            wait_for(lambda: stored("meanwhile") == 40, what="rows of after the swap")
            assert again.stop() == 0
        finally:
            again.kill()

    assert code == 0, "".join(rebuild.lines)
    assert sink.process.returncode == 69
    assert any("a rebuild is about to swap tables" in line for line in sink.lines)
    assert (stored("before"), stored("meanwhile")) == (40, 40)


@pytest.mark.requirement("M7.2")
@pytest.mark.timeout(900)
def test_a_purge_takes_non_production_and_leaves_production_as_it_was(
    env: dict[str, str], filled: str, client: Client, tmp_path: Path
) -> None:
    production = f"SELECT * FROM {filled}.deployment_events WHERE environment = 'production' ORDER BY ALL"
    before = client.query(production).result_rows
    found = run("purge", env={**env, "DEPLOYTRAIL_PURGE_AFTER_DAYS": "7"}, cwd=tmp_path)
    receipt = json.loads(found.stdout) if found.returncode == 0 else found.stderr
    stored = client.query(f"SELECT production_untouched, receipt FROM {filled}.purges").result_rows

    # The trail's times lie at a fixed day, which is past or ahead by when this runs.
    old = datetime.fromtimestamp(NOON / SECOND, UTC) < datetime.now(UTC) - timedelta(days=7)
    assert client.query(production).result_rows == before
    assert [(row[0], json.loads(row[1])) for row in stored] == [(True, receipt)]
    assert receipt["environments"] == ["qa"]
    tables = {table["table"]: table for table in receipt["tables"]}
    assert tables["deployment_events"]["by_environment"] == ({"qa": EVENTS // 2} if old else {})
    assert tables["deployment_revisions"]["deleted"] == (90 if old else 0)
    assert all(t["kept_content_before"] == t["kept_content_after"] for t in tables.values())
    assert ["eu-west-1", "qa", "shop", "d1"] in receipt["deployments"] or not old
    rebuilt = run("rebuild", env=env, cwd=tmp_path, seconds=240)
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr  # a replay is purged again


@pytest.mark.requirement("M7.2")
def test_only_old_rows_of_named_other_environments_are_purged(client: Client) -> None:
    database = f"purged_{uuid.uuid4().hex[:8]}"
    migrate(client, database)
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    offset = itertools.count()
    names = ["production", "eu-prod", "qa", "pre-prod", "Staging", "", "unknown", "blue"]
    flag = ["environment", "blue", 1, now, '{"production": true}']
    policies = [[0, 0, now, *flag], [0, 1, now, "environment", "qa", 1, now, '{"production": false}']]
    client.insert(
        f"{database}.policies",
        policies,
        ["kafka_partition", "kafka_offset", "kafka_timestamp", "kind", "name", "version", "effective_from", "spec"],
    )
    places = [(name, now - timedelta(days=days)) for name in names for days in (10, 40)]
    rows = [[1, next(offset), now, "d", name, at] for name, at in places]
    columns = ["kafka_partition", "kafka_offset", "kafka_timestamp", "deployment_id", "environment", "corrected_at"]
    client.insert(f"{database}.deployment_events", rows, columns)
    [dry] = purge([client], database, now=now, after=timedelta(days=30), dry_run=True)
    untouched = client.query(f"SELECT count() FROM {database}.deployment_events").result_rows
    [purged] = purge([client], database, now=now, after=timedelta(days=30))
    left = client.query(
        f"SELECT environment, count() FROM {database}.deployment_events GROUP BY 1 ORDER BY 1"
    ).result_rows

    assert dry.environments == purged.environments == ["Staging", "pre-prod", "qa"]
    assert dry.tables[0].by_environment == purged.tables[0].by_environment == {"Staging": 1, "pre-prod": 1, "qa": 1}
    assert untouched == [(16,)]
    assert left == [
        ("", 2),
        ("Staging", 1),
        ("blue", 2),  # production by its policy
        ("eu-prod", 2),
        ("pre-prod", 1),
        ("production", 2),
        ("qa", 1),
        ("unknown", 2),
    ]
    assert purged.untouched
    assert purged.tables[0].kept_rows_before == 10
    with pytest.raises(ConfigurationError, match="a day at least"):
        purge([client], database, now=now, after=timedelta(hours=1))


@pytest.mark.requirement("M7.2", "M8.2")
def test_a_purge_reaches_the_federated_view_and_what_is_kept_for_questions(client: Client) -> None:
    database = f"purged_{uuid.uuid4().hex[:8]}"
    migrate(client, database)
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    days, offset = {"old": 40, "late": 39, "new": 10}, itertools.count()
    rows = []
    for environment in ("production", "qa"):
        for name, age in days.items():
            ended = now - timedelta(days=9) if name == "late" else now - timedelta(days=age)
            if (environment, name) != ("qa", "new"):
                told = now - timedelta(days=age)
                rows.append([1, next(offset), told, f"{environment}-{name}", 3, "succeeded", told, "eu", environment,
                             "shop", name, ended])  # fmt: skip
    columns = [
        *("kafka_partition", "kafka_offset", "kafka_timestamp", "deployment_id", "revision", "state", "recorded_at"),
        *("region", "environment", "service", "version", "finished_at"),
    ]
    # Of qa, what was told of 20 days ago ended before what was told of earlier: it comes forth again.
    told = now - timedelta(days=20)
    rows.append([1, next(offset), told, "qa-kept", 3, "succeeded", told, "eu", "qa", "shop", "kept", told])
    client.insert(f"{database}.deployment_revisions", rows, columns)
    client.command(f"OPTIMIZE TABLE {database}.newest_placed FINAL")
    regionless = [name for name in columns if name != "region"]
    federated = [[value for name, value in zip(columns, row, strict=True) if name != "region"] for row in rows]
    client.insert(f"{database}.federated_current", federated, regionless)

    def asked(question: str) -> list[tuple[str, ...]]:
        return sorted(client.query(question.format(db=database)).result_rows)

    runs = "SELECT environment, version FROM {db}.what_runs"
    before = asked(runs)
    [receipt] = purge([client], database, now=now, after=timedelta(days=30))

    assert before == [("production", "late"), ("qa", "late")]
    assert asked(runs) == [("production", "late"), ("qa", "kept")]
    assert asked("SELECT deployment_id FROM {db}.federated_deployments") == [
        ("production-late",),
        ("production-new",),
        ("production-old",),
        ("qa-kept",),
    ]
    for table in ("placed_deployments", "deployment_beginnings"):
        assert asked(f"SELECT deployment_id FROM {{db}}.{table} WHERE environment = 'qa'") == [("qa-kept",)]
    assert asked("SELECT count() FROM {db}.deployment_heads WHERE environment = 'qa'") == [(1,)]
    assert receipt.untouched
    assert {t.table: t.deleted for t in receipt.tables}["federated_current"] == 2


def numbered(environment: str, producer: str, seq: int, table: str, now: datetime, lost: int = 0) -> dict[str, object]:
    """A row with its number where its kind has it."""
    said = {"producer_seq": str(seq), **({"lost_events": str(lost)} if lost else {})}
    place = {"deployment_events": {"producer_seq": seq}, "signals": {"labels": said}}
    return {
        "kafka_partition": 1, "kafka_offset": seq, "kafka_timestamp": now - timedelta(days=40), "environment":
        environment, "corrected_at": now - timedelta(days=40), "received_at": now - timedelta(days=40),
        "producer_id": producer, **place.get(table, {"tags": said}),
    }  # fmt: skip


def put_numbers(client: Client, database: str, now: datetime) -> None:
    """Of runner-1 1 to 8 without 5, every other one of qa; of runner-2 1 and 4, which it tells of, both of qa."""
    for table, rows in {
        "deployment_events": [("qa", 1), ("production", 2), ("qa", 3), ("qa", 3)],
        "approvals": [("production", 4), ("qa", 6)],
        "observations": [("qa", 7)],
        "signals": [("production", 8)],
    }.items():
        values = [numbered(environment, "runner-1", seq, table, now) for environment, seq in rows]
        client.insert(f"{database}.{table}", [list(v.values()) for v in values], list(values[0]))
    for table, seq, lost in (("deployment_events", 1, 0), ("signals", 4, 2)):
        value = numbered("qa", "runner-2", seq, table, now, lost)
        client.insert(f"{database}.{table}", [list(value.values())], list(value))


@pytest.mark.requirement("M7.2", "M7.3")
def test_a_purge_makes_no_loss_and_hides_none(client: Client) -> None:
    database, now = f"purged_{uuid.uuid4().hex[:8]}", datetime(2026, 11, 2, 12, tzinfo=UTC)
    migrate(client, database)
    put_numbers(client, database, now)
    span = "since = '2026-09-01 00:00:00', until = '2026-11-01 00:00:00'"
    columns = "producer_id, first_seq, last_seq, arrived, missing, told_lost"

    def lost() -> list[tuple[object, ...]]:
        return list(client.query(f"SELECT {columns} FROM {database}.loss({span})").result_rows)

    def budget() -> int:
        asked = f"SELECT lost FROM {database}.tracker_slo({span}, limit_ms = 5000, objective = 0.9)"
        return int(client.query(asked).result_rows[0][0])

    before = lost(), budget()
    deleted = [sum(t.deleted for t in purge([client], database, now=now, after=timedelta(days=30))[0].tables)
               for _ in range(2)]  # fmt: skip

    assert before == ([("runner-2", 1, 4, 2, 2, 2), ("runner-1", 1, 8, 7, 1, 0)], 3)
    assert deleted == [7, 0]
    assert (lost(), budget()) == before


@pytest.mark.requirement("M7.2", "M7.3")
def test_a_replay_that_is_purged_again_brings_the_numbers_of_an_old_purge(client: Client) -> None:
    live, now = f"purged_{uuid.uuid4().hex[:8]}", datetime(2026, 11, 2, 12, tzinfo=UTC)
    replayed = f"{live}_replayed"
    for database in (live, replayed):
        migrate(client, database)
        put_numbers(client, database, now)
    purge([client], live, now=now, after=timedelta(days=30))
    kept = f"SELECT * FROM {live}.purged_numbers FINAL ORDER BY ALL"
    expected = client.query(kept).result_rows
    client.command(f"TRUNCATE TABLE {live}.purged_numbers")
    for _ in range(2):
        purge_again([client], live, replayed)

    assert len(expected) == 6
    assert client.query(kept).result_rows == expected
    assert client.query(f"SELECT count() FROM {replayed}.deployment_events").result_rows == [(1,)]


def test_every_table_that_names_an_environment_is_purged(client: Client) -> None:
    database = f"purged_{uuid.uuid4().hex[:8]}"
    migrate(client, database)
    found = client.query(
        "SELECT DISTINCT table FROM system.columns WHERE name = 'environment' AND database = {d:String} "
        "AND table IN (SELECT name FROM system.tables WHERE database = {d:String} AND engine LIKE '%MergeTree')",
        parameters={"d": database},
    ).result_rows
    # What was brought back from the archive is forgotten as a whole, by `deploytrail rehydrate --forget`.
    named = {str(row[0]) for row in found if not str(row[0]).endswith("_rehydrated")}

    assert named == set(TIMES) | set(DERIVED)
