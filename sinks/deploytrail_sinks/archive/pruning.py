"""What of the log goes with a purge: bundles of entries, up to a minimum index (https://c2sp.org/tlog-tiles, Pruning).

Entries are needed as long as a segment is kept that they are of. Hashes stay, all of them, so that every root and every
proof that could be had can be had, and plans can still be compared with the tree (`log/rows.py`). The index is in the
receipt, which is an act of a principal and an entry of the log itself; it is said before a bundle goes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, takewhile

from deploytrail_schemas.errors import RetryLater

from deploytrail_sinks.archive.holds import Hold, active_on
from deploytrail_sinks.archive.log.covered import bundles_that_differ, rows_that_differ, wrong_in_bundle
from deploytrail_sinks.archive.log.names import CHECKPOINT, PREFIX, TILE_WIDTH, bundle_of, numbered, tile_name
from deploytrail_sinks.archive.log.objects import LogConflict
from deploytrail_sinks.archive.log.plan import Plan, Planned
from deploytrail_sinks.archive.log.tiles import TileError, Tree, read_hashes
from deploytrail_sinks.archive.receipts import Gone
from deploytrail_sinks.archive.segment import SegmentError, is_segment, stored_segment
from deploytrail_sinks.archive.store import ObjectStore, may_go


@dataclass(frozen=True, slots=True)
class Covered:
    """What the newest published checkpoint covers: entries, their root, the batches that they are in."""

    size: int = 0
    root: bytes = b""
    plans: Sequence[Plan] = ()

    @property
    def segments(self) -> set[str]:
        """The objects that are entered, by name."""
        return {planned.name for plan in self.plans for planned in plan.segments}


@dataclass(frozen=True, slots=True)
class Prune:
    """Bundles that go: those that end at an index or before it. `ends_at`: what is needed of the next one, and why."""

    minimum: int = 0
    objects: tuple[str, ...] = ()
    ends_at: str = ""


def plan_of_log(
    store: ObjectStore,
    log: Covered,
    going: Mapping[str, Gone],
    holds: Sequence[Hold],
    minimum: int,
    now: datetime,
) -> Prune:
    """How far the minimum index can rise. `going`: segments that a receipt lets go, or will; LogConflict, TileError.

    `minimum`: the one that receipts say already.
    """
    bundles = bundles_in(store)
    end, ends_at = _first_needed(store, log, _there(log, bundles, minimum), going, holds, now)
    first = at = minimum // TILE_WIDTH
    while at < end // TILE_WIDTH:
        if kept := _kept(store, at, bundles.get(at, ()), now):
            ends_at = kept
            break
        at += 1
    if at <= first:
        return Prune(min(minimum, end), (), ends_at)  # below it, where what a receipt let go is still there and needed
    pruned = {index: bundles[index] for index in range(first, at)}
    _must_be_whole(store, log, going, at * TILE_WIDTH, pruned)
    return Prune(at * TILE_WIDTH, tuple(name for names in pruned.values() for name in names), ends_at)


def finish(
    store: ObjectStore,
    log: Covered,
    going: Mapping[str, Gone],
    holds: Sequence[Hold],
    minimum: int,
    now: datetime,
) -> None:
    """Bring to its end what receipts say already: `prune`, but no further than to the first entry that is there and is
    needed, by a hold that was put on since, or because the index was false from the start."""
    rows = takewhile(lambda row: row[0] < minimum, _there(log, bundles_in(store), minimum))
    end, _ = _first_needed(store, log, rows, going, holds, now)
    prune(store, min(minimum, end), now)


def _there(log: Covered, bundles: Container[int], minimum: int) -> Iterator[tuple[int, Planned]]:
    """The rows of which an entry was not pruned, each behind the index of its first."""
    for index, planned in (row for plan in log.plans for row in plan.first_entries()):
        end = index + planned.entries
        if end > minimum or any(at in bundles for at in range(index // TILE_WIDTH, (end - 1) // TILE_WIDTH + 1)):
            yield index, planned


def _first_needed(
    store: ObjectStore,
    log: Covered,
    rows: Iterable[tuple[int, Planned]],
    going: Mapping[str, Gone],
    holds: Sequence[Hold],
    now: datetime,
) -> tuple[int, str]:
    """The index from which on entries must stay, and why: what plans and the checkpoint cover may all go."""
    for index, planned in rows:
        if why := _needed(store, planned, going.get(planned.name), holds, now):
            return index, f"{planned.name}: {why}"
    end = log.plans[-1].end if log.plans else 0
    return (log.size, "") if end >= log.size else (end, f"{numbered('batches', end)} is missing")


def prune(store: ObjectStore, minimum: int, now: datetime) -> None:
    """Delete the bundles below the minimum index that a receipt says, the oldest first; what the store keeps stays.

    RetryLater for one that is not what the tree has.
    """
    if minimum < TILE_WIDTH:
        return
    for index, names in sorted(bundles_in(store).items()):
        if index >= minimum // TILE_WIDTH:
            break
        for name in names:
            try:
                if may_go(store.retain_until(name), store.is_held(name), now):
                    break  # the full one stays as long as one that is not full
                leaves = read_hashes(store.read, (index + 1) * TILE_WIDTH, 0, index)
                if wrong := wrong_in_bundle(name, store.read(name), leaves):
                    raise TileError(name, wrong)
                store.delete(name, now)
            except TileError as error:
                raise RetryLater(f"{error}; look into it before anything is purged") from error
            except KeyError:  # somebody else deleted it just now
                continue


def _kept(store: ObjectStore, index: int, names: Sequence[str], now: datetime) -> str:
    """Why a bundle must stay: what the store says of its objects; empty where it may go."""
    if (full := tile_name("entries", index)) not in names:
        return f"{full} is missing; see what `deploytrail archive verify` says"
    found = ((name, may_go(store.retain_until(name), store.is_held(name), now)) for name in names)
    return next((f"{name}: {why}" for name, why in found if why), "")


def bundles_in(store: ObjectStore) -> dict[int, list[str]]:
    """The objects of each bundle, the full one last: while it is there, all entries are."""
    found: dict[int, list[tuple[int, str]]] = {}
    for name in store.list(f"{PREFIX}/tile/entries"):
        if (bundle := bundle_of(name)) is not None:
            index, width = bundle
            found.setdefault(index, []).append((width, name))
    return {index: [name for _, name in sorted(names)] for index, names in found.items()}


def _needed(store: ObjectStore, planned: Planned, gone: Gone | None, holds: Sequence[Hold], now: datetime) -> str:
    """Why a row's entries are needed; empty where they may go."""
    if not is_segment(planned.name):
        return ""  # made again from the row
    if held := active_on(planned.name, holds):
        return ", ".join(held)
    if gone is not None:
        return "" if gone.entries == planned.entries else "its receipt does not say which gaps it told of"
    try:
        promised = stored_segment(store, planned.name).retain_until
    except SegmentError as error:
        return str(error)
    # What stays behind its date, as an act or the newest of a sequence, is made again from itself.
    why = may_go(store.retain_until(planned.name), store.is_held(planned.name), now)
    return why or (may_go(promised, False, now) if promised else "")


def _must_be_whole(
    store: ObjectStore, log: Covered, going: Mapping[str, Gone], minimum: int, pruned: Mapping[int, Sequence[str]]
) -> None:
    """Look at the log as `verify` will: what is gone then cannot be looked at any more. `pruned`: what of it goes, by
    the index of the bundle. LogConflict, TileError."""
    if Tree(store.read, log.size).root() != log.root:
        raise LogConflict(f"{CHECKPOINT} signs another tree than its tiles make; see `deploytrail archive verify`")
    of_rows = rows_that_differ(store.read, _below(log, minimum), log.size, going, minimum)
    for name, detail in chain(of_rows, bundles_that_differ(store.read, pruned, log.size)):
        raise LogConflict(f"{name} {detail}; nothing is purged until that is looked into")


def _below(log: Covered, minimum: int) -> Iterator[Plan]:
    return (plan for plan in log.plans if plan.start < minimum)
