"""Rows that ClickHouse no longer has, brought back from the archive for as long as they are needed.

They go into tables of their own, which the views `all_…` unite with the others, each row once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.archive.segment import Record, read_segment
from deploytrail_sinks.archive.store import ObjectStore
from deploytrail_sinks.clickhouse.batches import Range, Row, sort
from deploytrail_sinks.clickhouse.tables import TABLES
from deploytrail_sinks.clickhouse.writer import Writer

SUFFIX = "_rehydrated"
TOPICS = (Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS)


@dataclass(frozen=True, slots=True)
class Rehydrated:
    """What was brought back."""

    segments: int
    rows: int
    unreadable: int  # dead letters of their time


def rehydrate(
    store: ObjectStore,
    settings: Settings,
    since: datetime,
    until: datetime,
    say: Callable[[str], None] = lambda _: None,
) -> Rehydrated:
    """Bring back what happened from `since` until before `until`. The same again changes nothing.

    SegmentError for a segment that is damaged; RetryLater while ClickHouse is away.
    """
    writer = Writer(settings, SUFFIX)
    segments = rows = unreadable = 0
    for name in (name for topic in TOPICS for name in store.list(topic.value) if name.endswith(".avro")):
        segment = read_segment(store.read(name))
        wanted = tuple(_wanted(segment.topic, segment.partition, segment.records, since, until))
        if not wanted:
            continue
        segments += 1
        found = sort(wanted)
        unreadable += len(found.unreadable)
        for (kind, version), some in found.inserts.items():
            for shard, part in writer.shards.split(segment.partition, some).items():
                whole = Range(segment.topic, segment.partition, tuple(part))
                writer.insert(whole, kind, version, part, shard)
                rows += len(part)
        say(f"{name}: {len(wanted)} records")
    return Rehydrated(segments, rows, unreadable)


def forget(client: Client, database: str) -> None:
    """Empty the tables of what was brought back."""
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {database}.{table.name}{SUFFIX}")


def _wanted(topic: str, partition: int, records: tuple[Record, ...], since: datetime, until: datetime) -> Iterator[Row]:
    for record in records:
        try:
            _, value = decode_routing(record.value)
        except DecodeError:
            continue
        at = value.get("occurred_at", value.get("recorded_at"))
        if at is not None and since <= from_micros(at) < until:
            yield Row(topic, partition, record.offset, record.timestamp, record.key, record.value, record.headers)
