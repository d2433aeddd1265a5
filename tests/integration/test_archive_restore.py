"""The drill: ClickHouse is lost, Kafka has forgotten, and the archive fills the tables again with equal content."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.clickhouse.content import content
from deploytrail_sinks.clickhouse.sink import TOPICS
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run, running
from support.kafka import end_offsets, make_topics, wait_for, write
from support.values import NOON, SECOND, approval, event, observation, record, signal

EVENTS = 400
# Rows of each kind, poison and repeats among them; the tables that follow from these are compared, too.
FILLED = {
    "deployment_events": EVENTS,
    "signals": 1,
    "approvals": 40,
    "observations": 40,
    "deployment_revisions": 180,
    "findings": 60,
    "dead_letters": 1,
    "policies": 2,
}
NOT_OF_RECORDS = ("schema_migrations", "grants", "purges")


def contents(client: Client, database: str) -> dict[str, tuple[int, str]]:
    """Every table that holds anything, as a number of rows and a hash."""
    found = client.query(
        f"SELECT name, engine FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree' "
        f"AND name NOT IN {NOT_OF_RECORDS} AND total_rows > 0 ORDER BY name"
    ).result_rows
    return {
        name: content(client, f"{database}.{name}{'' if engine == 'MergeTree' else ' FINAL'}") for name, engine in found
    }


def counts(client: Client, database: str) -> dict[str, int]:
    return {t: client.query(f"SELECT count() FROM {database}.{t}").result_rows[0][0] for t in FILLED}


def history() -> dict[Topic, list[tuple[int, bytes | None, bytes | None]]]:
    """What the topics hold of every kind: partitions, keys and values."""
    environments = ("production", "qa")
    trail: list[tuple[int, bytes | None, bytes | None]] = [
        (1 + i % 3, b"k", encode(kind, value))
        for kind, values in {
            RecordType.DEPLOYMENT_EVENT: [
                event("started", NOON + i * SECOND, deployment_id=f"d{i}", environment=environments[i % 2])
                for i in range(EVENTS)
            ],
            RecordType.APPROVAL: [approval(at=NOON + i * SECOND, deployment_id=f"d{i}") for i in range(40)],
            RecordType.OBSERVATION: [observation(NOON + i * SECOND, instance=f"pod-{i}") for i in range(40)],
        }.items()
        for i, value in enumerate(values)
    ]
    trail += [(1, b"k", b"\xc3\x01nowriterx"), (2, b"k", encode(RecordType.SIGNAL, signal(at=NOON, value=None)))]
    revisions: list[tuple[int, bytes | None, bytes | None]] = [
        (
            1 + i % 3,
            b"k",
            encode(RecordType.RECORD, record(state, NOON + i * SECOND, deployment_id=f"d{i}", revision=n)),
        )
        for i in range(60)
        for n, state in ((1, "running"), (2, "succeeded"), (2, "succeeded"))
    ]
    findings: list[tuple[int, bytes | None, bytes | None]] = [
        (1 + i % 3, b"k", encode(RecordType.FINDING, {"finding_id": f"f{i}", "rule": "overdue", **FOUND}))
        for i in range(60)
    ]
    policies: list[tuple[int, bytes | None, bytes | None]] = [
        (0, f"service/shop/{n}".encode(), json.dumps(POLICY | {"version": n}).encode()) for n in (1, 2)
    ]
    return {Topic.EVENTS: trail, Topic.RECORDS: revisions, Topic.FINDINGS: findings, Topic.POLICIES: policies}


FOUND = {
    "rule_version": 1,
    "verdict": "violation",
    "reason": "overdue",
    "severity": "warning",
    "occurred_at": NOON,
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "explanation": "it ran for too long",
    "evidence": {"limit": "30 min"},
}
POLICY = {
    "kind": "service",
    "name": "shop",
    "effective_from": "2026-01-01T00:00:00Z",
    "spec": {"team": "retail"},
}


@pytest.mark.requirement("M7.1", "M5.5")
@pytest.mark.timeout(900)
def test_a_lost_clickhouse_is_filled_from_the_archive_with_equal_content(
    own_kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    lost, restored = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("lost", "restored"))
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": lost,
        "DEPLOYTRAIL_ARCHIVE": f"file:{tmp_path}/archive",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_RECORDS": "50",
    }
    store = LocalFolder(tmp_path / "archive")

    def archived() -> int:
        return sum(len(read_segment(store.read(n)).records) for n in store.list("") if "intake" not in n)

    client = connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))
    with (
        running("sink", "clickhouse", env=env, cwd=tmp_path) as one,
        running("sink", "archive", env=env, cwd=tmp_path) as two,
    ):
        for topic, messages in history().items():
            write(own_kafka, topic, messages)
        wait_for(lambda: counts(client, lost) == FILLED, what="the rows")
        ends = sum(sum(end_offsets(own_kafka, t).values()) for t in TOPICS)
        wait_for(lambda: archived() >= ends, what="the archive of them")
        assert one.stop() == two.stop() == 0
    before = contents(client, lost)
    assert set(FILLED) < set(before)  # and what follows from them
    client.command(f"DROP DATABASE {lost} SYNC")
    # There is no Kafka where this runs.
    env |= {"DEPLOYTRAIL_CLICKHOUSE_DATABASE": restored, "DEPLOYTRAIL_KAFKA": "127.0.0.1:1"}
    env |= {"DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS": "70"}
    done = run("archive", "restore", env=env, cwd=tmp_path, seconds=240)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{ends} messages" in done.stdout
    assert contents(client, restored) == before

    refused = run("archive", "restore", env=env, cwd=tmp_path, seconds=240)
    assert refused.returncode == 78 and "is not empty" in refused.stderr
    again = run("archive", "restore", "--continue", env=env, cwd=tmp_path, seconds=240)
    assert again.returncode == 0
    assert contents(client, restored) == before
