"""A history in ClickHouse, stored as the sink stores it where regions lie on shards."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from deploytrail_schemas.codec import encode, writer_of
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.batches import Range, Row
from deploytrail_sinks.clickhouse.migrate import migrate_as_set
from deploytrail_sinks.clickhouse.writer import connect

from support.questions import _TOPIC, Trail


class OnShards(Trail):
    """A database on every engine of DEPLOYTRAIL_CLICKHOUSE_SHARDS. What is stored in the same order has the same
    positions whatever the shards are: each region has its partition."""

    def _migrate(self) -> None:
        migrate_as_set(self._settings)

    def store(self, kind: RecordType, values: list[dict[str, Any]], *, written: int | None = None) -> None:
        """Store records, each on the shard of its region and service."""
        regions, topic = RegionMap.from_settings(self._settings), _TOPIC.get(kind, Topic.EVENTS)
        by_partition: defaultdict[int, list[Row]] = defaultdict(list)
        for value in values:
            when = written or value.get("received_at") or value.get("recorded_at") or value["occurred_at"]
            partition, body = regions.partition_of(value["region"]), encode(kind, value)
            by_partition[partition].append(
                Row(topic.value, partition, next(self._offsets), when // 1000, b"k", body, ())
            )
        for partition, rows in by_partition.items():
            for shard, some in self._writer.shards.split(partition, rows).items():
                version = writer_of(some[0].value or b"").version
                self._writer.insert(Range(topic.value, partition, tuple(some)), kind, version, some, shard)

    def held(self, table: str) -> list[int]:
        """How many rows of a table each engine holds, the default one first."""
        every = (connect(self._settings, ",".join(replicas)) for replicas in self._writer.shards.hosts)
        return [int(e.query(f"SELECT count() FROM {self.database}.{table}").result_rows[0][0]) for e in every]

    def close(self) -> None:
        """Drop the database everywhere."""
        for replicas in self._writer.shards.hosts:
            connect(self._settings, ",".join(replicas)).command(f"DROP DATABASE IF EXISTS {self.database}")
