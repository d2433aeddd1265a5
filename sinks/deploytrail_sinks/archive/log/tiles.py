"""The tree as tiles of 256 hashes: read for proofs, grown at its right edge (https://c2sp.org/tlog-tiles)."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from deploytrail_sinks.archive.log.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, root_at, root_of
from deploytrail_sinks.archive.log.names import TILE_WIDTH, tile_name, width_at

ENTRY_LIMIT = 65_535  # an entry's length is two bytes
_KEPT = 1024  # tiles that a reader remembers: 8 MB
Read = Callable[[str], bytes]  # KeyError where there is no such object


class TileError(Exception):
    """A tile or bundle that is missing or is not what its name says. `name`: the object."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name} {detail}")
        self.name, self.detail = name, detail


def _partial_or_full(read: Read, level: int | str, index: int, width: int) -> tuple[str, bytes]:
    """An object and its name. A partial one may be gone once the full one is there."""
    name = tile_name(level, index, width)
    try:
        return name, read(name)
    except KeyError:
        full = tile_name(level, index)
        if width == TILE_WIDTH:
            raise TileError(name, "is missing") from None
    try:
        return full, read(full)
    except KeyError:
        raise TileError(name, "is missing") from None


def read_hashes(read: Read, size: int, level: int, index: int) -> list[bytes]:
    """The hashes of a tile in the tree of a size; TileError."""
    width = width_at(size, level, index)
    name, data = _partial_or_full(read, level, index, width)
    expected = width if name.endswith(f".p/{width}") else TILE_WIDTH
    if len(data) != expected * HASH_BYTES:
        raise TileError(name, f"has {len(data)} bytes; expected {expected} hashes of {HASH_BYTES}")
    return [data[i : i + HASH_BYTES] for i in range(0, width * HASH_BYTES, HASH_BYTES)]


def read_entries(read: Read, size: int, index: int) -> tuple[str, list[bytes]]:
    """The entries of a bundle in the tree of a size, and the object that has them; TileError."""
    width = width_at(size, 0, index)
    name, data = _partial_or_full(read, "entries", index, width)
    entries = split_bundle(name, data)
    expected = width if name.endswith(f".p/{width}") else TILE_WIDTH
    if len(entries) != expected:
        raise TileError(name, f"has {len(entries)} entries; expected {expected}")
    return name, entries[:width]


def split_bundle(name: str, data: bytes) -> list[bytes]:
    """The entries of a bundle's bytes; TileError where they do not end with an entry."""
    entries, at = [], 0
    while at < len(data):
        if at + 2 > len(data):
            raise TileError(name, "ends in the middle of a length")
        (length,) = struct.unpack_from(">H", data, at)
        at += 2 + length
        if at > len(data):
            raise TileError(name, "ends in the middle of an entry")
        entries.append(data[at - length : at])
    return entries


def join_bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle: each entry behind its length."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


class Tree:
    """A tree of a size, read from tiles as they are needed."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.size = size
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree, as `merkle.Node`; TileError."""
        tile_level, inside = divmod(level, 8)
        tile_index, first = divmod(index << inside, TILE_WIDTH)
        return root_of(self.tile(tile_level, tile_index)[first : first + (1 << inside)])

    def tile(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile; TileError."""
        key = level, index
        if key not in self._tiles:
            self._tiles[key] = read_hashes(self._read, self.size, level, index)
            if len(self._tiles) > _KEPT:
                self._tiles.popitem(last=False)
        return self._tiles[key]

    def root(self) -> bytes:
        """The root, from the tiles of the right edge; TileError."""
        return root_at(self.size, self.node)


class RightEdge:
    """The unfinished tiles of a tree: all that is needed to append to it, and its root.

    An entry that is empty is not known, since it was pruned: its bundles are not made.
    """

    def __init__(self, levels: Sequence[Sequence[bytes]] = (), entries: Sequence[bytes] = ()) -> None:
        self._levels = [list(hashes) for hashes in levels] or [[]]
        self._entries = list(entries)
        self._finished = [0] * len(self._levels)  # full tiles of each level

    @classmethod
    def of(cls, read: Read, size: int, pruned: int = 0) -> RightEdge:
        """The edge of a stored tree; TileError. Of so many bundles, from the first on, no entry is read."""
        edge = cls()
        levels = max(1, (size.bit_length() + 7) // 8)
        edge._finished = [size >> (8 * level + 8) for level in range(levels)]
        edge._levels = [
            read_hashes(read, size, level, finished) if width_at(size, level, finished) else []
            for level, finished in enumerate(edge._finished)
        ]
        if width := width_at(size, 0, edge._finished[0]):
            known = edge._finished[0] >= pruned
            edge._entries = read_entries(read, size, edge._finished[0])[1] if known else [b""] * width
        return edge

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._finished[0] * TILE_WIDTH + len(self._levels[0])

    def append(self, entry: bytes, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Append an entry with its leaf hash; the objects that it completes: bundle first, then tiles."""
        return self.extend([entry], [leaf])

    def extend(self, entries: Sequence[bytes], leaves: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """Append entries with their leaf hashes; the objects that they complete: each bundle first, then tiles."""
        if (longest := max(map(len, entries), default=0)) > ENTRY_LIMIT:
            raise ValueError(f"an entry of {longest} bytes; at most {ENTRY_LIMIT}")
        at = 0
        while at < len(entries):
            end = at + TILE_WIDTH - len(self._levels[0])
            self._entries += entries[at:end]
            self._levels[0] += leaves[at:end]
            at = end
            if len(self._entries) == TILE_WIDTH:
                if all(self._entries):
                    yield tile_name("entries", self._finished[0]), join_bundle(self._entries)
                self._entries = []
                yield from self._finish(0)

    def _finish(self, level: int) -> Iterator[tuple[str, bytes]]:
        """The tile that is full at a level, and those that it fills above."""
        while len(hashes := self._levels[level]) == TILE_WIDTH:
            yield tile_name(level, self._finished[level]), b"".join(hashes)
            self._finished[level] += 1
            self._levels[level] = []
            level += 1
            if level == len(self._levels):
                self._levels.append([])
                self._finished.append(0)
            self._levels[level].append(root_of(hashes))

    def partial(self) -> Iterator[tuple[str, bytes]]:
        """The objects of the unfinished tiles: bundle first, then tiles."""
        if self._entries and all(self._entries):
            yield tile_name("entries", self._finished[0], len(self._entries)), join_bundle(self._entries)
        for level, hashes in enumerate(self._levels):
            if hashes:
                yield tile_name(level, self._finished[level], len(hashes)), b"".join(hashes)

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        found: bytes | None = None
        for hashes in self._levels:
            first, parts = 0, []
            while first < len(hashes):
                width = 1 << ((len(hashes) - first).bit_length() - 1)
                parts.append(root_of(hashes[first : first + width]))
                first += width
            for part in reversed(parts):
                found = part if found is None else node_hash(part, found)
        return EMPTY_ROOT if found is None else found
