"""Do plans say what the tree has? For batches that a kept checkpoint covers, whose segments nobody reads again.

Nobody signs a plan. So the first entry of each of its rows is looked up in the tree of the kept checkpoint: it says
which object it is of and how many records follow, so that no row can be left out, changed, or reach into another.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from deploytrail_sinks.archive.log.entries import gaps_of
from deploytrail_sinks.archive.log.merkle import leaf_hash, root_of
from deploytrail_sinks.archive.log.names import TILE_WIDTH, numbered, tile_name, width_at
from deploytrail_sinks.archive.log.plan import Plan
from deploytrail_sinks.archive.log.tiles import Read, TileError, read_entries, read_hashes

_SEGMENT, _OBJECT = b'{"kind":"segment"', b'{"kind":"object"'
_KEPT = 256  # tiles that are remembered: they are asked for in order


def said_by(entry: bytes) -> dict[str, Any] | None:
    """What an entry says of an object, `name` and `sha256` at least; None where it is of a record or a gap."""
    if not entry.startswith((_SEGMENT, _OBJECT)):
        return None
    try:
        said: dict[str, Any] = json.loads(entry)
    except ValueError:
        return None
    return said if {"name", "sha256"} <= said.keys() else None


def rows_that_differ(read: Read, plans: Iterable[Plan], size: int) -> Iterator[tuple[str, str]]:
    """What plans say that the tree of a size does not: name of an object, and what is wrong with it.

    The tree's right edge was compared with its root before. Ends with the first tile or bundle that is not of the tree.
    """
    tree = _Entries(read, size)
    try:
        for plan in plans:
            for index, planned in plan.first_entries():
                said = said_by(tree.entry(index)) if index < size else None
                if said is None or (said["name"], said["sha256"]) != (planned.name, planned.sha256):
                    wrong = f"plans {planned.name} at index {index}; the log has something else there"
                elif (count := _count(tree, said, index)) != planned.entries:
                    wrong = f"gives {planned.name} {planned.entries} entries; the log has {count}"
                else:
                    continue
                yield numbered("batches", plan.start), wrong
                break  # what follows in it is shifted
    except TileError as error:
        yield error.name, error.detail


def _count(tree: _Entries, said: dict[str, Any], index: int) -> int:
    """How many entries an object has in the log: its own, one for each gap, one for each record."""
    gaps = 0
    if "records" in said:
        while index + 1 + gaps < tree.size and gaps_of((b"", tree.entry(index + 1 + gaps))):
            gaps += 1
    return 1 + gaps + int(said.get("records", 0))


class _Entries:
    """Entries of a tree, each as the root has it; TileError."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self.size = read, size
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._bundle: tuple[int, str, list[bytes]] = -1, "", []

    def entry(self, index: int) -> bytes:
        bundle, at = divmod(index, TILE_WIDTH)
        if self._bundle[0] != bundle:
            self._bundle = bundle, *read_entries(self._read, self.size, bundle)
        _, name, entries = self._bundle
        if leaf_hash(entries[at]) != self._tile(0, bundle)[at]:
            raise TileError(name, f"has another entry {index} than was hashed")
        return entries[at]

    def _tile(self, level: int, index: int) -> list[bytes]:
        if (level, index) not in self._tiles:
            hashes = read_hashes(self._read, self.size, level, index)
            # One that is not full is of the right edge.
            if width_at(self.size, level, index) == TILE_WIDTH and (
                self._tile(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH] != root_of(hashes)
            ):
                raise TileError(tile_name(level, index), "has other hashes than the tile above it was made from")
            self._tiles[level, index] = hashes
            if len(self._tiles) > _KEPT:
                self._tiles.popitem(last=False)
        return self._tiles[level, index]
