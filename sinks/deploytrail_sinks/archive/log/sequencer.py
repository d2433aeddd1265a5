"""The sequencer: appends closed segments to the tree. It holds a key of its own, and cannot sign checkpoints.

Write order: plan → bundles and tiles → state. The plan is created only where there is none, and says what
is appended at an index; all that follows is made from it and the segments. So whoever is killed anywhere, or
comes second as a zombie, writes the same bytes under the same names: there is one tree of each size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.entries import gaps_of, object_entry, segment_entries
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import PREFIX, number_of, numbered
from deploytrail_sinks.archive.log.notes import Note, NoteError, Signer
from deploytrail_sinks.archive.log.objects import LogConflict, create_all, create_equal, kept_until, read_or_none
from deploytrail_sinks.archive.log.plan import Plan, PlanError, Planned, encode_positions, read_plan, read_positions
from deploytrail_sinks.archive.log.tiles import RightEdge
from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Policy
from deploytrail_sinks.archive.segment import SegmentError, digest, is_segment, read_segment
from deploytrail_sinks.archive.store import ObjectExists, ObjectStore

log = logging.getLogger(__name__)
BATCH_ENTRIES = 100_000  # a batch ends behind the segment that reaches this
CHECKPOINTS = f"{PREFIX}/checkpoints"
POSITIONS_EVERY = 256  # batches between two notes of the positions


class Sequencer:
    """One log's sequencer. `clock`: seconds since the epoch."""

    def __init__(
        self,
        store: ObjectStore,
        origin: str,
        key: Signer,
        clock: Callable[[], float],
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self._store, self._origin, self._key, self._clock = store, origin, key, clock
        self._policy = policy
        self._edge = RightEdge()
        self._positions: dict[str, int] = {}
        self._ends: list[int] = []  # sizes of which a checkpoint may be published that is not in the log yet
        self._batches = 0  # since the positions were noted
        self._stopped: set[str] = set()  # sequences with a segment that cannot be read
        self._resumed = False
        self.waiting = 0  # entries that were found and are not in the tree yet
        self.gaps = 0  # gaps that were entered

    @property
    def stopped(self) -> int:
        """How many sequences have a segment that cannot be read: nothing behind it is entered."""
        return len(self._stopped)

    @property
    def size(self) -> int:
        """How many entries the tree has."""
        return self._edge.size

    def resume(self) -> None:
        """Find the end of the tree in the store, and finish a batch that was begun. LogConflict, RetryLater."""
        size, self._positions, self._batches = 0, {}, 0
        noted = list(self._store.list(f"{PREFIX}/positions"))
        if noted:
            size = number_of(noted[-1]) or 0
            try:
                self._positions = read_positions(self._store.read(noted[-1]))
            except (KeyError, PlanError) as error:
                raise LogConflict(f"{noted[-1]} cannot be read: {error}") from error
        while (plan := plan_at(self._store, size)) and read_or_none(self._store, numbered("states", plan.end)):
            self._go_behind(plan)
            size = plan.end
        self._ends = self._ends_from(self._positions.get(CHECKPOINTS, 1) - 1, size)
        self._edge = RightEdge.of(self._store.read, size)
        if plan:
            self._append(plan, {})
        self._resumed = True

    def step(self) -> Checkpoint | None:
        """Append what is there, one batch; the tree behind it, None where nothing was."""
        if not self._resumed:
            self.resume()
        entries: dict[str, list[bytes]] = {}
        segments = []
        for segment, of_it in self._waiting():
            segments.append(segment)
            entries[segment.name] = of_it
        self.waiting = sum(map(len, entries.values()))
        if not segments:
            return None
        # Published checkpoints are entered with what is new; for their sake alone there would be ever new ones.
        segments = [*self._published(), *segments]
        plan = Plan(self.size, tuple(segments))
        name = numbered("batches", plan.start)
        self._resumed = False  # until the batch is whole: what fails in it begins anew from the store
        try:
            self._store.create(name, plan.encode(), kept_until(self._clock(), self._policy))
        except ObjectExists:  # another one was quicker: what it planned counts
            theirs = plan_at(self._store, plan.start)
            if theirs is None:
                raise LogConflict(f"{name} is there and is no object") from None
            plan = theirs
        state = self._append(plan, entries)
        self._resumed, self.waiting = True, 0
        return state

    def _waiting(self) -> Iterator[tuple[Planned, list[bytes]]]:
        """Segments that are not in the tree, one of each sequence in turn, and their entries."""
        positions = dict(self._positions)
        taken = 0
        folders = sequences(self._store)
        while folders and taken < BATCH_ENTRIES:
            left = []
            for folder in folders:
                found = self._next(folder, positions)
                if found is None:
                    continue
                segment, entries = found
                yield found
                left.append(folder)
                positions[folder] = segment.next_offset
                taken += len(entries)
                if taken >= BATCH_ENTRIES:
                    return
            folders = left

    def _ends_from(self, start: int, end: int) -> list[int]:
        ends = []
        while start < end and (plan := plan_at(self._store, start)):
            ends.append(plan.end)
            start = plan.end
        return ends

    def _published(self) -> Iterator[Planned]:
        """Checkpoints that were published since the last that is in the log; time stamps of those before the newest."""
        found = [size for size in self._ends if self._is_there("checkpoints", size)]
        for size in found:
            yield self._object(numbered("checkpoints", size))
        last = self._positions.get(CHECKPOINTS, 0) - 1
        for size in ([last] if last > 0 and found else []) + found[:-1]:
            if size >= self._positions.get(f"{PREFIX}/timestamps", 0) and self._is_there("timestamps", size):
                yield self._object(numbered("timestamps", size))

    def _is_there(self, kind: str, size: int) -> bool:
        return read_or_none(self._store, numbered(kind, size)) is not None

    def _object(self, name: str) -> Planned:
        return Planned(name, digest(self._store.read(name)), 1, (number_of(name) or 0) + 1)

    def _next(self, folder: str, positions: dict[str, int]) -> tuple[Planned, list[bytes]] | None:
        at = positions.get(folder)
        name = next(self._store.list(folder), "") if at is None else f"{folder}/{at:020}.avro"
        data = read_or_none(self._store, name) if name else None
        if data is None:
            return None
        try:
            planned, entries = enter(name, data)
        except SegmentError as error:
            if folder not in self._stopped:
                self._stopped.add(folder)
                log.error("%s %s; nothing behind it is entered into the log", name, error)
            return None
        self._stopped.discard(folder)
        return planned, entries

    def _append(self, plan: Plan, entries: dict[str, list[bytes]]) -> Checkpoint:
        until, gaps = kept_until(self._clock(), self._policy), 0
        for segment in plan.segments:
            of_it = entries.get(segment.name) or self._again(segment)
            gaps += gaps_of(of_it)
            create_all(self._store, self._edge.extend(of_it, [leaf_hash(entry) for entry in of_it]), until)
        if self.size != plan.end:
            raise LogConflict(f"{numbered('batches', plan.start)} ends at {plan.end}; its segments end at {self.size}")
        create_all(self._store, self._edge.partial(), until)
        state = Checkpoint(self._origin, self.size, self._edge.root())
        self._write_state(state, until)
        self.gaps += gaps  # once the batch is whole: one that fails is appended anew
        self._go_behind(plan)
        if self._batches >= POSITIONS_EVERY:
            self._store_positions(until)
        return state

    def _again(self, planned: Planned) -> list[bytes]:
        """The entries of a segment that was planned before; LogConflict where it is not what it was."""
        data = read_or_none(self._store, planned.name)
        if data is None or digest(data) != planned.sha256:
            what = "is gone" if data is None else "differs from what it was"
            raise LogConflict(f"{planned.name} {what} since its batch was planned")
        if not is_segment(planned.name):
            return [object_entry(planned.name, planned.sha256)]
        return enter(planned.name, data)[1]

    def _write_state(self, state: Checkpoint, until: str) -> None:
        text = state.text()
        note = Note(text, (self._key.sign(text, int(self._clock())),))
        name = numbered("states", state.size)
        try:
            self._store.create(name, note.encode(), until)
        except ObjectExists:  # perhaps signed by a key that has been replaced since
            try:
                there, _ = open_checkpoint(self._store.read(name))
            except NoteError as error:
                raise LogConflict(f"{name} {error}") from error
            if there != state:
                raise LogConflict(f"{name} is another tree than the segments make") from None

    def _go_behind(self, plan: Plan) -> None:
        self._positions.update((s.name.rpartition("/")[0], s.next_offset) for s in plan.segments)
        entered = self._positions.get(CHECKPOINTS, 0)
        self._ends = [end for end in (*self._ends, plan.end) if end >= entered]
        self._batches += 1

    def _store_positions(self, until: str) -> None:
        data = encode_positions(self.size, self._positions)
        create_equal(self._store, numbered("positions", self.size), data, until)
        self._batches = 0


def enter(name: str, data: bytes) -> tuple[Planned, list[bytes]]:
    """A segment's row in a plan, and its entries; SegmentError."""
    segment = read_segment(data)
    if segment.name != name:
        raise SegmentError(f"is the segment {segment.name} under another name")
    sha256 = digest(data)
    try:
        entries = list(segment_entries(segment, sha256))
    except ValueError as error:
        raise SegmentError(f"cannot be entered into the log: {error}") from error
    return Planned(name, sha256, len(entries), segment.last_offset + 1), entries


def sequences(store: ObjectStore) -> list[str]:
    """The folders that hold segments: TOPIC/PARTITION/CLASS."""
    return [
        of_class
        for topic in store.folders("")
        if topic != PREFIX
        for partition in store.folders(topic)
        for of_class in store.folders(partition)
    ]


def plan_at(store: ObjectStore, start: int) -> Plan | None:
    """The plan of the batch at an index; None where there is none; LogConflict where it is damaged."""
    name = numbered("batches", start)
    data = read_or_none(store, name)
    if data is None:
        return None
    try:
        plan = read_plan(data)
    except PlanError as error:
        raise LogConflict(f"{name} {error}") from error
    if plan.start != start:
        raise LogConflict(f"{name} is the batch of index {plan.start} under another name")
    return plan


def entered(store: ObjectStore) -> Iterator[tuple[int, Planned]]:
    """Every object that plans enter, with the index of its first entry. LogConflict where a plan is damaged."""
    size = 0
    while plan := plan_at(store, size):
        yield from plan.first_entries()
        size = plan.end


def newest_state(store: ObjectStore, size: int) -> tuple[int, bytes] | None:
    """The size and note of the newest state behind a size that has one or is 0; None where none is newer."""
    found = None
    while plan := plan_at(store, size):
        data = read_or_none(store, numbered("states", plan.end))
        if data is None:
            break
        found = plan.end, data
        size = plan.end
    return found
