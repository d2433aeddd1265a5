"""From Kafka into the archive: offsets are committed once their records are durable."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from deploytrail_schemas.codec import DecodeError
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.registry import wire_format
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.archive.holds_in_store import HoldsInStore
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.principals import read_principals
from deploytrail_sinks.archive.raw_records import Record, salts
from deploytrail_sinks.archive.retention import read_policy, regulated_services
from deploytrail_sinks.archive.segment import SegmentError
from deploytrail_sinks.archive.store import open_store
from deploytrail_sinks.policies import Policies

log = logging.getLogger(__name__)
GROUP = "deploytrail-sink-archive"
TOPICS = (Topic.INTAKE, Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS, Topic.DEAD_LETTERS)
# What was replaced before it was read is gone from these by design: a hole is no loss.
COMPACTED = (Topic.POLICIES, Topic.ONCALL_STATE)
_COMPACTED_NAMES = frozenset(topic.value for topic in COMPACTED)
_RETRY_SECONDS = 5.0
Answer = TypeVar("Answer")


class ArchiveSink:
    """One consumer: `run` until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = open_store(settings.archive)
        # Without its file a released hold still counts; `hold sync` takes off what that put on.
        people = read_principals(Path(settings.archive_principals)) if settings.archive_principals else None
        self._holds = HoldsInStore(self._store, people)
        self._wire = wire_format(settings)
        self._policy = read_policy(settings.archive_retention)
        self._policies = Policies(settings)
        self._regulated = regulated_services(settings.regulated)
        self._consumer = Consumer(
            consumer_config(settings, GROUP)
            | {"partition.assignment.strategy": "range", "max.poll.interval.ms": 300_000}
        )
        self._partitions: dict[tuple[str, int], PartitionArchive] = {}
        self._since: dict[tuple[str, int], float] = {}
        self._salts = salts()
        self._stop = threading.Event()
        self.ready = False

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consume until `stop`, then close what is pending."""
        self._policies.start()
        self._consumer.subscribe(
            [t.value for t in (*TOPICS, *COMPACTED)], on_assign=self._assigned, on_revoke=self._revoked
        )
        said = False
        try:
            while not self._stop.is_set():
                if self.ready and not said:
                    on_ready()
                    said = True
                first = self._consumer.poll(0.2)
                if first is not None:
                    for message in (first, *self._consumer.consume(5000, 0.0)):
                        self._add(message)
                self._close_due()
            self._close(list(self._partitions))
        finally:
            self._stop.set()
            self._policies.close()
            self._consumer.close()

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def _add(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            return
        place = (message.topic() or "", message.partition() or 0)
        if place not in self._partitions:
            return  # stopped by a conflict: what was fetched before it was paused
        kind, timestamp = message.timestamp()
        given: Any = message.headers() or ()
        record = Record(
            message.offset() or 0,
            timestamp,
            kind,
            _bytes(message.key()),
            _bytes(message.value()),
            tuple((name, _bytes(value)) for name, value in given),
            next(self._salts),
        )
        self._wait_for_schema(record.value)
        try:
            gaps = self._partitions[place].add(record)
        except SegmentError as conflict:
            self._give_up(place, conflict)
            return
        for gap in gaps:
            metrics.ARCHIVE_GAPS.inc(gap[1] - gap[0] + 1)
            log.error("%s/%s: offsets %s to %s were gone from Kafka before they were archived", *place, *gap)
        self._since.setdefault(place, time.monotonic())

    def _wait_for_schema(self, value: bytes | None) -> None:
        """Return once the schema that a record names is known, or known to be none of ours: its class depends on it."""
        said = False
        while True:
            try:
                self._wire.plain(value)
            except DecodeError:
                return
            except RetryLater as error:
                if not said:
                    log.error("%s; nothing is archived, trying again every %s s", error, _RETRY_SECONDS)
                said = True
                if self._stop.wait(_RETRY_SECONDS):
                    raise
            else:
                return

    def _close_due(self) -> None:
        now = time.monotonic()
        due = []
        for place, since in self._since.items():
            records, size = self._partitions[place].pending()
            if (
                records >= self._settings.archive_segment_records
                or size >= self._settings.archive_segment_bytes
                or now - since >= self._settings.archive_segment_seconds
            ):
                due.append(place)
        self._close(due)

    def _close(self, places: list[tuple[str, int]]) -> None:
        """Make partitions durable, then commit them."""
        offsets = []
        for place in places:
            archive = self._partitions[place]
            try:
                self._patiently(archive)
            except SegmentError as error:
                self._give_up(place, error)
                continue
            self._since.pop(place, None)
            safe = archive.safe_offset()
            if safe is not None:
                offsets.append(TopicPartition(*place, safe))
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # Whoever has the partitions now reads the same again, and finds the objects there.
            log.warning("archived, not committed: %s", error)

    def _patiently(self, archive: PartitionArchive) -> None:
        metrics.ARCHIVE_SEGMENTS.inc(len(self._until_it_works(archive.close_segments)))

    def _until_it_works(self, ask: Callable[[], Answer]) -> Answer:
        """What the store says, once it can be asked."""
        said = False
        while True:
            try:
                answer = ask()
                self.ready = self.ready or said
                return answer
            except RetryLater as error:
                if not said:
                    log.error("%s; nothing is committed, trying again every %s s", error, _RETRY_SECONDS)
                said = True
                self.ready = False
                if self._stop.wait(_RETRY_SECONDS):
                    raise

    def _give_up(self, place: tuple[str, int], error: SegmentError) -> None:
        """Archive nothing more of a partition: what the store holds and what Kafka gives are not one history.

        The other partitions go on. It is tried again when the partition is assigned anew.
        """
        log.error("%s/%s is archived no further, somebody must look: %s", *place, error)
        metrics.ARCHIVE_STOPPED.labels(place[0], str(place[1])).set(1)
        self._partitions.pop(place, None)
        self._since.pop(place, None)
        self._consumer.pause([TopicPartition(*place)])

    def _forget(self) -> None:
        self._partitions, self._since = {}, {}
        metrics.ARCHIVE_STOPPED.clear()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._stop.is_set():  # a rebalance that the client ends while it is closed, and Kafka answers it no more
            return
        self._forget()
        consumer.assign(partitions)  # before any of them is paused
        consumer.resume(partitions)
        for p in consumer.committed(partitions, timeout=30) if partitions else ():
            archive = PartitionArchive(
                self._store,
                p.topic,
                p.partition,
                self._regulated,
                compacted=p.topic in _COMPACTED_NAMES,
                wire=self._wire,
                policy=self._policy,
                policies_at=self._policies.at,
                on_stored=self._holds.created,
            )
            try:
                self._resume(archive, p.offset if p.offset >= 0 else None)
            except SegmentError as error:
                self._give_up((p.topic, p.partition), error)
                continue
            self._partitions[p.topic, p.partition] = archive
        self.ready = True

    def _resume(self, archive: PartitionArchive, committed: int | None) -> None:
        self._until_it_works(lambda: archive.resume(committed))

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._forget()


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
