"""The archive sink on a real Kafka: raw bytes come back equal, and damage is named."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from confluent_kafka import Producer
from deploytrail_schemas.codec import encode
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import Record, read_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.commands import run, running
from support.kafka import make_topics, read_topic, wait_for
from support.values import NOON, event

PARTITION = 10
MESSAGES: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (b"key", encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON)), [("twice", b"1"), ("twice", b"2")]),
    (None, encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, environment="staging")), [("none", None)]),
    (b"\xff\x00", b"no record at all", []),
    (b"tombstone", None, [("\u00fc", b"\xff")]),
]


@pytest.fixture
def env(own_kafka: str, tmp_path: Path) -> dict[str, str]:
    make_topics(own_kafka)
    return {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_ARCHIVE": f"file:{tmp_path}/archive",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
        "DEPLOYTRAIL_KAFKA_CLIENT": "session.timeout.ms=6000;heartbeat.interval.ms=1000",
    }


def produce(kafka: str, times: int = 1) -> None:
    producer = Producer(producer_config(Settings(kafka=kafka)))
    for _ in range(times):
        for key, value, headers in MESSAGES:
            producer.produce(Topic.EVENTS.value, value, key, partition=PARTITION, headers=headers)
        assert producer.flush(20) == 0


def archived(folder: Path) -> list[tuple[object, ...]]:
    store = LocalFolder(folder)
    names = list(store.list(f"{Topic.EVENTS.value}/{PARTITION:03}"))
    records: list[Record] = [r for name in names for r in read_segment(store.read(name)).records]
    return [r.content() for r in sorted(records, key=lambda r: r.offset)]


@pytest.mark.requirement("M5.1", "M5.5")
def test_raw_records_come_back_equal_and_damage_is_named(env: dict[str, str], own_kafka: str, tmp_path: Path) -> None:
    with running("sink", "archive", env=env, cwd=tmp_path) as sink:
        for round_number in (1, 2, 3):
            produce(own_kafka)
            wait_for(lambda n=round_number: len(archived(tmp_path / "archive")) == 4 * n, what="the records")  # type: ignore[misc]
        assert sink.stop() == 0
    messages = [m for m in read_topic(own_kafka, Topic.EVENTS) if m.partition() == PARTITION]

    assert archived(tmp_path / "archive") == [
        (m.offset(), m.timestamp()[1], m.timestamp()[0], m.key(), m.value(), tuple(m.headers() or ())) for m in messages
    ]
    whole = run("archive", "verify", env=env, cwd=tmp_path)
    assert (whole.returncode, "flaws" in whole.stdout) == (0, False), whole.stdout

    shown = run("archive", "cat", "--decode", f"{Topic.EVENTS.value}/{PARTITION:03}", env=env, cwd=tmp_path)
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(lines) == 12
    assert {line["decoded"]["environment"] for line in lines if "decoded" in line} == {"production", "staging"}
    assert any(b64decode(line["value"]) == b"no record at all" for line in lines if line["value"])

    first = next(LocalFolder(tmp_path / "archive").list(f"{Topic.EVENTS.value}/{PARTITION:03}/production"))
    path = tmp_path / "archive" / first
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    flawed = run("archive", "verify", "--json", env=env, cwd=tmp_path)
    assert flawed.returncode == 1
    assert first in {flaw["name"] for flaw in json.loads(flawed.stdout)["flaws"]}


def test_a_store_that_cannot_be_written_stops_nothing_but_the_commit(
    env: dict[str, str], own_kafka: str, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file where the folder should be")
    with running("sink", "archive", env=env, cwd=tmp_path) as sink:
        produce(own_kafka)
        wait_for(lambda: any("nothing is committed" in line for line in sink.lines), what="the error")
        assert sink.process.poll() is None
        (tmp_path / "archive").unlink()
        wait_for(lambda: bool(archived(tmp_path / "archive")), what="the records, once it can be written")
