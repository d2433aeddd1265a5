"""The log's minimum index, and what is still needed: holds that come late, an index that is false, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.holds import ADDED, RELEASED
from deploytrail_sinks.archive.lengthen_command import lengthen
from deploytrail_sinks.archive.log.names import numbered, tile_name
from deploytrail_sinks.archive.log.plan import read_plan
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.principals import Signer
from deploytrail_sinks.archive.purge import look, purge
from deploytrail_sinks.archive.receipts import PURGED
from deploytrail_sinks.archive.retention import DEFAULT_POLICY
from deploytrail_sinks.archive.segment import is_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import TOPIC, Killed, Published, fill, published, record
from support.archive_pruned import (
    ADA,
    GRACE,
    IN_EIGHT_YEARS,
    LIVE,
    MINIMUM,
    MUCH_LATER,
    PRINCIPALS,
    DyingInTheLog,
    bundles_of,
    fill_live,
    kept_checkpoints,
    look_at,
    pruned,
    receipts_of,
)


def hold(store: LocalFolder, prefix: str, by: Signer = GRACE) -> None:
    record_act(store, ADDED, {"prefix": prefix, "reason": "case 7"}, by, IN_EIGHT_YEARS)


def release(store: LocalFolder) -> None:
    for by in (ADA, GRACE):
        record_act(store, RELEASED, {"hold": "hold-1", "reason": "over"}, by, IN_EIGHT_YEARS)


@pytest.mark.requirement("M5.5")
def test_a_hold_on_what_has_no_entries_any_more_holds_up_no_others(tmp_path: Path) -> None:
    """What stays past its date, here in the first of two batches, which the minimum index is in the midst of."""
    store = LocalFolder(tmp_path / "archive")
    fill(store, range(300), every=100)
    nobody_writes_on = PartitionArchive(store, TOPIC, 3, frozenset())
    nobody_writes_on.resume(0)
    for offset in range(20):
        nobody_writes_on.add(record(offset))
    nobody_writes_on.close_segments()
    fill(store, range(300, 900), every=100)
    log = published(tmp_path / "signer", store)
    fill_live(store, range(900, 1500))
    log.publish()
    first = pruned(log).of_log.minimum
    log.publish()
    [*_, held] = [name for name in store.list(f"{TOPIC}/003") if is_segment(name)]
    plan = read_plan(store.read(numbered("batches", 0)))
    [end] = [index + row.entries for index, row in plan.first_entries() if row.name == held]
    assert end <= first < plan.end
    hold(store, held)
    log.publish()

    found = purge(store, "", "over", ADA, PRINCIPALS, MUCH_LATER)
    assert found.of_log.minimum > first
    assert min(bundles_of(store).values()) > found.of_log.minimum


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize(
    ("prefix", "first"),
    [(f"{TOPIC}/003", 0), (f"{TOPIC}/001/non-production/{500:020}.avro", 2)],
    ids=["first", "third"],
)
def test_a_hold_that_was_put_on_behind_a_receipt_keeps_what_is_still_there(
    prefix: str, first: int, store: LocalFolder, log: Published
) -> None:
    """From the first bundle on that has entries of what is held."""
    before = bundles_of(store)
    with pytest.raises(Killed):
        purge(DyingInTheLog(store.folder), "", "over", ADA, PRINCIPALS, IN_EIGHT_YEARS)
    assert bundles_of(store) == before
    hold(store, prefix)
    log.publish()
    found = pruned(log)

    assert (found.of_log.objects, found.of_log.minimum // 256) == ((), first)
    assert found.of_log.ends_at.startswith(prefix) and found.of_log.ends_at.endswith(": hold-1")
    there = bundles_of(store)
    assert [tile_name("entries", at) in there for at in range(3)] == [at >= first for at in range(3)]
    assert look_at(store, log)[0].flaws == []

    release(store)
    log.publish()
    pruned(log)
    assert min(bundles_of(store).values()) > MINIMUM
    assert receipts_of(store) == [MINIMUM]
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("behind", [0, 10**9])
def test_an_index_that_is_false_makes_no_honest_purge_take_what_is_kept(
    is_held: bool, behind: int, store: LocalFolder, log: Published
) -> None:
    """By its date, or by a hold; and nothing that no published checkpoint covers."""
    fill_live(store, range(950, 1300))
    if is_held:
        hold(store, LIVE)
    log.publish()
    newest = kept_checkpoints(store)[-1].size
    false = {"prefix": "", "reason": "to hide something", "segments": [], "minimum_index": newest + behind}
    record_act(store, PURGED, false, ADA, IN_EIGHT_YEARS)
    log.publish()
    kept = {name for name, end in bundles_of(store).items() if end > MINIMUM + 256}
    assert any(end <= newest // 256 * 256 for end in map(bundles_of(store).__getitem__, kept))
    purge(store, "", "over", GRACE, PRINCIPALS, MUCH_LATER if is_held else IN_EIGHT_YEARS)

    assert kept <= bundles_of(store).keys()


@pytest.mark.requirement("M5.5")
def test_an_index_beyond_what_is_published_takes_nothing_there(store: LocalFolder, log: Published) -> None:
    """What no published checkpoint covers nobody can say to be needed by no one, past its date or not."""
    false = {"prefix": "", "reason": "", "segments": [], "minimum_index": 10**9}
    record_act(store, PURGED, false, ADA, IN_EIGHT_YEARS)
    fill(store, range(900, 1600), every=100)
    while log.sequencer.step():
        pass
    newest = kept_checkpoints(store)[-1].size
    behind = {name for name, end in bundles_of(store).items() if end > newest}
    assert any(end - newest > 256 for end in map(bundles_of(store).__getitem__, behind))
    purge(store, "", "over", GRACE, PRINCIPALS, MUCH_LATER)

    assert behind <= bundles_of(store).keys()


@pytest.mark.requirement("M5.5")
def test_a_batch_that_is_gone_ends_what_goes_of_the_log(store: LocalFolder, log: Published) -> None:
    """Whose entries follow, and until when they are kept, nobody can tell."""
    second = list(store.list("log/batches"))[1]
    (store.folder / second).unlink()
    start = int(second.rpartition("/")[2])
    found = look(store, "", PRINCIPALS, MUCH_LATER)

    assert found.of_log.minimum <= start
    assert found.of_log.ends_at == f"{second} is missing"
    pruned(log, MUCH_LATER)
    assert min(bundles_of(store).values()) > found.of_log.minimum <= start


@pytest.mark.requirement("M5.5")
def test_a_date_that_was_shortened_beside_a_segment_lets_none_of_its_entries_go(
    store: LocalFolder, log: Published
) -> None:
    """What the segment was created with decides, whatever is written beside it and beside its bundles."""
    fill_live(store, range(950, 1300))
    log.publish()
    for name in (*store.list(LIVE), *bundles_of(store)):
        (store.folder / f"{name}.retain").write_text('{"retain_until": "2026-01-01T00:00:00Z"}')
    found = pruned(log)

    assert (found.of_log.minimum, receipts_of(store)) == (MINIMUM, [MINIMUM])
    assert found.of_log.ends_at.startswith(f"{LIVE}/") and "it is kept until 20" in found.of_log.ends_at


@pytest.mark.requirement("M5.5")
def test_where_a_batch_cannot_be_read_lengthen_keeps_all_entries_as_long_as_what_is_kept_longest(
    store: LocalFolder, log: Published
) -> None:
    """Nobody can tell then which entries are whose."""
    path = store.folder / next(iter(store.list("log/batches")))
    path.chmod(0o644)
    path.write_bytes(b"no plan")
    lengthen(store, DEFAULT_POLICY)
    longest = max(store.retain_until(name) or "" for name in store.list("") if is_segment(name))

    assert {store.retain_until(name) for name in bundles_of(store)} == {longest}
