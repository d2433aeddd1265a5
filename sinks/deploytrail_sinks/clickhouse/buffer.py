"""Messages that wait to be inserted, and when it is time. Pure: `now` is an argument, in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from deploytrail_sinks.clickhouse.batches import Range, Row

OVERHEAD_BYTES = 300  # what a waiting message takes beside its value
SHORTEST_WAIT = 0.03  # seconds: a part per table and flush, and merges must keep up
# Between two batches as long as one usually takes: rows gather beside the insert, and without a rest all of the time
# would go into its fixed costs, which are those of a thousand rows, and as much again into merging what it made.
# Usually, since a batch that stood still for once was no load, and its rows have waited long enough.
_USUAL_OF = 5  # newest batches: the mean of all but the longest

Place = tuple[str, int]  # topic, partition
Offsets = dict[Place, int]
Span = tuple[int, int]  # first offset, offset behind the last


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is whole or due, whichever comes first; with a whole one waiting, nothing more is read.

    So two batches are in memory at most, the one that is being stored among them, and what one reading brings.
    """

    rows: int
    bytes: int
    seconds: float


@dataclass(slots=True)
class Pending:
    """Messages of one partition that are in no batch yet."""

    rows: list[Row] = field(default_factory=list)
    announced: Span | None = None  # a range that somebody announced: to be sent as it was


class Buffer:
    """What is waiting, by partition."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wait = min(SHORTEST_WAIT, limits.seconds)
        self._rests_until = float("-inf")
        self._took: deque[float] = deque(maxlen=_USUAL_OF)
        self._oldest: float | None = None
        self.pending: dict[Place, Pending] = {}
        self.rows = 0
        self.bytes = 0

    def assign(self, announced: dict[Place, Span | None]) -> None:
        """Forget everything: these partitions are ours now, some with a range that somebody announced."""
        self.pending = {place: Pending(announced=span) for place, span in announced.items()}
        self.rows = self.bytes = 0
        self._oldest = None

    def add(self, row: Row, now: float) -> None:
        """Take a message in. One of a partition that is no longer ours is left to whoever has it."""
        pending = self.pending.get((row.topic, row.partition))
        if pending is None:
            return
        rows = pending.rows
        if rows and row.offset <= rows[-1].offset:
            self._drop(pending)  # read before the partition went and came back
            rows = pending.rows
        rows.append(row)
        self.rows += 1
        self.bytes += _size(row)
        if self._oldest is None:
            self._oldest = now

    def _drop(self, pending: Pending) -> None:
        self.rows -= len(pending.rows)
        self.bytes -= sum(_size(row) for row in pending.rows)
        pending.rows = []

    def took(self, seconds: float, now: float) -> None:
        """A batch that ended at `now` took so long: quick ones let rows be visible soon, slow ones let batches grow."""
        self._took.append(seconds)
        usual = seconds if len(self._took) == 1 else (sum(self._took) - max(self._took)) / (len(self._took) - 1)
        self._rests_until = now + min(usual, self._limits.seconds)

    def due_in(self, now: float) -> float | None:
        """Seconds until a batch is due, 0 when it is; None while nothing waits."""
        if self._oldest is None:
            return None
        if self.is_whole():
            return 0.0
        due = min(max(self._oldest + self._wait, self._rests_until), self._oldest + self._limits.seconds)
        return max(0.0, due - now)

    def is_whole(self) -> bool:
        """Whether as much waits as a batch may have."""
        return self.rows >= self._limits.rows or self.bytes >= self._limits.bytes

    def is_full(self) -> bool:
        """Whether to read no further until a batch is stored. An announced range is read whole, whatever the limits."""
        return self.is_whole() and not self.announced

    @property
    def announced(self) -> bool:
        """Whether a range that somebody announced is still to be sent."""
        return any(pending.announced is not None for pending in self.pending.values())

    def take(self, now: float) -> list[Range]:
        """The ranges of the next batch; what is left, waits on."""
        self._oldest = None
        ranges = [part for place in self.pending if (part := self._range(place, now)) is not None]
        self.rows -= sum(len(part.rows) for part in ranges)
        left = (row for pending in self.pending.values() for row in pending.rows)
        self.bytes = sum(map(_size, left)) if self.rows else 0
        return ranges

    def _range(self, place: Place, now: float) -> Range | None:
        """The next range of a partition: the announced one once it is whole, else as much as a batch may have."""
        pending = self.pending[place]
        rows, begin = pending.rows, None
        if pending.announced is not None:
            begin, end = pending.announced
            if not rows or rows[-1].offset + 1 < end:
                if rows:
                    self._oldest = now
                return None
            # The rest follows in a range of its own, which is not announced yet.
            pending.announced = None
            count = next((i for i, row in enumerate(rows) if row.offset >= end), len(rows))
        else:
            count = self._fitting(rows)
        pending.rows = rows[count:]
        if pending.rows:
            self._oldest = now - self._limits.seconds  # it has waited long enough
        return Range(*place, tuple(rows[:count]), begin) if count else None

    def _fitting(self, rows: list[Row]) -> int:
        # Partitions share the limits unknowingly, so a batch may have several times as much, never a partition.
        if len(rows) <= self._limits.rows and self.bytes <= self._limits.bytes:
            return len(rows)
        size = 0
        for count, row in enumerate(rows):
            size += _size(row)
            if count >= self._limits.rows or (size > self._limits.bytes and count):
                return count
        return len(rows)


def _size(row: Row) -> int:
    return OVERHEAD_BYTES + len(row.value or b"")
