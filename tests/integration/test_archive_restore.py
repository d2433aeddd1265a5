"""The drill: ClickHouse is lost, Kafka has forgotten, and the archive fills the tables again with equal content."""

from __future__ import annotations

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
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run, running
from support.kafka import end_offsets, make_topics, wait_for, write
from support.values import NOON, SECOND, event, signal

EVENTS = 400
TABLES = ("deployment_events", "signals", "dead_letters")


def contents(client: Client, database: str) -> dict[str, tuple[int, str]]:
    return {table: content(client, f"{database}.{table}") for table in TABLES}


@pytest.mark.requirement("M7.1", "M5.5")
@pytest.mark.timeout(300)
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
    trail: list[tuple[int, bytes | None, bytes | None]] = [
        (
            1 + i % 3,
            b"k",
            encode(
                RecordType.DEPLOYMENT_EVENT,
                event("started", NOON + i * SECOND, deployment_id=f"d{i}", environment=("production", "qa")[i % 2]),
            ),
        )
        for i in range(EVENTS)
    ]
    trail += [(1, b"k", b"\xc3\x01nowriterx"), (2, b"k", encode(RecordType.SIGNAL, signal(at=NOON, value=None)))]
    store = LocalFolder(tmp_path / "archive")

    def archived() -> int:
        return sum(len(read_segment(store.read(n)).records) for n in store.list("") if "intake" not in n)

    client = connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))
    with (
        running("sink", "clickhouse", env=env, cwd=tmp_path) as one,
        running("sink", "archive", env=env, cwd=tmp_path) as two,
    ):
        write(own_kafka, Topic.EVENTS, trail)
        wait_for(
            lambda: [count for count, _ in contents(client, lost).values()] == [EVENTS, 1, 1],
            seconds=60,
            what="the rows",
        )
        ends = sum(sum(end_offsets(own_kafka, t).values()) for t in (Topic.EVENTS, Topic.DEAD_LETTERS))
        wait_for(lambda: archived() >= ends, seconds=60, what="the archive of them")
        assert one.stop() == two.stop() == 0
    before = contents(client, lost)
    client.command(f"DROP DATABASE {lost} SYNC")
    # There is no Kafka where this runs.
    env |= {"DEPLOYTRAIL_CLICKHOUSE_DATABASE": restored, "DEPLOYTRAIL_KAFKA": "127.0.0.1:1"}
    env |= {"DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS": "70"}
    done = run("archive", "restore", env=env, cwd=tmp_path, seconds=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{EVENTS + 3} messages" in done.stdout
    assert contents(client, restored) == before

    refused = run("archive", "restore", env=env, cwd=tmp_path, seconds=120)
    assert refused.returncode == 78 and "is not empty" in refused.stderr
    again = run("archive", "restore", "--continue", env=env, cwd=tmp_path, seconds=120)
    assert again.returncode == 0
    assert contents(client, restored) == before
