"""A batch on its way into ClickHouse: ranges side by side, each by kind, writer version and shard."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploytrail_schemas.clusters import is_topic
from deploytrail_schemas.codec import DecodeError
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.clickhouse.batches import Range, Row, offenders, sort
from deploytrail_sinks.clickhouse.federated_rows import federated_rows
from deploytrail_sinks.clickhouse.inserters import Inserters
from deploytrail_sinks.clickhouse.policy_rows import policy_rows
from deploytrail_sinks.clickhouse.writer import RowsRefused, Writer

log = logging.getLogger(__name__)
_FIRST_WAIT, _MAX_WAIT = 0.1, 10.0  # seconds between attempts
_CLOSE_SECONDS = 2.0  # for an insert that is under way at the end; who comes next sends it again, under its token

SetAside = Callable[[Row, DeadLetterReason, str], None]
ReadDocuments = Callable[[tuple[Row, ...]], tuple[list[list[Any]], list[tuple[Row, DecodeError]]]]
InsertDocuments = Callable[[Range, list[list[Any]]], None]


class Abandoned(DeploytrailError):
    """The partitions are another sink's now, or this one ends: what was announced is sent again by whoever is next."""


@dataclass(slots=True)
class Batch:
    """Ranges that are being stored."""

    ranges: list[Range]
    began: float
    gone: threading.Event
    parts: list[Future[None]] = field(default_factory=list)

    def done(self) -> bool:
        """Whether every range is stored, or failed."""
        return all(part.done() for part in self.parts)

    def wait(self, seconds: float) -> bool:
        """Whether all are done within so many seconds."""
        return not wait(self.parts, max(0.0, seconds)).not_done

    def check(self) -> None:
        """Raise what a range failed with, if one did."""
        for part in self.parts:
            part.result()

    def abandon(self) -> None:
        """Let attempts end."""
        self.gone.set()


class Storing:
    """Threads that insert. `set_aside` gets what ClickHouse will never have."""

    def __init__(self, writer: Writer, set_aside: SetAside, threads: int) -> None:
        self._writer = writer
        self._set_aside = set_aside
        self._threads = Inserters(threads)
        self._ending = threading.Event()
        self.answers = True  # whether ClickHouse took the newest insert

    def store(self, ranges: list[Range], now: float) -> Batch:
        """Begin to store them, however long ClickHouse is away."""
        batch = Batch(ranges, now, threading.Event())
        batch.parts = [self._threads.submit(partial(self._write, part, batch.gone)) for part in ranges]
        return batch

    def stop_retrying(self) -> None:
        """An attempt that fails from now on is the last one."""
        self._ending.set()

    def close(self) -> None:
        """End the threads; an insert that is under way has a moment, and is left to itself where that is too short."""
        self._ending.set()
        if not self._threads.close(_CLOSE_SECONDS):
            log.warning("an insert does not end; it is not waited for, and comes again")

    def _write(self, part: Range, gone: threading.Event) -> None:
        if is_topic(part.topic, Topic.DEAD_LETTERS):
            self._patiently(lambda: self._writer.insert_dead_letters(part), gone)
            return
        if is_topic(part.topic, Topic.POLICIES):
            self._documents(part, policy_rows, self._writer.insert_policies, gone)
            return
        if is_topic(part.topic, Topic.FEDERATED):
            self._documents(part, federated_rows, self._writer.insert_federated, gone)
            return
        found = sort(part.rows)
        for row, error in found.unreadable:
            self._set_aside(row, error.reason, error.detail)
        for (kind, version), rows in found.inserts.items():
            for shard, some in self._writer.shards.split(part.partition, rows).items():
                self._insert(part, kind, version, some, shard, gone)

    def _documents(self, part: Range, read: ReadDocuments, insert: InsertDocuments, gone: threading.Event) -> None:
        """Insert what is JSON on its topic."""
        rows, wrong = read(part.rows)
        for row, error in wrong:
            self._set_aside(row, error.reason, error.detail)
        self._patiently(lambda: insert(part, rows), gone)

    def _insert(
        self, part: Range, kind: RecordType, version: int, rows: list[Row], shard: int, gone: threading.Event
    ) -> None:
        try:
            self._patiently(lambda: self._writer.insert(part, kind, version, rows, shard), gone)
        except RowsRefused:
            # A range that is sent again meets the same offenders again, and is cut into the same pieces.
            bad = {row.offset: error for row, error in offenders(rows)}
            for row in rows:
                if row.offset in bad:
                    self._set_aside(row, bad[row.offset].reason, bad[row.offset].detail)
            if sound := [row for row in rows if row.offset not in bad]:
                self._bisect(part, kind, version, sound, shard, gone)

    def _bisect(
        self, part: Range, kind: RecordType, version: int, rows: list[Row], shard: int, gone: threading.Event
    ) -> None:
        piece = Range(part.topic, part.partition, tuple(rows))
        try:
            self._patiently(lambda: self._writer.insert(piece, kind, version, rows, shard), gone)
        except RowsRefused as again:
            if len(rows) == 1:
                self._set_aside(rows[0], DeadLetterReason.INSERT_REFUSED, str(again))
                return
            middle = len(rows) // 2
            self._bisect(part, kind, version, rows[:middle], shard, gone)
            self._bisect(part, kind, version, rows[middle:], shard, gone)

    def _patiently(self, insert: Callable[[], None], gone: threading.Event) -> None:
        pause = _FIRST_WAIT
        while True:
            if gone.is_set():
                raise Abandoned("the partitions went to another sink")
            try:
                insert()
            except RetryLater as error:
                if pause == _FIRST_WAIT:
                    log.warning("%s; trying again until it answers", error)
                metrics.CLICKHOUSE_RETRIES.inc()
                self.answers = False
                until = time.monotonic() + pause * random.uniform(0.5, 1.5)
                while time.monotonic() < until and not gone.wait(0.05):
                    if self._ending.is_set():
                        raise
                pause = min(pause * 2, _MAX_WAIT)
            else:
                self.answers = True
                return
