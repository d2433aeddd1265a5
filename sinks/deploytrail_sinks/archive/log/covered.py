"""Do plans say what the tree has? For batches that a kept checkpoint covers, whose segments nobody reads again.

The first entry of each row is looked up in the tree of the kept checkpoint (`rows.py` says why).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from deploytrail_sinks.archive.log.entries import gaps_of
from deploytrail_sinks.archive.log.merkle import leaf_hash, root_of
from deploytrail_sinks.archive.log.names import TILE_WIDTH, bundle_of, numbered, tile_name, width_at
from deploytrail_sinks.archive.log.plan import Plan
from deploytrail_sinks.archive.log.rows import count_again, count_in, made_again
from deploytrail_sinks.archive.log.tiles import Read, TileError, read_entries, read_hashes, split_bundle
from deploytrail_sinks.archive.receipts import Gone

NONE_PURGED: Mapping[str, Gone] = MappingProxyType({})
_KEPT = 256  # tiles that are remembered: they are asked for in order


def rows_that_differ(
    read: Read, plans: Iterable[Plan], size: int, purged: Mapping[str, Gone] = NONE_PURGED, minimum: int = 0
) -> Iterator[tuple[str, str]]:
    """What plans say that the tree of a size does not: name of an object, and what is wrong with it.

    The tree's right edge was compared with its root before. Ends with the first tile or bundle that is not of the tree.
    Entries before `minimum` are made again, of receipts of what was `purged` and of what is stored.
    """
    tree = _Entries(read, size)
    try:
        for plan in plans:
            for index, planned in plan.first_entries():
                if index < minimum:
                    made = made_again(read, planned, purged.get(planned.name))
                    if made is None:
                        yield planned.name, f"is in the log at index {index}, and nothing says what the log has there"
                        continue
                    leaves = [tree.leaf(at) for at in range(index, min(size, index + len(made[0])))]
                    count = count_again(made, leaves)
                else:
                    count = count_in(planned, tree.entry(index), _gaps(tree, index)) if index < size else 0
                if count == planned.entries:
                    continue
                wrong = f"gives {planned.name} {planned.entries} entries; the log has {count}"
                if not count:
                    wrong = f"plans {planned.name} at index {index}; the log has something else there"
                yield numbered("batches", plan.start), wrong
                break  # what follows in it is shifted
    except TileError as error:
        yield error.name, error.detail


def bundles_that_differ(read: Read, bundles: Mapping[int, Iterable[str]], size: int) -> Iterator[tuple[str, str]]:
    """Objects of bundles (names by index), all of whose entries are of the tree of a size, that do not have these:
    name of an object, and what is wrong with it. As above, the tree's right edge was compared before."""
    tree = _Entries(read, size)
    try:
        for index, names in bundles.items():
            leaves = [tree.leaf(at) for at in range(index * TILE_WIDTH, (index + 1) * TILE_WIDTH)]
            for name in names:
                try:
                    wrong = wrong_in_bundle(name, read(name), leaves)
                except KeyError:  # another purge took it just now
                    continue
                if wrong:
                    yield name, wrong
    except TileError as error:
        yield error.name, error.detail


def wrong_in_bundle(name: str, data: bytes, leaves: Sequence[bytes]) -> str:
    """What is wrong with the bytes of a bundle; empty where their entries are those of the hashes of its full tile."""
    try:
        entries = split_bundle(name, data)
    except TileError as error:
        return error.detail
    _, width = bundle_of(name) or (0, TILE_WIDTH)
    if len(entries) != width:
        return f"has {len(entries)} entries; expected {width}"
    is_hashed = [leaf_hash(entry) for entry in entries] == list(leaves[:width])
    return "" if is_hashed else "has other entries than were hashed"


def _gaps(tree: _Entries, index: int) -> int:
    """How many gaps follow an entry."""
    gaps = 0
    while index + 1 + gaps < tree.size and gaps_of((b"", tree.entry(index + 1 + gaps))):
        gaps += 1
    return gaps


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
        if leaf_hash(entries[at]) != self.leaf(index):
            raise TileError(name, f"has another entry {index} than was hashed")
        return entries[at]

    def leaf(self, index: int) -> bytes:
        """An entry's hash: it is there, too, where the entry was pruned."""
        return self._tile(0, index // TILE_WIDTH)[index % TILE_WIDTH]

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
