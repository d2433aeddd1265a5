"""kill -9 under load: nothing lost, nothing twice, and it comes back by itself."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.bench_kill import Load
from deploytrail_schemas.codec import decode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.archive.verify import verify
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import Command, run
from support.kafka import empty, end_offsets, make_topics, read_topic, wait_for

RATE = 100  # events a second, some hundreds between two kills
FAST = {"DEPLOYTRAIL_KAFKA_CLIENT": "session.timeout.ms=6000;heartbeat.interval.ms=1000"}


@pytest.fixture
def kafka(own_kafka: str) -> str:
    """A broker with the load of one test alone on its topics."""
    empty(own_kafka)
    return own_kafka


def kill_repeatedly(words: tuple[str, ...], env: dict[str, str], folder: Path, load: Load, times: int) -> Command:
    """Kill a command at random moments of a load, and leave a fresh one running."""
    rng = random.Random(5)
    command = Command(*words, env=env, cwd=folder).wait_ready()
    load.start()
    for _ in range(times):
        time.sleep(rng.uniform(0.3, 2.0))
        command.kill()
        command = Command(*words, env=env, cwd=folder)
        command.wait_ready()
    time.sleep(1)
    load.stop()
    return command


@pytest.mark.timeout(600)
@pytest.mark.requirement("M8.4")
def test_a_killed_intake_worker_loses_no_event(kafka: str, tmp_path: Path) -> None:
    make_topics(kafka)
    env = {"DEPLOYTRAIL_KAFKA": kafka, "DEPLOYTRAIL_STATE": str(tmp_path / "state")}
    load = Load(kafka, rate=RATE)
    command = kill_repeatedly(("processor", "intake"), env, tmp_path, load, times=3)

    def trail() -> list[tuple[str, bytes]]:
        decoded = ((m.value() or b"", decode(m.value())) for m in read_topic(kafka, Topic.EVENTS))
        return [(v["event_id"], data) for data, (kind, v) in decoded if kind is RecordType.DEPLOYMENT_EVENT]

    try:
        wait_for(lambda: len({i for i, _ in trail()}) >= load.sent, seconds=150, what="every event")
        assert command.stop() == 0
    finally:
        command.kill()
    found = trail()

    assert len({event_id for event_id, _ in found}) == load.sent
    # Delivered twice across a crash, an event has the same content: it was corrected once.
    assert len(set(found)) == load.sent


# The suite kills a few times; DEPLOYTRAIL_TEST_KILLS=50 is the whole promise, some five minutes.
SINK_KILLS = int(os.environ.get("DEPLOYTRAIL_TEST_KILLS", "5"))


@pytest.mark.timeout(400 + 20 * SINK_KILLS)
@pytest.mark.requirement("M8.4")
def test_a_killed_clickhouse_sink_loses_and_doubles_no_row(kafka: str, clickhouse: str, tmp_path: Path) -> None:
    make_topics(kafka)
    database = "killed_sink"
    env = FAST | {
        "DEPLOYTRAIL_KAFKA": kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
    }
    load = Load(kafka, Topic.EVENTS, rate=RATE)
    before = end_offsets(kafka, Topic.EVENTS)
    command = kill_repeatedly(("sink", "clickhouse"), env, tmp_path, load, times=SINK_KILLS)
    kinds = Counter(decode(m.value())[0] for m in read_topic(kafka, Topic.EVENTS))
    assert sum(end_offsets(kafka, Topic.EVENTS).values()) - sum(before.values()) == load.sent
    client = connect(Settings.load({"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse}))
    question = f"SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {database}.deployment_events"
    expected = kinds[RecordType.DEPLOYMENT_EVENT]
    try:
        wait_for(lambda: client.query(question).result_rows[0][1] >= expected, what="every row")
        assert command.stop() == 0
    finally:
        command.kill()

    assert client.query(question).result_rows == [(expected, expected)]


@pytest.mark.timeout(600)
@pytest.mark.requirement("M5.1")
def test_a_killed_archive_sink_loses_and_doubles_no_record(kafka: str, tmp_path: Path) -> None:
    make_topics(kafka)
    env = FAST | {
        "DEPLOYTRAIL_KAFKA": kafka,
        "DEPLOYTRAIL_ARCHIVE": f"file:{tmp_path}/archive",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_RECORDS": "100",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.5",
    }
    load = Load(kafka, Topic.EVENTS, rate=RATE)
    command = kill_repeatedly(("sink", "archive"), env, tmp_path, load, times=5)
    held = {(m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value()) for m in read_topic(kafka, Topic.EVENTS)}
    store = LocalFolder(tmp_path / "archive")

    def archived() -> list[tuple[object, ...]]:
        segments = (read_segment(store.read(name)) for name in store.list(Topic.EVENTS.value))
        return [(s.partition, r.offset, r.timestamp, r.key, r.value) for s in segments for r in s.records]

    try:
        wait_for(lambda: len(archived()) >= len(held), what="every record")
        assert command.stop() == 0
    finally:
        command.kill()

    assert len(archived()) == len(held)
    assert set(archived()) == held
    assert verify(store).flaws == []
    assert run("archive", "verify", env=env, cwd=tmp_path).returncode == 0
