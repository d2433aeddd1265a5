"""Is the log what its checkpoints say, and does it say of each segment what that is? Offline, every flaw by object.

Reads in the order of writing: plans, bundles, tiles, states; each byte of each object is made again from what was
checked before it, and compared. Roots are compared with every kept checkpoint on the way.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from deploytrail_sinks.archive.log.bundles import Bundles, Row
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.covered import rows_that_differ
from deploytrail_sinks.archive.log.entries import gaps_of
from deploytrail_sinks.archive.log.names import (
    CHECKPOINT,
    PREFIX,
    TILE_WIDTH,
    bundle_of,
    number_of,
    numbered,
    tile_name,
)
from deploytrail_sinks.archive.log.notes import NoteError, Verifier, signers
from deploytrail_sinks.archive.log.objects import LogConflict, read_or_none
from deploytrail_sinks.archive.log.plan import Plan, Planned, encode_positions
from deploytrail_sinks.archive.log.presence import no_longer_there
from deploytrail_sinks.archive.log.report import LogReport, Seen
from deploytrail_sinks.archive.log.rows import count_again, count_in, made_again
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.log.tiles import RightEdge, TileError
from deploytrail_sinks.archive.log.trust import Trust
from deploytrail_sinks.archive.receipts import NO_RECEIPTS, Gone, Receipts
from deploytrail_sinks.archive.segment import is_segment
from deploytrail_sinks.archive.store import ObjectStore, is_date

Say = Callable[[str, str], None]  # a flaw: the object's name, and what is wrong with it


@dataclass
class LogCheck:
    """One run over a log. `seen`: segments by name; `old`: names that were not read, since a checkpoint covers them."""

    store: ObjectStore
    say: Say
    trust: Trust | None = None
    sequencers: tuple[Verifier, ...] = ()
    since: Checkpoint | None = None
    seen: dict[str, Seen] = field(default_factory=dict)
    progress: Callable[[int, int], None] = lambda *_: None
    receipts: Receipts = NO_RECEIPTS  # of what is gone
    report: LogReport = field(default_factory=LogReport)
    entered: dict[str, int] = field(default_factory=dict)  # segments by name: the index of their first entry
    purged: dict[str, Gone] = field(default_factory=dict)  # segments that are gone with a receipt
    _kept: dict[int, Checkpoint] = field(default_factory=dict)
    _visited: set[str] = field(default_factory=set)
    _since_read: set[str] = field(default_factory=set)  # segments archived after `seen` was made
    _positions: dict[str, int] = field(default_factory=dict)
    _bundles: Bundles = field(init=False)

    def run(self) -> LogReport:
        """Look at everything; flaws go to `say`."""
        names = list(self.store.list(PREFIX))
        self.purged = {item.name: item for item in self.receipts.gone}
        newest = self._checkpoints(names)
        minimum = self.receipts.minimum
        # Of what nobody published, nothing was pruned.
        self._bundles = Bundles(
            self.store.read, self.say, min(minimum.bundles, newest // TILE_WIDTH), minimum.why_not, self._visited
        )
        start = self.since.size if self.since else 0
        plans, end, unfinished = self._plans(start)
        total = max(end, newest)
        edge = self._edge_at(start)
        if start:
            self._covered(plans, start, names, edge is not None)
        if edge is not None:
            for plan in plans:
                if plan.start >= start:
                    if not self._batch(plan, edge, end):
                        unfinished = True
                        break
                    self.progress(edge.size, total)
                else:
                    self._pass_by(plan)
            self._behind(edge, newest, end)
        self.report.entries, self.report.unpublished = newest, max(0, end - newest)
        self.report.minimum_index = self._bundles.pruned * TILE_WIDTH
        if newest in self._kept:
            self.report.root = b64encode(self._kept[newest].root).decode()
        self._segments()
        self._strays(names, unfinished, start)
        return self.report

    # Checkpoints

    def _checkpoints(self, names: list[str]) -> int:
        """Read every kept checkpoint; the size of the newest."""
        self.report.trusted = self.trust is not None
        newest = 0
        data = b""
        for name in (n for n in names if n.startswith(f"{PREFIX}/checkpoints/")):
            self._visited.add(name)
            data = read_or_none(self.store, name) or b""
            checkpoint = self._checkpoint(name, data)
            self.report.checkpoints += 1
            if checkpoint is None:
                continue
            if checkpoint.size != number_of(name):
                self.say(name, f"is the checkpoint of size {checkpoint.size} under another name")
                continue
            self._kept[checkpoint.size] = checkpoint
            newest = max(newest, checkpoint.size)
        try:
            current = self.store.newest(CHECKPOINT)
        except KeyError:
            if names or self.trust:
                self.say(CHECKPOINT, "is missing")
            return newest
        self._visited.add(CHECKPOINT)
        published = self._checkpoint(CHECKPOINT, current)
        if published and published.size > newest and self._is_kept(published, current):
            newest = published.size  # published since the others were listed
        elif published and published.size > newest:
            self.say(numbered("checkpoints", published.size), f"is missing, and {CHECKPOINT} is of that size")
            newest = published.size
        elif published and published.size < newest:
            self.say(CHECKPOINT, "is not the newest checkpoint that is kept")
        elif published and current != data:  # which of the two was changed nobody can say
            self.say(CHECKPOINT, f"differs from {numbered('checkpoints', newest)}")
            self.say(numbered("checkpoints", newest), f"differs from {CHECKPOINT}")
        if self.since is not None and newest < self.since.size:
            self.say(CHECKPOINT, f"is of {newest} entries; the checkpoint that you kept is of {self.since.size}")
        return newest

    def _is_kept(self, checkpoint: Checkpoint, data: bytes) -> bool:
        name = numbered("checkpoints", checkpoint.size)
        if read_or_none(self.store, name) != data:
            return False
        self._visited.add(name)
        self._kept[checkpoint.size] = checkpoint
        self.report.checkpoints += 1
        return True

    def _checkpoint(self, name: str, data: bytes) -> Checkpoint | None:
        try:
            checkpoint, note = open_checkpoint(data)
            if self.trust is not None:
                self.trust.check(note, quorum=name == CHECKPOINT)
        except NoteError as error:
            self.say(name, str(error))
            return None
        return checkpoint

    def _compare(self, size: int, root: bytes) -> None:
        kept = self._kept.get(size)
        if kept is not None and kept.root != root:
            self.say(numbered("checkpoints", size), f"signs another tree than the log's first {size} entries")

    # Batches

    def _plans(self, start: int) -> tuple[list[Plan], int, bool]:
        """Every whole batch in order, the size behind them, and whether one was begun behind that.

        `start`: of what a kept checkpoint covers, every batch is whole.
        """
        plans: list[Plan] = []
        size = 0
        while True:
            name = numbered("batches", size)
            try:
                plan = plan_at(self.store, size)
            except LogConflict as error:
                self._visited.add(name)
                self.say(name, str(error).removeprefix(f"{name} "))
                return plans, size, False
            if plan is None:
                return plans, size, False
            if plan.end > start and read_or_none(self.store, numbered("states", plan.end)) is None:
                if not self._goes_on(plan.end):
                    self._visited.add(name)
                    return plans, size, True
                if plan.end not in self._kept:
                    self.say(name, f"ends at {plan.end}, where neither a state nor a checkpoint is")
            plans.append(plan)
            size = plan.end

    def _goes_on(self, size: int) -> bool:
        """Whether something was made behind a batch: then its state was there."""
        if size in self._kept or read_or_none(self.store, numbered("batches", size)) is not None:
            return True
        return any(kept > size for kept in self._kept)

    def _covered(self, plans: list[Plan], size: int, names: list[str], of_the_log: bool) -> None:
        """Look at what a kept checkpoint covers as far as it is not read again. `of_the_log`: its root is the log's."""
        for name, detail in no_longer_there(plans, size, names, self._bundles.pruned):
            self.say(name, detail)
        covered = (plan for plan in plans if plan.start < size)
        known = self.purged, self._bundles.pruned * TILE_WIDTH
        for name, detail in rows_that_differ(self.store.read, covered, size, *known) if of_the_log else ():
            self.say(name, detail)

    def _edge_at(self, start: int) -> RightEdge | None:
        if not self.since or not start:
            return RightEdge()
        try:
            edge = RightEdge.of(self.store.read, start, self._bundles.pruned)
        except TileError as error:
            self.say(error.name, error.detail)
            return None
        if edge.root() != self.since.root:
            self.say(CHECKPOINT, f"the log's first {start} entries are not those of the checkpoint that you kept")
            return None
        return edge

    def _pass_by(self, plan: Plan) -> None:
        """A batch that the checkpoint of `since` covers."""
        for index, planned in plan.first_entries():
            self.entered[planned.name] = index
            self._positions[planned.name.rpartition("/")[0]] = planned.next_offset

    def _batch(self, plan: Plan, edge: RightEdge, end: int) -> bool:
        """Append a batch's entries to the edge; False where its objects are so wrong that nothing can follow."""
        name = numbered("batches", plan.start)
        self._visited.add(name)
        if plan.start != edge.size:
            self.say(name, f"begins at {plan.start}; the one before it ends at {edge.size}")
            return False
        try:
            for row in self._bundles.rows(plan, end):
                self._segment(name, row, edge)
        except TileError as error:
            self.say(error.name, error.detail)
            return False
        for of_edge, data in edge.partial():
            self._equal(of_edge, data)
        root = edge.root()
        self._compare(edge.size, root)
        self._state(Checkpoint(self.origin, edge.size, root))
        self._positions.update((s.name.rpartition("/")[0], s.next_offset) for s in plan.segments)
        positions = numbered("positions", edge.size)
        noted = read_or_none(self.store, positions)
        self._visited.add(positions)
        if noted is not None and noted != encode_positions(edge.size, self._positions):
            self.say(positions, "says other positions than the batches do")
        return True

    @property
    def origin(self) -> str:
        """The log's name, as a kept checkpoint has it; empty where none is kept."""
        return next(iter(self._kept.values())).origin if self._kept else ""

    def _segment(self, batch: str, row: Row, edge: RightEdge) -> None:
        """Enter one segment's entries, compare them with the segment and its row."""
        index, planned, count = row.index, row.planned, self._count(row)
        for name, data in edge.extend(row.entries, row.leaves):
            self._equal(name, data)
        if not count:
            self.say(batch, f"plans {planned.name} at index {index}; the log has something else there")
            return
        if count != planned.entries:
            self.say(batch, f"gives {planned.name} {planned.entries} entries; the log has {count}")
        if planned.name in self.entered:
            self.say(batch, f"enters {planned.name} a second time")
        self.entered[planned.name] = index
        if not is_segment(planned.name):
            self._object(planned, index, batch)
            return
        seen = self.seen.get(planned.name)
        if seen is None:
            gone = self.purged.get(planned.name)
            if gone is None:
                self._unseen(planned)
            elif gone.sha256 != planned.sha256:
                self.say(planned.name, "is purged with another digest than the log says")
            elif gone.last_offset + 1 != planned.next_offset:
                self.say(batch, f"says that {planned.name} ends before offset {planned.next_offset}")
            return
        if seen.sha256 != planned.sha256:
            self.say(planned.name, "has another digest than the log says")
        elif count == planned.entries and (seen.entries, seen.leaves) != (count, row.digest):
            self.say(planned.name, f"has other records than the log says from index {index} on")
        elif seen.next_offset != planned.next_offset:
            self.say(batch, f"says that {planned.name} ends before offset {planned.next_offset}")
        if not all(row.entries):
            self._too_early(row, seen)

    def _count(self, row: Row) -> int:
        """How many entries the log has of a row's object; none where it has something else there."""
        if row.entries[0]:
            return count_in(row.planned, row.entries[0], gaps_of(row.entries))
        made = made_again(self.store.read, row.planned, self.purged.get(row.planned.name))
        # A segment that is gone, or cannot be read, is said as such.
        return count_again(made, row.leaves) if made else row.planned.entries

    def _too_early(self, row: Row, seen: Seen) -> None:
        """Say of entries that were pruned, and of a segment, if that had to be kept for longer."""
        bundle, until = (row.index + row.entries.index(b"")) // TILE_WIDTH, seen.retain_until
        if (
            bundle < self._bundles.pruned
            and is_date(until)
            and datetime.fromisoformat(until) > self.receipts.minimum.since(bundle)
        ):
            self.say(tile_name("entries", bundle), f"was pruned before {until}, until when {row.planned.name} is kept")

    def _object(self, planned: Planned, index: int, batch: str) -> None:
        """Compare an object that is no segment with its entry."""
        self._visited.add(planned.name)
        if planned.next_offset != (number_of(planned.name) or 0) + 1:
            self.say(batch, f"gives {planned.name} the number {planned.next_offset}")
        there = read_or_none(self.store, planned.name)
        if there is None:
            self.say(planned.name, f"is in the log at index {index}, and is missing")
        elif sha256(there).hexdigest() != planned.sha256:
            self.say(planned.name, "has another digest than the log says")

    def _unseen(self, planned: Planned) -> None:
        """A segment that was not there when segments were read: archived since then, if it is what the log says."""
        there = read_or_none(self.store, planned.name)
        if there is not None and sha256(there).hexdigest() == planned.sha256:
            self._since_read.add(planned.name)

    def _equal(self, name: str, data: bytes) -> None:
        self._visited.add(name)
        there = read_or_none(self.store, name)
        if there is None:
            if not self._bundles.may_be_gone(name):
                self.say(name, "is missing")
        elif there != data:
            self.say(name, "differs from what the entries make")

    def _state(self, tree: Checkpoint) -> None:
        name = numbered("states", tree.size)
        self._visited.add(name)
        data = read_or_none(self.store, name)
        if data is None:
            self.say(name, "is missing")
            return
        try:
            state, note = open_checkpoint(data)
            if self.sequencers and not signers([k for k in self.sequencers if k.speaks_for(tree.size)], note):
                raise NoteError("is not signed by the sequencer")
        except NoteError as error:
            self.say(name, str(error))
            return
        if (state.size, state.root) != (tree.size, tree.root) or (tree.origin and state.origin != tree.origin):
            self.say(name, "is another tree than the entries make")

    # What is left over

    def _behind(self, edge: RightEdge, newest: int, end: int) -> None:
        if edge.size < newest and edge.size == end:
            self.say(
                numbered("batches", edge.size), f"is missing: the newest checkpoint is of {newest} entries, not {end}"
            )
        for size in self._kept:
            if size < edge.size and read_or_none(self.store, numbered("states", size)) is None:
                self.say(numbered("checkpoints", size), "is of a size at which no batch ends")

    def _segments(self) -> None:
        """Segments that the log has and the archive has not, and the other way round."""
        for name, index in self.entered.items():
            if name in self.purged or name in self._since_read:
                continue
            if is_segment(name) and name not in self.seen and not (self.since and index < self.since.size):
                self.say(name, f"is in the log at index {index}, and not in the archive")
        for name in filter(is_segment, self.seen.keys() - self.entered.keys()):
            folder, _, last = name.rpartition("/")
            if int(last.removesuffix(".avro")) < self._positions.get(folder, 0):
                self.say(name, "is in the archive and not in the log, though a later one of its sequence is")
            else:
                self.report.uncovered_segments += 1

    def _strays(self, names: list[str], unfinished: bool, start: int) -> None:
        """Objects that belong to nothing. Behind an unfinished batch, and before `since`, there may be more."""
        if unfinished or start:
            return
        for name in names:
            if (bundle := bundle_of(name)) and bundle[0] in self._bundles.missing:
                continue  # nothing can be compared with it, but that what it had is missing is said
            if name not in self._visited and not name.startswith(f"{PREFIX}/timestamps/"):
                self.say(name, "belongs to no tree of this log")
