"""The archive sink on a real Kafka: raw bytes come back equal, and damage is named."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import date
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import Producer
from deploytrail_local import ports
from deploytrail_schemas.codec import encode
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import Record, Segment, read_segment, write_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.commands import run, running
from support.kafka import end_offsets, make_topics, read_topic, wait_for, write
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
        assert producer.flush(60) == 0


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


@pytest.mark.requirement("M5.5")
def test_a_retention_policy_lifts_and_lengthens_what_comes_after_it(
    env: dict[str, str], own_kafka: str, tmp_path: Path
) -> None:
    spec = {"class": "production-regulated", "days": 4000, "lock": "compliance", "scope": {"services": ["ledger"]}}
    policy = {"kind": "retention", "name": "ledger", "version": 1, "spec": spec}
    write(own_kafka, Topic.POLICIES, [(0, b"retention/ledger/1", json.dumps(policy).encode())])
    partition = PARTITION + 3  # of no other test
    values = [
        encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, deployment_id=service, service=service))
        for service in ("ledger", "shop")
    ]
    folder = tmp_path / "archive" / Topic.EVENTS.value / f"{partition:03}"
    with running("sink", "archive", env=env, cwd=tmp_path) as sink:
        write(own_kafka, Topic.EVENTS, [(partition, b"k", one) for one in values])
        wait_for(lambda: len(list(folder.glob("*/*.avro"))) == 2, what="both segments")
        assert sink.stop() == 0
    kept = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/*.retain")}
    day = read_topic(own_kafka, Topic.EVENTS)[-1].timestamp()[1] // 86_400_000
    days = {name: date.fromisoformat(beside["retain_until"][:10]).toordinal() for name, beside in kept.items()}

    assert days == {
        "production-regulated": date(1970, 1, 1).toordinal() + day + 4001,
        "production": date(1970, 1, 1).toordinal() + day + 3 * 366 + 1,
    }
    assert kept["production-regulated"]["lock"] == "compliance"
    assert "lock" not in kept["production"]


@pytest.mark.requirement("M5.1")
def test_a_segment_is_closed_once_its_records_have_so_many_bytes(
    env: dict[str, str], own_kafka: str, tmp_path: Path
) -> None:
    env |= {"DEPLOYTRAIL_ARCHIVE_SEGMENT_BYTES": "20000", "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "3600"}
    small, large = PARTITION + 4, PARTITION + 5  # of no other test
    store = LocalFolder(tmp_path / "archive")
    with running("sink", "archive", env=env, cwd=tmp_path) as sink:
        for round_number in range(2):
            write(own_kafka, Topic.EVENTS, [(small, b"k", b"x" * 3000)] * 3)
            write(own_kafka, Topic.EVENTS, [(large, b"k", b"x" * 21_000)])
            wait_for(lambda n=round_number: offsets_of(store, large) == list(range(n + 1)), what="the large record")  # type: ignore[misc]
            assert offsets_of(store, small) == []  # 18,000 bytes of them, and none is old
        write(own_kafka, Topic.EVENTS, [(small, b"k", b"x" * 3000)])
        wait_for(lambda: len(offsets_of(store, small)) == 7, what="what is more than 20,000 bytes")
        [name] = store.list(f"{Topic.EVENTS.value}/{small:03}")
        assert sink.stop() == 0

    assert offsets_of(store, small) == list(range(7))
    assert read_segment(store.read(name)).last_offset == 6


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


def test_a_conflict_stops_its_partition_alone_and_is_an_alarm(
    env: dict[str, str], own_kafka: str, tmp_path: Path
) -> None:
    """Somebody else's object lies where the next segment of a partition should go."""
    port = ports.free_port()
    env |= {"DEPLOYTRAIL_METRICS_PORT": str(port)}
    folder, torn, other = tmp_path / "archive", PARTITION + 1, PARTITION + 2  # of no other test
    store = LocalFolder(folder)
    theirs = Segment(Topic.EVENTS.value, torn, "production", 0, 0, "", (Record(0, 1, 1, None, b"x", ()),))
    with running("sink", "archive", env=env, cwd=tmp_path) as sink:
        write(own_kafka, Topic.FINDINGS, [(1, b"k", b"no record")])
        wait_for(lambda: any(folder.rglob("*.avro")), what="its first segment")
        store.create(theirs.name, write_segment(theirs), "2099-01-01T00:00:00Z")
        write(own_kafka, Topic.EVENTS, [(torn, b"k", b"a"), (other, b"k", b"b")])
        wait_for(lambda: any("archived no further" in line for line in sink.lines), what="the alarm")
        for round_number in range(3):
            write(own_kafka, Topic.EVENTS, [(torn, b"k", b"a"), (other, b"k", b"%d" % round_number)])
        last = end_offsets(own_kafka, Topic.EVENTS)[other] - 1
        wait_for(lambda: last in offsets_of(store, other), what="the records of the other partition")
        shown = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        assert sink.stop() == 0

    assert f'deploytrail_archive_partition_stopped{{partition="{torn}",topic="deploytrail.events"}} 1.0' in shown
    assert list(store.list(f"{Topic.EVENTS.value}/{torn:03}/production")) == [theirs.name]


def offsets_of(store: LocalFolder, partition: int) -> list[int]:
    names = store.list(f"{Topic.EVENTS.value}/{partition:03}")
    return [record.offset for name in names for record in read_segment(store.read(name)).records]
