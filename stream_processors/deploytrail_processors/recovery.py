"""Tables as they were at the committed offset, however the worker before ended.

Rows reach their changelogs before the offsets of the records they were written on are committed. So after a crash the
changelogs are ahead, and each by another bit: one table knows of a record that another does not. Stock Faust takes
them as they are, and the records that come again meet a state that has seen some of what comes later. Here rows are
left out that were written on a record which comes again (`Table.cuts`): it meets what it met the first time, and
writes what it wrote then. Left out as well are rows of a worker that was paused until it had lost its partition, and
wrote some more when it woke: those behind rows of later records.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from deploytrail_schemas.errors import RetryLater
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP

from deploytrail_processors.tables import SPARED_SECONDS, Progress, Table

log = logging.getLogger(__name__)


# Rows that are ahead are left out while what stood before them is certainly there: compaction spares it for longer.
CUT_WITHIN_SECONDS = SPARED_SECONDS - 3600


class CutRecovery(Recovery):
    """Reads the tables of each assigned partition as they were at its committed offset.

    A partition that the worker keeps through a rebalance, and whose rows in memory are those of the committed offset,
    is not read again.
    """

    def __init__(self, app: Any, tables: Any, **options: Any) -> None:
        super().__init__(app, tables, **options)
        self._progress: Progress = app.progress
        self.cuts: dict[int, int] | None = None  # by partition; None until they are found for this assignment
        self._revoked = False

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """A rebalance has begun: a recovery that comes to its end now is none."""
        self._revoked = True
        super().on_partitions_revoked(revoked)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """The assignment has changed."""
        if generation_id != self._generation_id + 1:
            self._progress.at.clear()  # others may have had the partitions meanwhile, and left rows
        self.cuts, self._revoked = None, False
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        """RetryLater where Kafka does not answer in time: Faust takes that for its own stop, and waits for good.

        RebalanceAgain where a rebalance has begun meanwhile: streams must not go on until it has ended.
        """
        try:
            await super()._wait(coro, timeout)
        except ServiceStopped:
            if self.should_stop or self.app.should_stop:
                raise
            raise RetryLater("Kafka does not answer: tables cannot be read back") from None
        if self._revoked:
            raise RebalanceAgain

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        """From where on changelogs are read: their begin, or their end where nothing has changed."""
        progress = self._progress
        if title != "active" or not progress.topic:
            await super()._build_offsets(consumer, tps, destination, title)
            return
        partitions = {tp.partition for tp in tps}
        generation = self._generation_id
        found = await consumer.cuts(progress.topic, partitions)
        if generation != self._generation_id:
            return  # of another assignment, whose recovery is about to begin
        unchanged = {partition for partition in partitions if progress.is_at(partition, found.get(partition))}
        progress.at = {partition: progress.at[partition] for partition in unchanged}
        cuts = {partition: cut for partition, cut in found.items() if cut is not None}
        for table in self._tables():
            table.forget(partitions - unchanged)
            table.cuts = cuts
        for tp in tps:
            if tp.partition not in unchanged:
                destination[tp] = None
        await super()._build_offsets(consumer, tps, destination, title)
        for tp in tps:
            if tp.partition in unchanged:
                destination[tp] = self.active_highwaters[tp]
        self.cuts = cuts

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """The changelogs were read."""
        if self._revoked:
            raise RebalanceAgain
        if self._progress.topic and generation_id == self.app.consumer_generation_id:
            if self.cuts is None:
                raise RetryLater("Kafka does not tell which offsets are committed")
            for partition, cut in self.cuts.items():
                self._settle(partition, cut)
            self._progress.at = dict(self.cuts)
            self._progress.written.clear()
        await super().on_recovery_completed(generation_id)

    def _settle(self, partition: int, cut: int) -> None:
        """All tables or none: they must be of one offset."""
        since = [at for table in self._tables() if (at := table.ahead_since(partition)) is not None]
        stay = bool(since) and time.time() - min(since) > CUT_WITHIN_SECONDS
        if stay:
            log.warning(
                "%s: rows of partition %d were ahead of the committed offset %d for too long; they stay, "
                "and the records from there on are told to them again", self.app.conf.id, partition, cut
            )  # fmt: skip
        for table in self._tables():
            table.settle(partition, stay=stay)

    def _tables(self) -> list[Table]:
        return [table for table in self.tables.values() if isinstance(table, Table)]


class Tables(TableManager):
    """The tables of an app, which are read back by `CutRecovery`."""

    @property
    def recovery(self) -> CutRecovery:
        """What reads them."""
        if self._recovery is None:
            self._recovery = CutRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        assert isinstance(self._recovery, CutRecovery)
        return self._recovery
