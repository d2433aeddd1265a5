"""One sequence of segments: the records of one partition and class, in order of offset.

What is pending is a value; closing a segment is one create in the store. Whoever comes second to
the same name, after a crash or as a zombie, finds the object there, compares, and goes on behind it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Keep, Policy, RetentionClass, retain_until
from deploytrail_sinks.archive.segment import (
    Record,
    Segment,
    SegmentError,
    digest,
    folder_name,
    read_segment,
    salted,
    write_segment,
)
from deploytrail_sinks.archive.store import ObjectExists, ObjectStore


class ArchiveConflict(SegmentError):
    """An object holds something else than Kafka does: somebody must look; nothing goes on."""


class Sequence:
    """A class of a partition. `next_offset` is the first that no segment covers yet; None before the first."""

    def __init__(
        self,
        store: ObjectStore,
        topic: str,
        partition: int,
        retention_class: RetentionClass,
        *,
        compacted: bool = False,
        policy: Policy = DEFAULT_POLICY,
        on_stored: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_stored = on_stored  # told of each segment once it is there, perhaps more than once
        self._store, self._policy = store, policy
        self._keep = policy[retention_class]  # of the segment that is pending
        self._compacted = compacted
        self._topic, self._partition, self._class = topic, partition, retention_class
        self.pending: list[Record] = []
        self.pending_bytes = 0
        self.next_offset: int | None = None
        self.first_offset: int | None = None  # of the first segment in the store
        self._held: frozenset[int] = frozenset()  # offsets of the last segment ...
        self._held_from = 0  # ... which begins here
        self._last_sha256 = self._last_version = ""
        self._gaps: list[tuple[int, int]] = []

    def resume(self) -> None:
        """Find the end of the sequence in the store."""
        self.pending, self.pending_bytes, self._gaps = [], 0, []
        self._keep = self._policy[self._class]
        names = list(self._store.list(folder_name(self._topic, self._partition, self._class)))
        if names:
            self.first_offset = int(names[0].rpartition("/")[2].removesuffix(".avro"))
            self._store.settle(names[-1])
            self._on_stored(names[-1])
            self._go_behind(names[-1])

    @property
    def last_sha256(self) -> str:
        """The digest of the segment that the next one follows; empty before the first."""
        return self._last_sha256

    def begin(self, offset: int) -> None:
        """The first offset that is seen of the partition, where the sequence does not begin yet."""
        if self.next_offset is None:
            self.next_offset = offset

    def note_gap(self, first: int, last: int) -> None:
        """Offsets that Kafka no longer has; those that a segment covers are no gap."""
        assert self.next_offset is not None
        if last >= self.next_offset:
            self._gaps.append((max(first, self.next_offset), last))

    def add(self, record: Record, asked: Keep | None = None) -> bool:
        """Take a record of this class, whose segment is kept as a policy asked, too; False where a segment holds it
        already."""
        if self.next_offset is not None and record.offset < self.next_offset:
            return False
        self.pending.append(record if record.salt else salted(record))
        self._keep = self._keep.and_more(asked)
        self.pending_bytes += len(record.value or b"") + len(record.key or b"") + 64
        return True

    def holds(self, offset: int) -> bool:
        """Whether a stored segment has the record. What lies before the last one was checked when that was written."""
        if self.next_offset is None or offset >= self.next_offset:
            return False
        return offset < self._held_from or offset in self._held

    def safe_offset(self, position: int) -> int:
        """The offset that may be committed as far as this class goes: nothing before it is only pending."""
        if self._gaps:
            return min(self._gaps[0][0], self.pending[0].offset if self.pending else position)
        return self.pending[0].offset if self.pending else position

    def close_segment(self, position: int, newest_ms: int) -> str | None:
        """Store what is pending as one segment that reaches to `position` - 1, and return its name.

        `newest_ms`: timestamp of the newest record of the partition, for a segment without records.

        None where nothing is pending. Durable when it returns. ArchiveConflict where an object of
        that name holds something else.
        """
        while (self.pending or self._gaps) and self.next_offset is not None:
            newest = max((record.timestamp for record in self.pending), default=newest_ms)
            until = retain_until(self._class, newest, {self._class: self._keep})
            segment = Segment(
                self._topic,
                self._partition,
                self._class.value,
                self.next_offset,
                position - 1,
                self._last_sha256,
                tuple(self.pending),
                tuple(self._gaps),
                self._compacted,
                self._last_version,
                until,
            )
            data = write_segment(segment)
            try:
                version = self._store.create(segment.name, data, until, self._keep.terms)
            except ObjectExists:
                self._adopt(segment)
                continue
            self._on_stored(segment.name)  # where that fails, the same bytes are created again
            self._advance(segment, digest(data), version)
            self.pending, self.pending_bytes, self._gaps = [], 0, []
            self._keep = self._policy[self._class]
            return segment.name
        return None

    def _adopt(self, mine: Segment) -> None:
        """Go on behind an object that somebody else created, once it is what we would have written."""
        data, version = self._found(mine.name)
        theirs = read_segment(data)
        if theirs.previous_sha256 != mine.previous_sha256:
            raise ArchiveConflict(f"{mine.name} follows another segment than the one before it")
        cut = bisect.bisect_right(self.pending, theirs.last_offset, key=lambda record: record.offset)
        ours = [record.content() for record in self.pending[:cut]]
        held = [record.content() for record in theirs.records]
        # It may reach farther than we have read: then what it holds must begin with what we have.
        farther = theirs.last_offset > mine.last_offset
        if (held[: len(ours)] if farther else held) != ours:
            raise ArchiveConflict(f"{mine.name} holds other records than the topic does")
        self._on_stored(mine.name)
        self._advance(theirs, digest(data), version)
        self.pending = self.pending[cut:]
        self.pending_bytes = sum(len(r.value or b"") + len(r.key or b"") + 64 for r in self.pending)
        self._gaps = [
            (max(first, theirs.last_offset + 1), last) for first, last in self._gaps if last > theirs.last_offset
        ]

    def _found(self, name: str) -> tuple[bytes, str]:
        first = next((v.id for v in self._store.versions(name) if not v.is_deletion), "")
        try:
            return self._store.read(name, first), first
        except KeyError:
            raise ArchiveConflict(f"{name} is listed and is no object; the sequence cannot go on behind it") from None

    def _go_behind(self, name: str) -> None:
        data, version = self._found(name)
        try:
            segment = read_segment(data)
        except SegmentError as error:
            raise ArchiveConflict(f"{name} {error}; the sequence cannot go on behind it") from error
        self._advance(segment, digest(data), version)

    def _advance(self, stored: Segment, sha256: str, version: str) -> None:
        self.next_offset, self._last_sha256, self._last_version = stored.last_offset + 1, sha256, version
        self._held = frozenset(record.offset for record in stored.records)
        self._held_from = stored.first_offset
