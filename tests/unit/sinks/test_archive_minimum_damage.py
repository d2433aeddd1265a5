"""A purge and a log that was damaged: nothing goes that shows it, and where it shows in time nothing at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import tile_name
from deploytrail_sinks.archive.log.objects import LogConflict
from deploytrail_sinks.archive.log.plan import read_plan
from deploytrail_sinks.archive.log.tiles import join_bundle, split_bundle
from deploytrail_sinks.archive.purge import look, purge
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import Killed, Published
from support.archive_pruned import (
    ADA,
    IN_EIGHT_YEARS,
    MINIMUM,
    PRINCIPALS,
    DyingInTheLog,
    bundles_of,
    look_at,
    pruned,
    receipts_of,
)


def damaged_bundle(store: LocalFolder) -> None:
    path = store.folder / tile_name("entries", 1)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"offset":"2', b'"offset":"3', 1))


def truncated_bundle(store: LocalFolder) -> None:
    """In the middle of an entry."""
    path = store.folder / tile_name("entries", 1)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])


def shorter_bundle(store: LocalFolder) -> None:
    """Without its last entry."""
    path = store.folder / tile_name("entries", 1)
    path.chmod(0o644)
    path.write_bytes(join_bundle(split_bundle(path.name, path.read_bytes())[:-1]))


def shorter_partial_bundle(store: LocalFolder) -> None:
    """One that a checkpoint needed before the full one was there."""
    name = next(iter(store.list(f"{tile_name('entries', 2)}.p")))
    path = store.folder / name
    path.chmod(0o644)
    path.write_bytes(join_bundle(split_bundle(name, path.read_bytes())[:-1]))


def another_bundle_and_its_tile(store: LocalFolder) -> None:
    """By whoever changes what was hashed, too: the tile above tells."""
    damaged_bundle(store)
    entries = split_bundle("", (store.folder / tile_name("entries", 1)).read_bytes())
    path = store.folder / tile_name(0, 1)
    path.chmod(0o644)
    path.write_bytes(b"".join(leaf_hash(entry) for entry in entries))


def missing_bundle(store: LocalFolder) -> None:
    (store.folder / tile_name("entries", 1)).unlink()


def forged_plan(store: LocalFolder) -> None:
    """A row whose object another one swallows."""
    name = "log/batches/" + "0" * 20
    plan = read_plan(store.read(name))
    first, second, *others = plan.segments
    joined = replace(first, entries=first.entries + second.entries)
    (store.folder / name).chmod(0o644)
    (store.folder / name).write_bytes(replace(plan, segments=(joined, *others)).encode())


def damaged_tile(store: LocalFolder) -> None:
    path = store.folder / tile_name(0, 1)
    path.chmod(0o644)
    path.write_bytes(b"x" * len(path.read_bytes()))


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize("damage", [missing_bundle, forged_plan, damaged_tile])
def test_no_purge_takes_away_what_shows_that_the_log_was_damaged(
    damage: Callable[[LocalFolder], None], store: LocalFolder, log: Published
) -> None:
    damage(store)
    flaws = look_at(store, log)[0].flaws
    assert flaws
    with contextlib.suppress(LogConflict):
        pruned(log)

    assert tile_name("entries", 1) in bundles_of(store) or damage is missing_bundle
    assert {flaw.name for flaw in look_at(store, log)[0].flaws} >= {flaw.name for flaw in flaws[:1]}


def other_digest(store: LocalFolder) -> None:
    """A row that counts as the log does, and says another digest."""
    name = "log/batches/" + "0" * 20
    plan = read_plan(store.read(name))
    first, *others = plan.segments
    (store.folder / name).chmod(0o644)
    (store.folder / name).write_bytes(replace(plan, segments=(replace(first, sha256="0" * 64), *others)).encode())


def other_root(store: LocalFolder) -> None:
    """A tile of the right edge."""
    [*_, path] = sorted((store.folder / "log/tile/1").rglob("*.p/3"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize(
    "damage",
    [
        other_digest,
        other_root,
        damaged_bundle,
        truncated_bundle,
        shorter_bundle,
        shorter_partial_bundle,
        another_bundle_and_its_tile,
    ],
)
def test_a_purge_looks_first_whether_the_log_is_whole_up_to_where_it_goes(
    damage: Callable[[LocalFolder], None], store: LocalFolder, log: Published
) -> None:
    damage(store)
    before = list(store.list(""))
    with pytest.raises(LogConflict, match=r"archive verify|nothing is purged"):
        look(store, "", PRINCIPALS, IN_EIGHT_YEARS)
    with pytest.raises(LogConflict, match=r"archive verify|nothing is purged"):
        pruned(log)

    assert list(store.list("")) == before  # nor is there a receipt


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize("damage", [damaged_bundle, truncated_bundle, shorter_bundle])
def test_a_bundle_that_was_damaged_behind_its_receipt_stays_for_whoever_looks(
    damage: Callable[[LocalFolder], None], store: LocalFolder, log: Published
) -> None:
    with pytest.raises(Killed):
        purge(DyingInTheLog(store.folder), "", "over", ADA, PRINCIPALS, IN_EIGHT_YEARS)
    damage(store)
    for _ in range(2):
        with pytest.raises(RetryLater, match=f"{tile_name('entries', 1)} .*before anything is purged"):
            pruned(log)

    assert tile_name("entries", 1) in bundles_of(store)
    assert receipts_of(store) == [MINIMUM]
