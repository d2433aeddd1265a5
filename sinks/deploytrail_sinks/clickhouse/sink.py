"""From Kafka into ClickHouse, each message once.

A range is announced before it is inserted: its end is written into the metadata of the committed
offset. Whoever continues after a crash reads it there and sends exactly that range again, under
the same token, which ClickHouse drops if it was already stored. Then the end is committed.

One batch is being stored while the next one gathers; once that is whole too, nothing more is read, and
partitions are paused where this lasts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from sys import intern
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from deploytrail_schemas.clusters import check_cluster, mirrored
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.buffer import Buffer, Limits, Place, Span
from deploytrail_sinks.clickhouse.dead_letters import DeadLetters
from deploytrail_sinks.clickhouse.lock import SWAP_LOCK, is_held
from deploytrail_sinks.clickhouse.shards import DEFAULT
from deploytrail_sinks.clickhouse.storing import Batch, Storing
from deploytrail_sinks.clickhouse.writer import Writer, connect

log = logging.getLogger(__name__)
_GROUP = "deploytrail-sink-clickhouse"
TOPICS = (Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS, Topic.DEAD_LETTERS, Topic.POLICIES)
ENDS = "end="  # metadata of a committed offset: the range that follows it ends here
_POLL_SECONDS = 0.05
_PAUSE_AFTER = 1.0  # seconds without room: a pause throws away what was fetched ahead, which is then fetched again
_LOOK_SECONDS = 5.0  # between two looks for a rebuild
_LOOK_PATIENCE = 5  # seconds for an answer to that, since nothing else goes on meanwhile, not even a stop
_STOP_SECONDS = 8.0  # for what is pending when the sink is stopped; the rest comes again
_REVOKE_SECONDS = 5.0  # for the batch in flight when partitions go to another sink


def group_of(settings: Settings) -> str:
    """The sink's consumer group; one for each cluster whose mirrored topics are read."""
    return f"{_GROUP}-{settings.mirrored_cluster}" if settings.mirrored_cluster else _GROUP


def topics_of(settings: Settings) -> list[str]:
    """What the sink reads: its own cluster's topics, or those that a mirror brings from another cluster.

    ConfigurationError where no cluster can have the name that the settings give.
    """
    if not settings.mirrored_cluster:
        return [topic.value for topic in (*TOPICS, Topic.FEDERATED)]
    cluster = check_cluster(settings.mirrored_cluster, "DEPLOYTRAIL_MIRRORED_CLUSTER")
    return [mirrored(cluster, topic) for topic in TOPICS]


class ClickHouseSink:
    """One consumer: `run` until `stop`."""

    def __init__(self, settings: Settings, *, heeds_swaps: bool = True) -> None:
        self._writer = Writer(settings)
        self._swap_lock = f"{settings.clickhouse_database}.{SWAP_LOCK}" if heeds_swaps else ""
        self._settings = settings
        self._looked: float | None = None  # when it last looked for a rebuild
        self._looker: tuple[str, Client] | None = None  # the replica, and a client of it that does not wait for long
        self._consumer = Consumer(consumer_config(settings, group_of(settings)) | _CONSUMER)
        self._topics = topics_of(settings)
        self._dead_letters = DeadLetters(settings)
        self._storing = Storing(self._writer, self._dead_letters.put, settings.clickhouse_insert_threads)
        self._buffer = Buffer(
            Limits(settings.clickhouse_batch_rows, settings.clickhouse_batch_bytes, settings.clickhouse_batch_seconds)
        )
        self._batch: Batch | None = None
        self._full_since: float | None = None
        self._paused = False
        self._stop = threading.Event()
        self._assigned_once = False

    @property
    def ready(self) -> bool:
        """Whether partitions were assigned, and ClickHouse takes what it is sent."""
        return self._assigned_once and self._storing.answers

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consume until `stop`, which stores what is pending, in bounded time. What is not, comes again.

        ConfigurationError where ClickHouse gives an answer that only an operator can change; RetryLater where a
        rebuild is about to swap tables: started again, the sink waits for its end.
        """
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        said = False
        try:
            while not self._stop.is_set():
                if self.ready and not said:
                    on_ready()
                    said = True
                self._take()
                self._throttle(time.monotonic())
                self._advance(time.monotonic())
            self._drain(time.monotonic() + _STOP_SECONDS)
        finally:
            self._stop.set()
            self._abandon()
            self._consumer.close()
            self._storing.close()

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def _take(self) -> None:
        if self._batch is not None and not self._paused and self._buffer.is_full():
            self._batch.wait(_POLL_SECONDS)
            return
        # consume() waits its whole time-out for a short batch: one poll, then what else is there.
        wait = 0.005 if self._batch is not None else _POLL_SECONDS
        due = self._buffer.due_in(time.monotonic())
        first = self._consumer.poll(wait if due is None else min(wait, due + 0.001))
        if first is None:
            return
        now = time.monotonic()
        self._add(first, now)  # before partitions can change in what follows
        for message in self._consumer.consume(5000, 0.0):
            self._add(message, now)

    def _add(self, message: Message, now: float) -> None:
        error = message.error()
        if error is None:
            self._buffer.add(row_of(message), now)
        elif error.fatal():
            raise KafkaException(error)  # from others the client recovers by itself

    def _throttle(self, now: float) -> None:
        if not self._buffer.is_full():
            self._full_since = None
            if self._paused:
                self._consumer.resume(self._consumer.assignment())
                self._paused = False
        elif self._full_since is None:
            self._full_since = now
        elif not self._paused and now >= self._full_since + _PAUSE_AFTER:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
            metrics.CLICKHOUSE_PAUSES.inc()
        metrics.CLICKHOUSE_WAITING.set(self._buffer.bytes)

    def _advance(self, now: float) -> None:
        """End the batch that is stored; begin the next one when it is due."""
        if self._batch is not None and self._batch.done():
            self._finish(self._batch)
        if self._batch is None:
            self._heed_swaps(now)
        if self._batch is None and self._buffer.due_in(now) == 0.0:
            self._begin(now)

    def _heed_swaps(self, now: float) -> None:
        """Leave the group where a rebuild asks for it: it waits until nobody is left who could write."""
        if not self._swap_lock or not self._buffer.pending or (self._looked and now < self._looked + _LOOK_SECONDS):
            return
        self._looked = now
        if self._is_asked_aside():
            raise RetryLater("a rebuild is about to swap tables; started again, the sink waits for its end")

    def _is_asked_aside(self) -> bool:
        url = self._writer.url(DEFAULT)
        try:
            if self._looker is None or self._looker[0] != url:
                self._looker = (url, connect(self._settings, url, _LOOK_PATIENCE))
            return is_held(self._looker[1], self._swap_lock)
        except (ClickHouseError, OSError):  # while it is away nobody rebuilds
            self._looker = None
            return False

    def _begin(self, now: float) -> None:
        ranges = self._buffer.take(now)
        if not ranges:
            return
        announced = [TopicPartition(r.topic, r.partition, r.first, metadata=f"{ENDS}{r.end}") for r in ranges]
        if self._commit(announced):  # else whoever has the partitions now reads them again
            self._batch = self._storing.store(ranges, time.monotonic())

    def _finish(self, batch: Batch) -> None:
        self._batch = None
        batch.check()
        now = time.monotonic()
        took = now - batch.began  # without Kafka's part of it, which is no load of ClickHouse's
        self._dead_letters.deliver()
        if not self._commit([TopicPartition(r.topic, r.partition, r.end) for r in batch.ranges]):
            return
        self._buffer.took(took, now)
        metrics.CLICKHOUSE_BATCH.observe(time.monotonic() - batch.began)
        for part in batch.ranges:
            metrics.CLICKHOUSE_ROWS.labels(part.topic).inc(len(part.rows))

    def _drain(self, deadline: float) -> None:
        """Store the batch in flight, and what gathered behind it."""
        self._storing.stop_retrying()
        try:
            while self._batch is not None or self._buffer.rows:
                if self._batch is None:
                    self._begin(time.monotonic())
                if self._batch is None:
                    return  # the partitions are gone, or an announced range is not whole
                if not self._batch.wait(deadline - time.monotonic()):
                    return
                self._finish(self._batch)
        except RetryLater as error:
            log.warning("stopped while %s; what is not stored comes again", error)

    def _abandon(self) -> None:
        if self._batch is not None:
            self._batch.abandon()
            self._batch = None

    def _commit(self, offsets: list[TopicPartition]) -> bool:
        """Whether the offsets are committed; False where the partitions are no longer ours."""
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() in _NO_LONGER_OURS:
                log.info("partitions went to another sink before a commit: %s", error)
                self._forget()
                return False
            raise
        for partition in committed or ():
            if partition.error is not None:
                raise KafkaException(partition.error)
        return True

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._stop.is_set():  # a rebalance that the client ends while it is closed, and Kafka answers it no more
            return
        announced: dict[Place, Span | None] = {(p.topic, p.partition): None for p in partitions}
        for committed in consumer.committed(partitions, timeout=30) if partitions else ():
            metadata = committed.metadata or ""
            if metadata.startswith(ENDS) and committed.offset >= 0:
                announced[committed.topic, committed.partition] = (committed.offset, int(metadata[len(ENDS) :]))
        self._buffer.assign(announced)
        self._looked = None  # before the first batch
        self._paused, self._full_since = False, None
        self._assigned_once = True

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        if self._batch is not None and self._batch.wait(_REVOKE_SECONDS):
            self._finish(self._batch)
        self._forget()

    def _lost(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._forget()

    def _forget(self) -> None:
        """Whoever has the partitions now sends again what was announced, under the same token."""
        self._abandon()
        self._buffer.assign({})


# Fewer bytes fetched ahead than the client would: they come on top of what waits here.
_CONSUMER: dict[str, str | int | float | bool] = {
    "partition.assignment.strategy": "range",
    "max.poll.interval.ms": 300_000,
    # One by one, messages cost the broker twice as much.
    "fetch.min.bytes": 16 << 10,
    "fetch.wait.max.ms": 20,
    "queued.max.messages.kbytes": 16 << 10,
}
_NO_LONGER_OURS = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._STATE,
        KafkaError._NO_OFFSET,
    }
)


def row_of(message: Message) -> Row:
    """What a sink needs of a message."""
    given: Any = message.headers()
    return Row(
        intern(message.topic() or ""),  # the client makes a text of its own for each message
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        _bytes(message.key()),
        _bytes(message.value()),
        tuple((name, _bytes(value)) for name, value in given) if given else (),
    )


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
