"""Where the log's objects lie in the archive's store. Pure.

    log/checkpoint                      the newest published checkpoint; the one object that is replaced
    log/checkpoints/SIZE                every published checkpoint, with its cosignatures
    log/timestamps/SIZE                 RFC 3161 time stamps of some of them
    log/batches/START                   which segments were appended from START on; written before they are
    log/positions/SIZE                  now and then: how far each sequence of segments is, for a quick restart
    log/states/SIZE                     the tree at a size, signed by the sequencer for the signer
    log/tile/LEVEL/INDEX[.p/WIDTH]      hashes (C2SP tlog-tiles)
    log/tile/entries/INDEX[.p/WIDTH]    entries (C2SP tlog-tiles)

Numbers but those of tiles have 20 digits, so that names are in their order.
"""

from __future__ import annotations

import re

PREFIX = "log"
CHECKPOINT = f"{PREFIX}/checkpoint"
TILE_WIDTH = 256
_BUNDLE = re.compile(rf"{PREFIX}/tile/entries/((?:x[0-9]{{3}}/)*[0-9]{{3}})(?:\.p/([0-9]{{1,3}}))?")


def is_of_log(name: str) -> bool:
    """Whether an object of the store is one of the log's, and no segment."""
    return name.startswith(f"{PREFIX}/")


def numbered(kind: str, number: int) -> str:
    """The name of an object of a kind: checkpoints, timestamps, batches, states."""
    return f"{PREFIX}/{kind}/{number:020}"


def number_of(name: str) -> int | None:
    """The number that a numbered object is named by; None where its name ends in none."""
    last = name.rpartition("/")[2]
    return int(last) if len(last) == 20 and last.isascii() and last.isdigit() else None


def tile_name(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """The name of a tile, or of a bundle where the level is `entries`: tile/0/x001/x234/067.p/5."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"{PREFIX}/tile/{level}/{'/'.join(reversed(groups))}{partial}"


def bundle_of(name: str) -> tuple[int, int] | None:
    """The index and width of a bundle of entries by its name; None for every other object."""
    found = _BUNDLE.fullmatch(name)
    if found is None:
        return None
    index, width = int(found[1].replace("x", "").replace("/", "")), int(found[2] or TILE_WIDTH)
    return (index, width) if tile_name("entries", index, width) == name else None


def width_at(size: int, level: int, index: int) -> int:
    """How many hashes a tile has in the tree of a size; of bundles, level 0. Zero: it is not there."""
    return max(0, min(TILE_WIDTH, (size >> (8 * level)) - index * TILE_WIDTH))
