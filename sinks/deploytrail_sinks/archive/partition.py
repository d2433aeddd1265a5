"""One partition's sequences: every record goes to its class, and tells what may be committed."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TypeAlias

from deploytrail_schemas.codec import DecodeError
from deploytrail_schemas.policies.in_force import InForce
from deploytrail_schemas.registry import SingleObject, WireFormat

from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Judge, Policy, RetentionClass
from deploytrail_sinks.archive.segment import Record
from deploytrail_sinks.archive.sequence import ArchiveConflict, Sequence
from deploytrail_sinks.archive.store import ObjectStore

PoliciesAt: TypeAlias = Callable[[int], InForce]  # those of an instant, microseconds
_NOTHING = InForce()


def nothing_in_force(_: int) -> InForce:
    """No policy at any time: the setting holds."""
    return _NOTHING


class PartitionArchive:
    """Takes the records of a partition in order of offset."""

    def __init__(
        self,
        store: ObjectStore,
        topic: str,
        partition: int,
        regulated: Set[str],
        *,
        compacted: bool = False,
        wire: WireFormat | None = None,
        policy: Policy = DEFAULT_POLICY,
        policies_at: PoliciesAt = nothing_in_force,
        on_stored: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._wire = wire or SingleObject()
        self._compacted = compacted
        self.topic, self.partition = topic, partition
        self._judge, self._policies_at = Judge(regulated), policies_at
        self._sequences = {
            c: Sequence(store, topic, partition, c, compacted=compacted, policy=policy, on_stored=on_stored)
            for c in RetentionClass
        }
        self._first_seen: int | None = None
        self._committed: int | None = None
        self._newest_ms = 0
        self.position: int | None = None  # the offset behind the last record that was taken

    def resume(self, committed: int | None = None) -> None:
        """Find where each class ends in the store. `committed`: the offset that must come first, if known."""
        self.position = self._first_seen = None
        self._committed = committed
        for sequence in self._sequences.values():
            sequence.resume()

    def add(self, record: Record) -> list[tuple[int, int]]:
        """Take the next record; the gap before it, if Kafka skipped offsets."""
        gaps = []
        if self._first_seen is None:
            self._first_seen = record.offset
        expected = self.position if self.position is not None else self._expected()
        for sequence in self._sequences.values():
            sequence.begin(self._begin(record.offset))
        if expected is not None and record.offset > expected and not self._compacted:
            gaps.append((expected, record.offset - 1))
            for sequence in self._sequences.values():
                sequence.note_gap(expected, record.offset - 1)
        self._take(record)
        self._newest_ms = max(self._newest_ms, record.timestamp)
        self.position = record.offset + 1
        return gaps

    def _take(self, record: Record) -> None:
        in_force = self._policies_at(record.timestamp * 1000)
        chosen, asked = self._judge.judge(plain_value(self._wire, record.value), in_force)
        if self._sequences[chosen].add(record, asked) or any(s.holds(record.offset) for s in self._sequences.values()):
            return
        # Its class was another one when the range was stored without it, before a crash: another takes it,
        # the one that is kept longest first.
        if not any(sequence.add(record, asked) for sequence in self._sequences.values()):
            raise ArchiveConflict(
                f"{self.topic}/{self.partition}: offset {record.offset} is in no segment, and every class is past it"
            )

    def safe_offset(self) -> int | None:
        """The offset that may be committed; None before the first record."""
        if self.position is None:
            return None
        return min(sequence.safe_offset(self.position) for sequence in self._sequences.values())

    def pending(self) -> tuple[int, int]:
        """Records and bytes that are not durable yet."""
        sequences = self._sequences.values()
        return sum(len(s.pending) for s in sequences), sum(s.pending_bytes for s in sequences)

    def close_segments(self) -> list[str]:
        """Make everything taken so far durable; the names of the objects."""
        if self.position is None:
            return []
        names = (sequence.close_segment(self.position, self._newest_ms) for sequence in self._sequences.values())
        return [name for name in names if name]

    def _begin(self, offset: int) -> int:
        """Where every class of the partition begins, also one whose first record comes much later: two
        writers must give its first segment the same name."""
        firsts = [s.first_offset for s in self._sequences.values() if s.first_offset is not None]
        return min([*firsts, self._first_seen if self._first_seen is not None else offset])

    def _expected(self) -> int | None:
        """The offset that must come first after a restart: what was committed. Where nobody says what
        that was, the end of the farthest class, since every record belongs to some class."""
        if self._committed is not None:
            return self._committed
        ends = [s.next_offset for s in self._sequences.values() if s.next_offset is not None]
        return max(ends) if ends else None


def plain_value(wire: WireFormat, value: bytes | None) -> bytes | None:
    """A value as a `Judge` reads it; as it is where its schema is unknown: then nobody can read it. RetryLater."""
    try:
        return wire.plain(value)
    except DecodeError:
        return value
