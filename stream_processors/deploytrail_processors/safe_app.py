"""A Faust app that loses no event in a rebalance and commits nothing before its outputs are delivered.

Stock Faust 0.15.3 with tables loses events when members join or leave under load. Six repairs,
each over private methods, so the version is pinned and checked:

1. Stream partitions resume only after the seek to the committed offset and after the queues were
   cleared (stock: before both, so records fetched in between are cleared away).
2. A fetched record that is not delivered moves the position back (stock: drops it, or seeks in the
   middle of a recovery).
3. No commit passes over an event that was not acknowledged (stock: allows a hole of one).
4. A barrier is awaited before each commit: everything forwarded so far has been delivered.
5. So has every write to a changelog: tables write through the same forwarder (stock: gives up
   waiting for them after 0.1 s, and only logs those that failed, so that a commit may pass over
   state that is nowhere but in memory).
6. Tables are read back as they were at the committed offset, where the stream begins as well
   (`recovery`; stock: with some of what was written on records that come again).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust
from aiokafka.errors import IllegalStateError
from deploytrail_schemas.errors import MissingDependencyError
from faust.sensors.monitor import Monitor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import WaitResults

from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.recovery import Tables
from deploytrail_processors.tables import Progress, Table

FAUST_VERSION = "0.15.3"
# aiokafka has one fetch under way per broker, and leaves out partitions whose records it still holds: until that
# fetch ends they wait. Faust lets it wait 1.5 s, which is what a busy partition beside idle ones then lags.
FETCH_WAIT_MS = 25
# Nor does it end with the first record: one by one, events cost twice as much here and at the broker.
FETCH_MIN_BYTES = 16 << 10
# While nothing comes at all, no partition can be left out, and a fetch ends with whatever comes first: forty fetches a
# second of each app would only keep the broker busy.
IDLE_FETCH_WAIT_MS = 200
IDLE_AFTER = 0.25  # seconds
Barrier = Callable[[], Awaitable[None]]


class QuickConsumerThread(driver.AIOKafkaConsumerThread):
    """The client's thread, whose fetches do not wait for partitions that are idle."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    def pace(self, *, busy: bool) -> None:
        """How long the next fetches may wait, after a poll that brought something, or nothing."""
        if self._consumer is not None and self._consumer._fetcher is not None:
            fetcher = self._consumer._fetcher
            fetcher._fetch_max_wait_ms = FETCH_WAIT_MS if busy else IDLE_FETCH_WAIT_MS
            fetcher._fetch_min_bytes = FETCH_MIN_BYTES if busy else 1


class QuietMonitor(Monitor):
    """Faust's own figures of each event, message and table are read by nobody: ours are in `metrics`. Left is what it
    takes to warn of a stream that stands still."""

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        """Not counted."""

    def on_message_out(self, tp: TP, offset: int, message: Any) -> None:
        """Not counted."""

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: Any) -> None:  # noqa: ARG002  # Faust's
        """When a partition's stream last got an event."""
        self.stream_inbound_time[tp] = time.monotonic()

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """Not counted."""

    def on_table_get(self, table: Any, key: Any) -> None:
        """Not counted."""

    def on_table_set(self, table: Any, key: Any, value: Any) -> None:
        """Not counted."""


class SafeConsumer(driver.Consumer):
    """The repaired consumer."""

    def _new_consumer_thread(self) -> Any:
        return QuickConsumerThread(self, loop=self.loop, beacon=self.beacon)

    barrier: Barrier | None = None
    _held: frozenset[TP] = frozenset()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Repair 1: changelogs resume at once, streams wait for `resume_flow`."""
        wanted = set(tps)
        streams = {tp for tp in wanted if not self._is_changelog_tp(tp)}
        self._held |= streams
        super().resume_partitions(wanted - streams)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """A paused partition is no longer waiting to be resumed."""
        wanted = set(tps)
        self._held -= wanted
        super().pause_partitions(wanted)

    def resume_flow(self) -> None:
        """Repair 1: the seek is done and the queues are clear."""
        held, self._held = self._held, frozenset()
        if held:
            super().resume_partitions(held)
        super().resume_flow()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Repair 2: what was fetched is delivered, or fetched again."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # as stock Faust calls it
        active = set(self._get_active_partitions())
        generation = self.app.consumer_generation_id
        if self.should_stop:
            return
        if not active:
            await self.sleep(0.2)
            return
        # A long poll would hold the thread that the coming seek needs.
        wait = 0.1 if self._held or self.app.rebalancing else min(timeout, IDLE_AFTER)
        records = await self._getmany(active, wait)
        self._thread.pace(busy=bool(records))  # type: ignore[attr-defined]  # see `_new_consumer_thread`
        if not records or self.should_stop:
            return
        for tp in records:  # once for all of them: asked for each it would cost as much as delivering it
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        undelivered: dict[TP, int] = {}
        for tp, record in self.scheduler.iterate(records):
            if tp not in undelivered and self._may_deliver(tp, generation):
                yield tp, self._to_message(tp, record)
            else:
                undelivered.setdefault(tp, record.offset)
        if undelivered:
            await self._thread.call_thread(self._rewind, undelivered)

    def _may_deliver(self, tp: TP, generation: int) -> bool:
        if not self.flow_active or generation != self.app.consumer_generation_id:
            return False
        return tp in self._active_partitions or tp in self._buffered_partitions

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        """A record is handed over beside a wait for the flow to stop, by four tasks, though most are taken at once.

        Only what has to wait, such as for room in the queue, waits as in stock Faust.
        """
        if timeout is not None or len(coros) != 2 or not asyncio.iscoroutine(coros[0]):
            return await super().wait_first(*coros, timeout=timeout)
        delivery, flow_stops = coros
        try:
            awaited = delivery.send(None)
        except StopIteration:
            flow_stops.close()
            return WaitResults([delivery], [None], stopped=False)
        except BaseException:
            flow_stops.close()
            raise
        return await super().wait_first(Begun(delivery, awaited), flow_stops)

    async def _rewind(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._thread._ensure_consumer()
        for tp, offset in offsets.items():
            partition = driver.ensure_aiokafka_TP(tp)
            try:
                if partition in consumer.assignment() and await consumer.position(partition) > offset:
                    consumer.seek(partition, offset)
            except IllegalStateError:
                continue  # revoked meanwhile: its next owner begins at the committed offset

    def _new_offset(self, tp: TP) -> int | None:
        """Repair 3: the oldest acknowledged event must follow the committed one directly."""
        acked, committed = self._acked[tp], self._committed_offset[tp]
        if acked and committed is not None and not self._gap.get(tp) and min(acked) > committed:
            return None
        offset: int | None = super()._new_offset(tp)
        return offset

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Repairs 4 and 5: outputs and rows first."""
        generation = self.app.consumer_generation_id
        if self.barrier is not None:
            try:
                await self.barrier()
            except Exception as error:
                await self.app.crash(error)
                return False  # commit nothing, and stand in the way of nothing: the crash ends the process
        committed: bool = await super()._commit(offsets)
        if committed and generation == self.app.consumer_generation_id:  # the rows in memory are still the same
            progress = self._progress
            progress.at.update({tp.partition: offset for tp, offset in offsets.items() if tp.topic == progress.topic})
        return committed

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Repair 6: what is acknowledged is committed before stock Faust forgets it, and is not told again."""
        if not self.app.should_stop and self.assignment():
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self.wait_empty()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Repair 6: what an earlier assignment acknowledged late comes again, and must not be committed.

        Nothing is delivered before the tables are read, nor in the moment before Faust pauses what is new.
        """
        self.pause_partitions(assigned)
        for tp in assigned:
            for kept in (self._acked, self._acked_index, self._gap):
                kept.pop(tp, None)
        await super().on_partitions_assigned(assigned, generation_id)

    @property
    def _progress(self) -> Progress:
        progress: Progress = self.app.progress  # type: ignore[attr-defined]  # a SafeApp has it
        return progress

    async def cuts(self, topic: str, partitions: set[int]) -> dict[int, int | None]:
        """Repair 6: where each partition of a stream goes on; None where nothing was committed and its first records
        are gone, so that nobody knows."""
        assigned = {TP(topic, partition) for partition in partitions} & set(self.assignment())
        found: dict[TP, int | None] = await self._thread.call_thread(self._committed, assigned)
        begins = await self.earliest_offsets(*found) if found else {}
        return {tp.partition: _goes_on(offset, begins.get(tp) or 0) for tp, offset in found.items()}

    async def _committed(self, tps: set[TP]) -> dict[TP, int | None]:
        consumer = self._thread._ensure_consumer()
        return {tp: await consumer.committed(driver.ensure_aiokafka_TP(tp)) for tp in tps}

    async def perform_seek(self) -> None:
        """Repair 6: to where the tables are, should a commit of before the rebalance have come through since.

        Also where nothing is committed yet: there stock Faust seeks nothing, and stays behind what was fetched.
        """
        await super().perform_seek()
        tables: Any = self.app.tables
        cuts = {TP(self._progress.topic, partition): cut for partition, cut in (tables.recovery.cuts or {}).items()}
        away = {tp: cut for tp, cut in cuts.items() if self._read_offset[tp] != cut or not cut}
        if away:
            await self.seek_wait(away)
            for tp, cut in away.items():
                self._read_offset[tp] = self._committed_offset[tp] = cut or None


def _goes_on(committed: int | None, begin: int) -> int | None:
    if committed is None:
        return None if begin else 0
    return max(committed, begin)  # what was not read in time is gone


@dataclass(frozen=True, slots=True)
class Begun:
    """A coroutine that waits for something already, to be awaited: hands to the loop what it waits for, and back what
    the loop says."""

    coroutine: Coroutine[Any, Any, Any]
    awaited: Any

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited = self.awaited
        while True:
            try:
                answer = yield awaited
            except BaseException as error:
                step = partial(self.coroutine.throw, error)
            else:
                step = partial(self.coroutine.send, answer)
            try:
                awaited = step()
            except StopIteration as done:
                return done.value


class SafeApp(faust.App):
    """A Faust app with the repaired consumer; tables write through `forwarder`. Set `before_start` before it starts.

    `follows`: the topic that the tables follow from, by whose committed offsets they are read back; empty: without.
    """

    before_start: Barrier | None = None

    def __init__(self, *args: Any, forwarder: Forwarder, follows: str = "", **options: Any) -> None:
        installed = importlib.metadata.version("faust-streaming")
        if installed != FAUST_VERSION:
            raise MissingDependencyError(
                f"faust-streaming {installed} is installed; the repairs fit {FAUST_VERSION} only: install that"
            )
        super().__init__(*args, monitor=QuietMonitor(), Table=Table, TableManager=Tables, **options)
        self.forwarder = forwarder
        self.progress = Progress(follows)

    async def on_start(self) -> None:
        """Do `before_start` before the app joins its group."""
        if self.before_start is not None:
            await self.before_start()
        await super().on_start()

    def _new_consumer(self) -> Any:
        self.transport.Consumer = SafeConsumer  # type: ignore[misc]  # the driver offers no other way in
        consumer: Any = super()._new_consumer()
        consumer.barrier = self.forwarder.barrier
        return consumer
