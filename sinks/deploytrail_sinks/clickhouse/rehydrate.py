"""Rows that ClickHouse no longer has, brought back from the archive for as long as they are needed.

They go into tables of their own, which the views `all_…` unite with the others, each row once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.counted import counted
from deploytrail_schemas.instants import to_micros
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.archive.segment import Record, read_segment
from deploytrail_sinks.archive.store import ObjectStore
from deploytrail_sinks.clickhouse.batches import Range, Row, sort
from deploytrail_sinks.clickhouse.tables import BY_KIND, TABLES
from deploytrail_sinks.clickhouse.tiers import TIMES
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
    """Bring back what happened from `since` until before `until`, by the time that the time to live goes by.

    The same again changes nothing: rows replace each other by their place in Kafka. So each attempt has tokens of its
    own: other days of a segment may begin and end at the same offsets, and a table may remember what it was told to
    forget.

    SegmentError for a segment that is damaged; RetryLater while ClickHouse is away.
    """
    writer = Writer(settings, SUFFIX)
    segments = rows = unreadable = 0
    attempt = uuid.uuid4().hex
    for name in (name for topic in TOPICS for name in store.list(topic.value) if name.endswith(".avro")):
        segment = read_segment(store.read(name))
        wanted, lost = _wanted(segment.topic, segment.partition, segment.records, since, until)
        unreadable += lost
        if not wanted:
            continue
        segments += 1
        found = sort(wanted)
        for (kind, version), some in found.inserts.items():
            for shard, part in writer.shards.split(segment.partition, some).items():
                whole = Range(segment.topic, segment.partition, tuple(part), attempt=attempt)
                writer.insert(whole, kind, version, part, shard)
                rows += len(part)
        say(f"{name}: {counted(len(wanted), 'record')}")
    return Rehydrated(segments, rows, unreadable)


def forget(client: Client, database: str, behind: str = "") -> None:
    """Empty a shard's tables of what was brought back. `behind`: what follows their names on a cluster."""
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {database}.{table.name}{SUFFIX}{behind}")


def _wanted(
    topic: str, partition: int, records: tuple[Record, ...], since: datetime, until: datetime
) -> tuple[list[Row], int]:
    """The rows of these days, and how many messages of theirs, by Kafka's time, cannot be read."""
    rows, unreadable = [], 0
    begin, end = to_micros(since), to_micros(until)
    for record in records:
        try:
            kind, value = decode(record.value)
        except DecodeError:
            unreadable += begin <= record.timestamp * 1000 < end
            continue
        if kind not in BY_KIND:
            continue
        at = value[TIMES[BY_KIND[kind].name]]
        if at is not None and begin <= at < end:
            place = (topic, partition, record.offset, record.timestamp)
            rows.append(Row(*place, record.key, record.value, record.headers))
    return rows, unreadable
