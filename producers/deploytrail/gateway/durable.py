"""Records are made durable in Kafka, or in the gateway's own spool while Kafka is away.

Known to be away, Kafka is not asked again by requests: they are kept at once, many with one fsync.
One task asks it, and moves what the spool holds into it, oldest first; until all of that is there,
new records go behind it, so that what one producer reports stays in its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import RetryLater

from deploytrail.gateway import metrics
from deploytrail.gateway.publisher import Broker, Busy, Outgoing, Readiness, Unpublishable
from deploytrail.gateway.spool import Spool, SpoolFull
from deploytrail.gateway.spool_folder import Batch

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
# What may wait for Kafka or the disk at a time; beyond that callers are told to slow down.
MAX_WAITING = 50_000
MAX_WAITING_BYTES = 64 << 20
PATIENCE = 2.0  # seconds after which records that Kafka has not taken are kept in the spool
PAUSE = 0.5  # seconds between two questions to a Kafka that is away
LOOK_SECONDS = 10.0  # how often folders of processes that are gone are looked for


class DurablePublisher:
    """A Publisher over a Broker and, unless it is None, a spool. `start` and `close` belong to one event loop."""

    def __init__(self, kafka: Broker, spool: Spool | None = None) -> None:
        self._kafka = kafka
        self._spool = spool
        self._away = False
        self._direct = spool is None or spool.is_empty  # records go to Kafka, nothing is before them
        self._waiting = self._waiting_bytes = 0
        self._groups: list[tuple[list[bytes], asyncio.Future[None]]] = []
        self._to_keep = asyncio.Event()
        self._to_drain = asyncio.Event()
        self._writing = asyncio.Lock()
        self._disk = ThreadPoolExecutor(2, "spool")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to drain; needs a running event loop."""
        self._tasks = [asyncio.create_task(self._drain())]
        if self._spool is not None:
            self._tasks.append(asyncio.create_task(self._keep_groups(self._spool)))

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """See Publisher. Busy where too much is waiting already."""
        size = sum(len(record.value) for record in records)
        waiting, waiting_bytes = self._waiting + len(records), self._waiting_bytes + size
        if self._waiting and (waiting > MAX_WAITING or waiting_bytes > MAX_WAITING_BYTES):
            raise Busy(f"{counted(self._waiting, 'record is', 'records are')} waiting to be stored")
        self._waiting, self._waiting_bytes = waiting, waiting_bytes
        try:
            if not self._direct or not await self._is_published(records):
                await self._keep(records)
        finally:
            self._waiting -= len(records)
            self._waiting_bytes -= size

    async def readiness(self) -> Readiness:
        """See Publisher: ready while records can be made durable, wherever that is."""
        if self._direct and not self._away and await self._kafka.answers():
            return Readiness(True, "ready", kafka=True)
        if self._spool is None:
            return Readiness(False, "Kafka does not answer, and there is no spool")
        waiting = counted(self._spool.waiting, "record waits", "records wait")
        held = f"{waiting} in the spool, {self._spool.used} of {self._spool.max_bytes} bytes"
        if self._spool.is_full:
            return Readiness(False, f"Kafka does not answer, and the spool is full: {held}")
        if self._away or self._direct:
            return Readiness(True, f"ready, but Kafka does not take records now: {held}")
        return Readiness(True, f"ready, and the spool is being drained: {held}")

    def close(self) -> None:
        """Stop; what the spool holds waits for the next process."""
        for task in self._tasks:
            task.cancel()
        self._disk.shutdown()
        if self._away:
            self._kafka.give_up()
        if self._spool is not None:
            self._spool.close()
        self._kafka.close()

    async def _is_published(self, records: Sequence[Outgoing]) -> bool:
        """Whether Kafka took them; RetryLater where it did not and there is no spool."""
        if self._spool is None:
            if self._away:
                raise RetryLater("Kafka does not answer")
            try:
                await self._kafka.publish(records)
            except Unpublishable:
                raise
            except RetryLater as error:
                self._is_away(error)
                raise
            return True
        try:
            async with asyncio.timeout(PATIENCE):
                await self._kafka.publish(records)
        except Unpublishable:
            raise
        except (RetryLater, TimeoutError) as error:
            self._is_away(error)
            return False
        return True

    def _is_away(self, error: Exception) -> None:
        if not self._away:
            then = "refused until it does" if self._spool is None else "kept in the spool"
            _log.warning("Kafka does not take records, which are %s: %s", then, str(error) or "no answer")
            self._away = True
            metrics.KAFKA_AWAY.set(1)
        if self._spool is not None and self._direct:
            self._direct = False
            self._kafka.give_up()
        self._to_drain.set()

    def _is_back(self) -> None:
        if self._away:
            _log.warning("Kafka takes records again")
            self._away = False
            metrics.KAFKA_AWAY.set(0)

    async def _keep(self, records: Sequence[Outgoing]) -> None:
        assert self._spool is not None
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._groups.append((self._spool.reserve(records), kept))
        self._to_keep.set()
        await kept

    async def _keep_groups(self, spool: Spool) -> None:
        """Many requests share one fsync: those that came while the one before was made."""
        while True:
            await self._to_keep.wait()
            self._to_keep.clear()
            async with self._writing:
                groups, self._groups = self._groups, []
                packed = [one for group, _ in groups for one in group]
                problem: Exception | None = None
                try:
                    if packed:
                        await self._on_disk(spool.append, packed)
                except SpoolFull as error:
                    problem = error
                    _log.error("%s", error)
            for _, kept in groups:
                if kept.done():
                    continue
                if problem is None:
                    kept.set_result(None)
                else:
                    kept.set_exception(problem)

    async def _drain(self) -> None:
        while True:
            try:
                if self._away and not await self._kafka.answers():
                    await asyncio.sleep(PAUSE)
                elif self._spool is None:
                    self._is_back()
                    await self._until_needed()
                elif self._direct:
                    await self._until_needed()
                    self._direct = not await self._on_disk(self._spool.adopt) and self._direct
                else:
                    await self._move(self._spool)
            except RetryLater as error:
                self._is_away(error)
                await asyncio.sleep(PAUSE)
            except Exception:  # the disk, mostly: nothing is drained meanwhile, and nothing is lost
                _log.exception("the spool cannot be drained now")
                await asyncio.sleep(PAUSE)

    async def _until_needed(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._to_drain.wait()
        self._to_drain.clear()

    async def _move(self, spool: Spool) -> None:
        """The oldest batch into Kafka; where there is none, back to writing to Kafka directly."""
        batch = await self._on_disk(spool.read)
        if batch.records:
            await self._into_kafka(spool, batch)
            self._is_back()
            await self._on_disk(spool.published, batch)
            return
        async with self._writing:
            if self._groups or (await self._on_disk(spool.read)).records:
                return
            await self._on_disk(spool.clear)
            if not self._groups:
                self._direct = True
                self._is_back()

    async def _into_kafka(self, spool: Spool, batch: Batch) -> None:
        try:
            await self._kafka.publish(batch.records)
        except Unpublishable:
            for record in batch.records:
                try:
                    await self._kafka.publish([record])
                except Unpublishable as error:
                    await self._on_disk(spool.set_aside, record, str(error))

    async def _on_disk(self, act: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, act, *arguments)
