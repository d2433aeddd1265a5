"""The rows of a batch with their entries, checked against the hashes of the tree; of what was pruned, hashes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.merkle import leaf_hash, root_of
from deploytrail_sinks.archive.log.names import TILE_WIDTH, bundle_of, numbered, tile_name, width_at
from deploytrail_sinks.archive.log.notes import NoteError
from deploytrail_sinks.archive.log.plan import Plan, Planned
from deploytrail_sinks.archive.log.tiles import Read, RightEdge, TileError, read_entries, read_hashes


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a plan, its index, entries and their hashes. An entry that is gone is empty."""

    index: int
    planned: Planned
    entries: list[bytes]
    leaves: list[bytes]

    @property
    def digest(self) -> bytes:
        """Of the hashes, as `Seen` has it."""
        return sha256(b"".join(self.leaves)).digest()


@dataclass(frozen=True, slots=True)
class Bundles:
    """The bundles of a log. `pruned`: how many, from the first on, need not be there; `why_not`: why no more of them.
    `visited`: is told of each object that is there. `missing`: those that are gone, whether or not they may be."""

    read: Read
    say: Callable[[str, str], None]
    pruned: int
    why_not: str
    visited: set[str]
    missing: set[int] = field(default_factory=set)

    def rows(self, plan: Plan, end: int) -> Iterator[Row]:
        """Each row of a batch in the tree of a size; TileError."""
        bundle, held, hashes = -1, list[bytes](), list[bytes]()
        for first, planned in plan.first_entries():
            entries: list[bytes] = []
            leaves: list[bytes] = []
            while (index := first + len(leaves)) < first + planned.entries:
                if index // TILE_WIDTH != bundle:
                    bundle = index // TILE_WIDTH
                    held, hashes = self._bundle(end, bundle)
                taken = slice(index % TILE_WIDTH, index % TILE_WIDTH + planned.entries - len(leaves))
                entries.extend(held[taken])
                leaves.extend(hashes[taken])
            yield Row(first, planned, entries, leaves)

    def _bundle(self, end: int, index: int) -> tuple[list[bytes], list[bytes]]:
        """Entries and their hashes; TileError with the one of the two that is wrong."""
        try:
            name, entries = read_entries(self.read, end, index)
        except TileError as error:
            if not self._is_gone(error.name):
                raise
            self.missing.add(index)
            if index >= self.pruned:
                self.say(error.name, "; ".join(filter(None, (error.detail, self.why_not))))
            hashes = self._hashes(end, index)
            return [b""] * len(hashes), hashes
        self.visited.add(name)
        hashes = read_hashes(self.read, end, 0, index)
        leaves = [leaf_hash(entry) for entry in entries]
        if leaves == hashes:
            return entries, leaves
        wrong = index * TILE_WIDTH + next(i for i, leaf in enumerate(leaves) if leaf != hashes[i])
        if self._is_hashed(end, 0, index, hashes):
            raise TileError(name, f"has another entry {wrong} than was hashed")
        tile = tile_name(0, index, width_at(end, 0, index))
        raise TileError(tile, f"has another hash {wrong} than its entry has")

    def may_be_gone(self, name: str) -> bool:
        """Whether an object is of a bundle that need not be there."""
        bundle = bundle_of(name)
        return bundle is not None and bundle[0] < self.pruned

    def _is_gone(self, name: str) -> bool:
        try:
            self.read(name)
        except KeyError:
            return True
        return False

    def _hashes(self, end: int, index: int) -> list[bytes]:
        """The hashes of entries that are gone; TileError with the tile that is not of the tree."""
        hashes = read_hashes(self.read, end, 0, index)
        if not self._is_hashed(end, 0, index, hashes):
            above = index // TILE_WIDTH
            is_good = self._is_hashed(end, 1, above, read_hashes(self.read, end, 1, above))
            wrong = tile_name(0, index) if is_good else tile_name(1, above, width_at(end, 1, above))
            raise TileError(wrong, f"differs: the hashes of {tile_name(0, index)} are not those it was made from")
        return hashes

    def _is_hashed(self, end: int, level: int, index: int, hashes: list[bytes]) -> bool:
        """Whether what is above a tile was made from it."""
        try:
            if width_at(end, level, index) == TILE_WIDTH:
                above = read_hashes(self.read, end, level + 1, index // TILE_WIDTH)
                return above[index % TILE_WIDTH] == root_of(hashes)
            data, _ = open_checkpoint(self.read(numbered("states", end)))
            return RightEdge.of(self.read, end, end).root() == data.root
        except (TileError, NoteError, KeyError):
            return False
