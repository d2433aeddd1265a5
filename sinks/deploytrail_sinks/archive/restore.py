"""The archive read back into ClickHouse: raw messages with their offsets, stored by the same code as the sink's.

Nothing of Kafka is needed. What is not in the archive, being purged or not archived yet, is not in the tables.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.segment import Segment, SegmentError, stored_segment
from deploytrail_sinks.archive.store import ObjectStore
from deploytrail_sinks.clickhouse.batches import Range, Row
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.sink import TOPICS
from deploytrail_sinks.clickhouse.storing import Storing
from deploytrail_sinks.clickhouse.tables import TABLES
from deploytrail_sinks.clickhouse.writer import Writer, connect


@dataclass(frozen=True, slots=True)
class Restored:
    """How many messages of how many partitions went into the tables."""

    messages: int
    partitions: int


def restore(
    store: ObjectStore, settings: Settings, *, again: bool = False, say: Callable[[int], None] = lambda _: None
) -> Restored:
    """Fill the tables of an empty ClickHouse from the archive.

    `again`: go on after a restore that was cut short; the ranges are the same, so ClickHouse drops what it has.
    ConfigurationError where a table holds rows and nobody said so, SegmentError for a damaged object.
    """
    client = connect(settings)
    migrate(client, settings.clickhouse_database)
    if not again and (filled := _filled(client, settings.clickhouse_database)):
        raise ConfigurationError(
            f"{settings.clickhouse_database} is not empty: {', '.join(filled)} hold rows; restore into an empty "
            "database (DEPLOYTRAIL_CLICKHOUSE_DATABASE), or say --continue after a restore that was cut short"
        )
    # Ranges must be the same when a restore is tried again: rows alone decide where one ends.
    storing = Storing(Writer(settings), lambda *_: None, settings.clickhouse_insert_threads)
    messages = partitions = 0
    try:
        for topic in TOPICS:
            for partition in _partitions(store, topic.value):
                partitions += 1
                for part in ranges(store, topic.value, partition, settings.clickhouse_batch_rows):
                    batch = storing.store([part], time.monotonic())
                    batch.wait(float("1e9"))
                    batch.check()
                    messages += len(part.rows)
                    say(messages)
    finally:
        storing.close()
    return Restored(messages, partitions)


def ranges(store: ObjectStore, topic: str, partition: str, size: int) -> Iterator[Range]:
    """A partition's messages in order of offset, the classes merged; `size` of them at a time."""
    folder = f"{topic}/{partition}"
    classes = sorted({name.split("/")[2] for name in store.list(folder)})
    streams = [_records(store, f"{folder}/{retention_class}") for retention_class in classes]
    rows: list[Row] = []
    for record in heapq.merge(*streams, key=lambda record: record.offset):
        rows.append(
            Row(topic, int(partition), record.offset, record.timestamp, record.key, record.value, record.headers)
        )
        if len(rows) >= size:
            yield Range(topic, int(partition), tuple(rows))
            rows = []
    if rows:
        yield Range(topic, int(partition), tuple(rows))


def _records(store: ObjectStore, folder: str) -> Iterator[Record]:
    for name in store.list(folder):
        yield from _segment(store, name).records


def _segment(store: ObjectStore, name: str) -> Segment:
    try:
        segment = stored_segment(store, name)
    except SegmentError as error:
        raise SegmentError(f"{error}; see what `deploytrail archive verify` says") from error
    return segment


def _partitions(store: ObjectStore, topic: str) -> list[str]:
    return sorted({name.split("/")[1] for name in store.list(topic)})


def _filled(client: Client, database: str) -> list[str]:
    tables = [table.name for table in TABLES] + ["dead_letters"]
    return [t for t in tables if client.query(f"SELECT 1 FROM {database}.{t} LIMIT 1").result_rows]
