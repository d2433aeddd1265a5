"""From Kafka into ClickHouse, each message once.

A range is announced before it is inserted: its end is written into the metadata of the committed
offset. Whoever continues after a crash reads it there and sends exactly that range again, under
the same token, which ClickHouse drops if it was already stored. Then the end is committed.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from deploytrail_schemas.dead_letters import dead_letter
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config, producer_config
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.clickhouse.batches import Range, Row, offenders, sort
from deploytrail_sinks.clickhouse.writer import RowsRefused, Writer

log = logging.getLogger(__name__)
GROUP = "deploytrail-sink-clickhouse"
TOPICS = (Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS, Topic.DEAD_LETTERS)
INSERT_THREADS = 3
_MAX_BACKOFF = 10.0
_ENDS = "end="  # metadata of a committed offset: the range that follows it ends here


@dataclass(slots=True)
class Pending:
    """Messages of one partition that are not inserted yet."""

    rows: list[Row] = field(default_factory=list)
    announced_end: int | None = None  # a range that somebody announced: to be sent as it was


class ClickHouseSink:
    """One consumer: `run` until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer = Writer(settings)
        self._consumer = Consumer(
            consumer_config(settings, GROUP)
            | {"partition.assignment.strategy": "range", "max.poll.interval.ms": 300_000, "fetch.wait.max.ms": 50}
        )
        self._producer = Producer(producer_config(settings))
        self._threads = ThreadPoolExecutor(INSERT_THREADS, "insert")
        self._pending: dict[tuple[str, int], Pending] = {}
        self._oldest: float | None = None
        self._stop = threading.Event()
        self.ready = False

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consume until `stop`; what is pending then stays uncommitted and comes again."""
        self._consumer.subscribe([t.value for t in TOPICS], on_assign=self._assigned, on_revoke=self._revoked)
        said = False
        try:
            while not self._stop.is_set():
                if self.ready and not said:
                    on_ready()
                    said = True
                for message in self._take():
                    self._add(message)
                if self._is_due():
                    self._flush()
        finally:
            self._consumer.close()
            self._threads.shutdown()

    def stop(self) -> None:
        """Let `run` end after the batch that it is at."""
        self._stop.set()

    def _take(self) -> list[Message]:
        # consume() waits its whole time-out for a short batch: one poll, then what else is there.
        first = self._consumer.poll(0.05)
        if first is None:
            return []
        return [first, *self._consumer.consume(5000, 0.0)]

    def _add(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            return  # the client retries by itself
        place = (message.topic() or "", message.partition() or 0)
        row = Row(
            *place,
            message.offset() or 0,
            message.timestamp()[1],
            _bytes(message.key()),
            _bytes(message.value()),
            _headers(message),
        )
        self._pending[place].rows.append(row)
        if self._oldest is None:
            self._oldest = time.monotonic()

    def _is_due(self) -> bool:
        if self._oldest is None:
            return False
        count = sum(len(pending.rows) for pending in self._pending.values())
        age = time.monotonic() - self._oldest
        return count >= self._settings.clickhouse_batch_rows or age >= self._settings.clickhouse_batch_seconds

    def _flush(self) -> None:
        began, self._oldest = self._oldest or time.monotonic(), None
        ranges = [part for place in self._pending for part in self._ranges(place)]
        if not ranges:
            return
        if not self._commit(
            [TopicPartition(r.topic, r.partition, r.first, metadata=f"{_ENDS}{r.end}") for r in ranges]
        ):
            return  # revoked: whoever has the partitions now reads them again
        for done in [self._threads.submit(self._write, part) for part in ranges]:
            done.result()
        if self._producer.flush(30):
            raise RetryLater("dead letters were not delivered within 30 s; nothing of this batch is committed")
        if self._commit([TopicPartition(r.topic, r.partition, r.end) for r in ranges]):
            for part in ranges:
                metrics.CLICKHOUSE_ROWS.labels(part.topic).inc(len(part.rows))
            metrics.CLICKHOUSE_BATCH.observe(time.monotonic() - began)

    def _ranges(self, place: tuple[str, int]) -> list[Range]:
        """The next range of a partition: the announced one once it is whole, else all that is pending."""
        pending = self._pending[place]
        rows = pending.rows
        if pending.announced_end is not None:
            end = pending.announced_end
            if not rows or rows[-1].offset + 1 < end:
                self._oldest = self._oldest or time.monotonic()
                return []
            # The rest follows in a range of its own, which is not announced yet.
            pending.announced_end = None
            pending.rows = [row for row in rows if row.offset >= end]
            rows = [row for row in rows if row.offset < end]
            if pending.rows:
                self._oldest = self._oldest or time.monotonic()
        else:
            pending.rows = []
        return [Range(*place, tuple(rows))] if rows else []

    def _write(self, part: Range) -> None:
        """Store a range, however long ClickHouse is away; what it will not have is set aside."""
        if part.topic == Topic.DEAD_LETTERS.value:
            self._patiently(lambda: self._writer.insert_dead_letters(part))
            return
        found = sort(part.rows)
        for row, error in found.unreadable:
            self._set_aside(row, error.reason, error.detail)
        for (kind, version), rows in found.inserts.items():
            try:
                self._patiently(lambda k=kind, v=version, r=rows: self._writer.insert(part, k, v, r))  # type: ignore[misc]
            except RowsRefused:
                self._isolate(part, rows)

    def _isolate(self, part: Range, rows: list[Row]) -> None:
        """Insert all but the offenders. A range that is sent again meets the same ones again."""
        bad = {row.offset: error for row, error in offenders(rows)}
        sound = [row for row in rows if row.offset not in bad]
        for row in rows:
            if row.offset in bad:
                self._set_aside(row, bad[row.offset].reason, bad[row.offset].detail)
        for (kind, version), some in sort(sound).inserts.items():
            self._bisect(part, kind, version, some)

    def _bisect(self, part: Range, kind: RecordType, version: int, rows: list[Row]) -> None:
        try:
            piece = Range(part.topic, part.partition, tuple(rows))
            self._patiently(lambda: self._writer.insert(piece, kind, version, rows))
        except RowsRefused as again:
            if len(rows) == 1:
                self._set_aside(rows[0], DeadLetterReason.INSERT_REFUSED, str(again))
                return
            middle = len(rows) // 2
            self._bisect(part, kind, version, rows[:middle])
            self._bisect(part, kind, version, rows[middle:])

    def _patiently(self, insert: Callable[[], None]) -> None:
        wait = 0.1
        while True:
            try:
                insert()
            except RetryLater as error:
                if wait == 0.1:
                    log.warning("%s; trying again until it answers", error)
                metrics.CLICKHOUSE_RETRIES.inc()
                self.ready = False
                if self._stop.wait(wait * random.uniform(0.5, 1.5)):
                    raise
                wait = min(wait * 2, _MAX_BACKOFF)
            else:
                self.ready = True
                return

    def _set_aside(self, row: Row, reason: DeadLetterReason, detail: str) -> None:
        metrics.DEAD_LETTERS.labels(reason.value).inc()
        place = (row.topic, row.partition, row.offset)
        key, value, said = dead_letter(row.key, row.value, [*row.headers], place, reason, f"clickhouse: {detail}")
        self._producer.produce(Topic.DEAD_LETTERS.value, value, key, partition=row.partition % 4, headers=said)

    def _commit(self, offsets: list[TopicPartition]) -> bool:
        """Whether the offsets are committed; False where the partitions are no longer ours."""
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() in _NO_LONGER_OURS:
                log.info("partitions went to another sink before a commit: %s", error)
                self._pending = {place: Pending() for place in self._pending}
                return False
            raise
        for partition in committed or ():
            if partition.error is not None:
                raise KafkaException(partition.error)
        return True

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._pending = {(p.topic, p.partition): Pending() for p in partitions}
        self._oldest = None
        for committed in consumer.committed(partitions, timeout=30) if partitions else ():
            metadata = committed.metadata or ""
            if metadata.startswith(_ENDS) and committed.offset >= 0:
                self._pending[committed.topic, committed.partition].announced_end = int(metadata[len(_ENDS) :])
        self.ready = True

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._pending = {}
        self._oldest = None


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


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    given: Any = message.headers() or ()
    return tuple((name, _bytes(value)) for name, value in given)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
