"""A rebuild of tables that a time to live has emptied, behind a Kafka that has lost the messages, too."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.codec import encode
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.keeping import filled
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.tables import TABLES
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run, running
from support.kafka import end_offsets, make_topics, wait_for, write
from support.values import MINUTE, NOON, event, observation, record

PARTITION = 5
QUESTIONS = (
    "SELECT service, version, deployment_id, since, seen_versions, agreement FROM {db}.what_runs ORDER BY ALL",
    "SELECT deployment_id, revision, state, version FROM {db}.deployments ORDER BY ALL",
    "SELECT service, version, deployment_id FROM {db}.version_at(at = '2026-11-03 00:00:00') ORDER BY ALL",
    "SELECT service, key, value, deployment_id FROM {db}.config_at(at = '2026-11-03 00:00:00') ORDER BY ALL",
    "SELECT ordinal, value, deployment_id, changed_at FROM {db}.who_changed(key = 'pool_size') ORDER BY ALL",
    "SELECT deployment_id, root_deployment_id FROM {db}.deployment_parts ORDER BY ALL",
    "SELECT deployment_id FROM {db}.begun_deployments(since = '2026-11-01 00:00:00', until = '2026-12-01 00:00:00') "
    "ORDER BY ALL",
)  # fmt: skip


@pytest.fixture
def env(own_kafka: str, clickhouse: str) -> dict[str, str]:
    make_topics(own_kafka)
    lose(own_kafka)  # what another test left
    return {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"tiers_{uuid.uuid4().hex[:8]}",
    }


def deployed(name: str, service: str, at: int, **fields: Any) -> list[tuple[int, bytes, bytes]]:
    """Two revisions of a deployment that took effect a minute later, as messages."""
    said = {"deployment_id": name, "service": service, "started_at": at, "last_event_at": at} | fields
    ended = said | {"revision": 2, "finished_at": at + MINUTE}
    values = [record("running", at, **said), record("succeeded", at + MINUTE, **ended)]
    return [(PARTITION, b"k", encode(RecordType.RECORD, value)) for value in values]


def set_a_key(name: str, service: str, at: int, value: str) -> tuple[int, bytes, bytes]:
    changed = event("started", at, deployment_id=name, service=service, config_changes={"pool_size": value})
    return PARTITION, b"k", encode(RecordType.DEPLOYMENT_EVENT, changed)


def seen(service: str, at: int, version: str) -> tuple[int, bytes, bytes]:
    value = observation(at, service=service, version=version, instance=f"{service}-1")
    return PARTITION, b"k", encode(RecordType.OBSERVATION, value)


def store(env: dict[str, str], client: Client, folder: Path) -> None:
    """Let a sink store all that is on the topics."""
    database = env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]
    tables = {Topic.EVENTS: ("deployment_events", "observations"), Topic.RECORDS: ("deployment_revisions",)}
    ends = {topic: end_offsets(env["DEPLOYTRAIL_KAFKA"], topic)[PARTITION] for topic in tables}

    def stored() -> bool:
        for topic, names in tables.items():
            every = [client.query(f"SELECT max(kafka_offset) FROM {database}.{name}").result_rows for name in names]
            if max(rows[0][0] for rows in every) + 1 < ends[topic]:
                return False
        return True

    with running("sink", "clickhouse", env=env, cwd=folder) as sink:
        wait_for(stored, what="all that was sent")
        assert sink.stop() == 0


def lose(bootstrap: str) -> None:
    """Delete from Kafka all that it holds, as its retention does."""
    admin = AdminClient(client_config(Settings(kafka=bootstrap)))
    ends = {topic: end_offsets(bootstrap, topic)[PARTITION] for topic in (Topic.EVENTS, Topic.RECORDS)}
    places = [TopicPartition(topic.value, PARTITION, end) for topic, end in ends.items()]
    for deleted in admin.delete_records(places).values():
        deleted.result(30)


def answers(client: Client, database: str) -> list[list[tuple[Any, ...]]]:
    return [list(client.query(question.format(db=database)).result_rows) for question in QUESTIONS]


@pytest.mark.requirement("M3.4", "M7.1")
@pytest.mark.timeout(900)
def test_what_only_the_tables_of_views_still_have_outlives_a_rebuild(
    env: dict[str, str], clickhouse: str, tmp_path: Path
) -> None:
    """What runs was deployed before Kafka's oldest message, and its rows were taken by their time to live."""
    client, database = connect(Settings(clickhouse_url=clickhouse)), env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]
    old = deployed("old", "shop", NOON, version="1.0") + deployed("part", "search", NOON, version="2.0", part_of="old")
    write(env["DEPLOYTRAIL_KAFKA"], Topic.RECORDS, old)
    write(env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, [set_a_key("old", "shop", NOON, "10"), seen("shop", NOON, "1.0")])
    store(env, client, tmp_path)
    lose(env["DEPLOYTRAIL_KAFKA"])
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {database}.{table.name}")
    later = NOON + 60 * MINUTE
    write(env["DEPLOYTRAIL_KAFKA"], Topic.RECORDS, deployed("new", "payments", later, version="3.0"))
    write(
        env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, [set_a_key("new", "payments", later, "20"), seen("pay", later, "3.0")]
    )
    store(env, client, tmp_path)
    before = answers(client, database)
    plain = run("rebuild", env=env, cwd=tmp_path, seconds=240)
    after = answers(client, database)
    client.command(f"TRUNCATE TABLE {database}.deployment_heads")  # what Kafka has brings its own back
    accepted = run("rebuild", "--accept", env=env, cwd=tmp_path, seconds=240)
    healed = answers(client, database)

    assert ("shop", "1.0", "old") in {row[:3] for row in before[0]}
    assert [row for row in before[4] if row[2] == "old"]
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "DIFFERS" not in plain.stdout
    assert after == before
    assert accepted.returncode == 0, accepted.stderr
    assert [row for row in healed[1] if row[0] in ("old", "part", "new")] == before[1]
    assert [row[:3] for row in healed[0] if row[0] == "payments"] == [("payments", "3.0", "new")]


@pytest.mark.requirement("M3.4", "M7.1")
@pytest.mark.timeout(900)
def test_a_rebuild_does_not_mind_that_kafka_keeps_longer_than_the_tables(
    env: dict[str, str], clickhouse: str, tmp_path: Path
) -> None:
    """Kafka goes by when a message came, a time to live by when it happened: a history that is brought in is older."""
    client, database = connect(Settings(clickhouse_url=clickhouse)), env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]
    kept = {"DEPLOYTRAIL_CLICKHOUSE_HOT_DAYS": "30", "DEPLOYTRAIL_CLICKHOUSE_COLD_DAYS": "365"}
    migrated = run("migrate", env=env | kept, cwd=tmp_path)
    now = datetime.now(UTC)
    ages = {"ancient": 500, "recent": 20}
    for name, days in ages.items():
        at = int((now - timedelta(days=days)).timestamp() * 1_000_000)
        write(env["DEPLOYTRAIL_KAFKA"], Topic.RECORDS, deployed(name, name, at, version="1"))
        write(env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, [set_a_key(name, name, at, "1"), seen(name, at, "1")])
    store(env, client, tmp_path)

    def named(table: str, column: str = "service") -> set[str]:
        rows = client.query(f"SELECT DISTINCT {column} FROM {database}.{table}").result_rows
        return {str(row[0]) for row in rows} & set(ages)

    def expired() -> bool:
        for table in ("deployment_events", "deployment_revisions", "observations"):
            client.command(f"OPTIMIZE TABLE {database}.{table} FINAL")
        tables = ("deployment_events", "deployment_revisions", "observations")
        return all(named(table) == {"recent"} for table in tables)

    wait_for(expired, what="the end of the old rows")
    policies = "SELECT engine_full FROM system.tables WHERE database = {d:String} AND name = 'deployment_revisions'"
    tier = client.query(policies, parameters={"d": database}).result_rows
    rebuilt = run("rebuild", env=env, cwd=tmp_path, seconds=240)  # whose settings know of no tiers
    still = client.query(policies, parameters={"d": database}).result_rows

    assert migrated.returncode == 0, migrated.stderr
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert "DIFFERS" not in rebuilt.stdout
    assert still == tier and "toIntervalDay(395)" in tier[0][0]
    assert named("what_runs") == set(ages)
    wait_for(expired, what="the end of the old rows that were replayed")


def test_every_table_that_views_fill_says_which_message_its_rows_are_of(clickhouse: str) -> None:
    """Or a rebuild could not tell what Kafka has lost."""
    client, database = connect(Settings(clickhouse_url=clickhouse)), f"fed_{uuid.uuid4().hex[:8]}"
    migrate(client, database)
    found = filled(client, database)
    placed = client.query(
        "SELECT table, uniqExact(name) FROM system.columns WHERE database = {d:String} "
        "AND name IN ('kafka_partition', 'kafka_offset') GROUP BY table",
        parameters={"d": database},
    ).result_rows
    views = client.query(
        "SELECT count() FROM system.tables WHERE database = {d:String} AND engine = 'MaterializedView'",
        parameters={"d": database},
    ).result_rows[0][0]

    assert views > 0 and {"newest_placed", "config_values", "current_deployments"} < set(found)
    assert {table for table, count in placed if count == 2} >= set(found)
    assert all(topics for topics in found.values())
    assert found["newest_placed"] == {Topic.RECORDS}
    assert found["newest_observations"] == {Topic.EVENTS}
