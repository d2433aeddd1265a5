"""Entries of the log that are gone, and no purge took them; what is below the minimum index and was changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from deploytrail_sinks.archive.acts import FOLDER, Act, record_act
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT, tile_name
from deploytrail_sinks.archive.log.plan import Plan, read_plan
from deploytrail_sinks.archive.principals import Signer
from deploytrail_sinks.archive.purge import look
from deploytrail_sinks.archive.receipts import PURGED, judge
from deploytrail_sinks.archive.segment import is_segment, read_segment, write_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_attack import remembering
from support.archive_log import TOPIC, MemoryStore, Published, fill
from support.archive_pruned import (
    ADA,
    GRACE,
    IN_EIGHT_YEARS,
    LIVE,
    MINIMUM,
    MUCH_LATER,
    NOBODY,
    PRINCIPALS,
    bundles_of,
    copy_of,
    fill_live,
    kept_checkpoints,
    look_at,
    pruned,
)

Objects = dict[str, bytes]


@pytest.fixture(scope="module")
def behind(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The archive behind a purge whose receipt is in the log."""
    log = copy_of(before, tmp_path_factory.mktemp("behind"))
    pruned(log)
    log.publish()
    return log


def objects_of(log: Published) -> Objects:
    return {name: log.store.read(name) for name in log.store.list("")}


class Dated(MemoryStore):
    """Objects whose dates nobody shortened."""

    def retain_until(self, name: str) -> str | None:
        return "2090-01-01T00:00:00Z" if name in self.objects else None


def named(log: Published, objects: Objects, since: bool = False) -> set[str]:
    kept = open_checkpoint(objects[CHECKPOINT])[0] if since else None
    return {flaw.name for flaw in look_at(Dated(objects), log, kept)[0].flaws}


def reasons(store: LocalFolder, log: Published, **more: Any) -> dict[str, str]:
    return {flaw.name: flaw.detail for flaw in look_at(store, log, **more)[0].flaws}


def below(store: LocalFolder) -> list[str]:
    return [name for name, end in bundles_of(store).items() if end <= MINIMUM]


def taken_away(store: LocalFolder) -> str:
    """Entries that a purge would take, taken away by hand."""
    names = below(store)
    for name in names:
        (store.folder / name).unlink()
    return tile_name("entries", 0)


@pytest.mark.requirement("M5.1", "M5.5")
def test_entries_that_are_gone_without_a_receipt_are_named_each(store: LocalFolder, log: Published) -> None:
    taken_away(store)
    found = reasons(store, log)

    assert found == {tile_name("entries", index): "is missing" for index in range(MINIMUM // 256)}
    for since in kept_checkpoints(store):
        assert reasons(store, log, since=since)


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize(
    ("signer", "principals", "why"),
    [
        (NOBODY, PRINCIPALS, "signed by no principal"),
        (Signer("ada", NOBODY.key), PRINCIPALS, "signed by no principal"),
        (ADA, None, "--principals"),
    ],
    ids=["of nobody", "forged", "nobody is told"],
)
@pytest.mark.parametrize("entered", [False, True])
def test_a_receipt_of_nobody_excuses_no_entries(
    signer: Signer, principals: Any, why: str, entered: bool, store: LocalFolder, log: Published
) -> None:
    record_act(store, PURGED, {"prefix": "", "reason": "", "segments": [], "minimum_index": MINIMUM}, signer, NOW)
    if entered:
        log.publish()
    first = taken_away(store)
    found = reasons(store, log, principals=principals)

    assert why in found[first]
    assert look_at(store, log, principals=principals)[1].minimum_index == 0


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.requirement("M5.1", "M5.5")
def test_entries_at_the_minimum_index_and_above_are_named(behind: Published) -> None:
    whole = objects_of(behind)
    above = [name for name, end in bundles_of(behind.store).items() if end > MINIMUM]

    assert above
    assert named(behind, whole) == set()
    for name in above:
        left = {n: d for n, d in whole.items() if n != name}
        assert name in named(behind, left)
        assert name in named(behind, left, since=True)


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize("index", [0, 512, 1024, 10**9])
def test_a_minimum_index_that_was_edited_is_named(index: int, behind: Published) -> None:
    whole = objects_of(behind)
    [name] = [name for name in whole if name.startswith(FOLDER)]
    segment = read_segment(whole[name])
    value = (segment.records[0].value or b"").replace(b'"minimum_index":%d' % MINIMUM, b'"minimum_index":%d' % index)
    assert value != segment.records[0].value
    forged = write_segment(replace(segment, records=(replace(segment.records[0], value=value),)))
    found = named(behind, whole | {name: forged})

    assert {name, tile_name("entries", 0)} <= found
    assert named(behind, whole | {name: forged}, since=True)


@pytest.mark.requirement("M5.1", "M5.5")
def test_a_receipt_that_is_gone_is_named_and_all_that_it_excused(behind: Published) -> None:
    whole = objects_of(behind)
    [name] = [name for name in whole if name.startswith(FOLDER)]
    found = named(behind, {n: d for n, d in whole.items() if n != name})

    assert {name, *(tile_name("entries", index) for index in range(MINIMUM // 256))} <= found


@pytest.mark.requirement("M5.5")
def test_a_principal_who_lets_entries_of_kept_records_go_is_found(store: LocalFolder, log: Published) -> None:
    """One principal does not take away from monitors what is still to be kept. That it is there, segments show."""
    fill_live(store, range(950, 1300))
    log.publish()
    newest = kept_checkpoints(store)[-1].size
    segments: dict[str, Any] = {"prefix": "", "reason": "to hide something", "segments": []}
    record_act(store, PURGED, segments | {"minimum_index": newest}, ADA, IN_EIGHT_YEARS)
    log.publish()
    for name in [name for name, end in bundles_of(store).items() if end <= newest // 256 * 256]:
        (store.folder / name).unlink()
    found = reasons(store, log)

    assert "was pruned before" in found[tile_name("entries", MINIMUM // 256)]
    assert LIVE in found[tile_name("entries", MINIMUM // 256)]


@pytest.mark.requirement("M5.5")
def test_no_later_receipt_hides_that_entries_went_too_early(store: LocalFolder, log: Published) -> None:
    """Not even one that is honest, of a day on which they may go."""
    fill_live(store, range(950, 1300))
    log.publish()
    newest = kept_checkpoints(store)[-1].size // 256 * 256
    said: dict[str, Any] = {"prefix": "", "reason": "to hide something", "segments": []}
    record_act(store, PURGED, said | {"minimum_index": newest - 256}, ADA, IN_EIGHT_YEARS)
    for name in [name for name, end in bundles_of(store).items() if end <= newest - 256]:
        (store.folder / name).unlink()
    record_act(store, PURGED, said | {"minimum_index": newest}, GRACE, MUCH_LATER)
    log.publish()
    asked = Asked(log.trust, log.trust.sequencers, principals=PRINCIPALS, now=MUCH_LATER)
    found = {flaw.name: flaw.detail for flaw in verify_archive(store, asked)[0].flaws}

    assert found.keys() == {tile_name("entries", MINIMUM // 256)}
    assert "was pruned before" in found[tile_name("entries", MINIMUM // 256)]
    assert LIVE in found[tile_name("entries", MINIMUM // 256)]


@pytest.mark.requirement("M5.5")
def test_a_receipt_that_is_dated_in_the_future_excuses_no_more_than_one_of_today(
    store: LocalFolder, log: Published
) -> None:
    fill_live(store, range(950, 1300))
    log.publish()
    newest = kept_checkpoints(store)[-1].size // 256 * 256
    said = {"prefix": "", "reason": "to hide something", "segments": [], "minimum_index": newest}
    record_act(store, PURGED, said, ADA, MUCH_LATER)
    log.publish()
    for name in [name for name, end in bundles_of(store).items() if end <= newest]:
        (store.folder / name).unlink()

    assert "was pruned before" in reasons(store, log)[tile_name("entries", MINIMUM // 256)]


@pytest.mark.requirement("M5.1", "M5.5")
def test_a_minimum_index_beyond_what_is_published_excuses_nothing_there(store: LocalFolder, log: Published) -> None:
    newest = kept_checkpoints(store)[-1].size
    said = {"prefix": "", "reason": "", "segments": [], "minimum_index": 10**9}
    record_act(store, PURGED, said, ADA, IN_EIGHT_YEARS)
    fill(store, range(900, 1600), every=100)
    while log.sequencer.step():
        pass
    first = tile_name("entries", newest // 256 + 1)
    (store.folder / first).unlink()

    assert first in reasons(store, log)
    assert look_at(store, log)[1].minimum_index == newest // 256 * 256


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-26T12:00:00"], ids=["none", "no date", "without a zone"])
def test_a_receipt_of_no_date_raises_no_minimum_index(at: str) -> None:
    found = judge([Act(0, PURGED, "ada", at, {"minimum_index": MINIMUM}, verified=True)], IN_EIGHT_YEARS).minimum

    assert (found.index, found.bundles) == (0, 0)
    assert "says no date" in found.why_not


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"sha256": "0" * 64}, "is purged with another digest than the log says"),
        ({"last_offset": "98"}, "ends before offset 100"),
    ],
)
def test_a_receipt_that_says_other_than_the_log_of_what_went_is_named(
    said: dict[str, str], why: str, store: LocalFolder, log: Published
) -> None:
    goes = look(store, f"{TOPIC}/001/production", PRINCIPALS, IN_EIGHT_YEARS).goes[0]
    of_it = {name: str(value) for name, value in asdict(goes).items()} | {"records": goes.records} | said
    record_act(store, PURGED, {"prefix": "", "reason": "over", "segments": [of_it]}, ADA, IN_EIGHT_YEARS)
    log.publish()
    (store.folder / goes.name).unlink()

    assert why in "; ".join(flaw.detail for flaw in look_at(store, log)[0].flaws)


def other_rows(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Plans of as many entries that do not name one of the objects, or name another, and the object's name."""
    for at, (one, row) in enumerate(pairwise(plan.segments), 1):
        first, last = plan.segments[: at - 1], plan.segments[at + 1 :]
        reach = max(one.next_offset, row.next_offset)
        for rows in (
            (replace(one, entries=one.entries + row.entries, next_offset=reach),),
            (one, replace(row, name=one.name)),
            (one, replace(row, sha256=one.sha256)),
            (replace(one, entries=one.entries + 1), replace(row, entries=row.entries - 1)),
            (replace(one, entries=one.entries - 1), replace(row, entries=row.entries + 1)),
        ):
            if all(each.entries for each in rows):
                yield row.name, replace(plan, segments=(*first, *rows, *last))


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("since", [False, True])
@pytest.mark.parametrize("purged_too", [False, True])
def test_a_plan_that_no_longer_names_what_the_log_has_is_named_as_before(
    since: bool, purged_too: bool, behind: Published, log: Published
) -> None:
    """Nobody signs a plan. Below the minimum index nothing but hashes says what it must be."""
    one = behind if purged_too else log
    whole = objects_of(one)
    tried, missed = 0, []
    with remembering():
        for name in (name for name in whole if name.startswith("log/batches/")):
            for what, plan in other_rows(read_plan(whole[name])):
                left = {n: d for n, d in whole.items() if n != what} | {name: plan.encode()}
                for objects in (left, whole | {name: plan.encode()}):
                    tried += 1
                    # Of a segment that is gone without a receipt nothing tells what its row must be; itself is named.
                    alone = {what} if purged_too and what in whole and what not in objects else set()
                    if alone and what.startswith(FOLDER):  # the receipt: without it, entries are missing
                        alone.add(tile_name("entries", 0))
                    if not named(one, objects, since) & {name, *alone}:
                        missed.append(f"{name}: {what}")

    assert missed == []
    assert tried > 100


@pytest.mark.requirement("M5.1")
def test_every_object_of_a_purged_archive_that_is_gone_or_changed_is_named(behind: Published) -> None:
    whole = objects_of(behind)
    missed = []
    with remembering():
        for name, data in whole.items():
            for at in {0, len(data) // 2, len(data) - 1}:
                changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                if name not in named(behind, whole | {name: changed}):
                    missed.append(f"{name} changed at {at}")
            if name not in named(behind, {n: d for n, d in whole.items() if n != name}):
                missed.append(f"{name} gone")

    assert missed == []
    assert len([name for name in whole if is_segment(name)]) > 5


@pytest.mark.requirement("M5.5")
def test_what_a_purge_would_take_is_shown_before_and_a_copy_shows_what_went(
    before: Path, tmp_path: Path, behind: Published
) -> None:
    """A mirror that was made before keeps every entry, and each is what the log's hashes say."""
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    mirror = LocalFolder(tmp_path / "archive")
    shown = look(mirror, "", PRINCIPALS, IN_EIGHT_YEARS).of_log.objects

    assert {*shown} == set(mirror.list("log/tile/entries")) - set(behind.store.list("log/tile/entries"))
    joined = objects_of(behind) | {name: mirror.read(name) for name in shown}
    assert named(behind, joined) == set()
