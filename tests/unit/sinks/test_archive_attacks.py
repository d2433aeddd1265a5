"""Attacks on an archive with a log: each is found, and the object is named.

Every byte and every object in turn: test_archive_every_byte.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.notes import Note
from support.archive_log import LOG_KEY, NOW, ORIGIN, MemoryStore, Published, fill, key, published


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """An archive of two partitions, published three times."""
    store = MemoryStore()
    fill(store, range(150), every=50)
    done = published(tmp_path_factory.mktemp("signer"), store)
    fill(store, range(150, 200), every=50)
    fill(store, range(60), partition=2, every=30)
    done.publish()
    fill(store, range(200, 230), every=50)
    done.publish()
    return done


def attacked(log: Published, objects: dict[str, bytes]) -> Published:
    return Published(MemoryStore(objects), log.trust_text)


def flaws(log: Published, objects: dict[str, bytes]) -> set[str]:
    return {flaw.name for flaw in attacked(log, objects).check()[0].flaws}


def objects_of(log: Published) -> dict[str, bytes]:
    assert isinstance(log.store, MemoryStore)
    return dict(log.store.objects)


@pytest.mark.requirement("M5.1")
def test_an_archive_that_nobody_touched_is_whole(log: Published) -> None:
    report, of_log = log.check()

    assert report.flaws == []
    assert of_log is not None
    assert (of_log.checkpoints, of_log.unpublished, of_log.uncovered_segments) == (3, 0, 0)
    assert of_log.entries > 290
    assert report.records == 290


def test_a_log_that_is_written_while_it_is_verified_is_whole(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store)
    written = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if what == "segments" and done == total and not written:
            written.append(True)
            fill(store, range(40, 80))
            log.publish()

    report, _ = verify_archive(store, Asked(log.trust, log.trust.sequencers), meanwhile)
    assert report.flaws == []
    listing = store.list

    def slow(prefix: str) -> Iterator[str]:
        names = list(listing(prefix))
        if prefix == "log" and len(written) == 1:
            written.append(True)
            fill(MemoryStore(store.objects), range(80, 120))
            log.publish()
        return iter(names)

    store.list = slow  # type: ignore[method-assign]
    assert log.check()[0].flaws == []
    assert len(written) == 2


def test_classes_of_a_partition_that_are_stored_one_after_another_are_no_hole(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(20))
    log = published(tmp_path, store)
    before = set(store.objects)
    fill(store, range(20, 30))
    late = next(name for name in store.objects if name not in before and "non-production" in name)
    whole = store.objects.pop(late)  # its writer has stored production, and is about to store this

    def goes_on() -> None:
        store.objects[late] = whole

    still_away = verify_archive(store, Asked(log.trust, log.trust.sequencers))[0]
    arrived = verify_archive(store, Asked(log.trust, log.trust.sequencers), pause=goes_on)[0]

    assert [flaw.name for flaw in still_away.flaws] == ["deploytrail.events/001"]
    assert "are in no segment" in still_away.flaws[0].detail
    assert arrived.flaws == []


@pytest.mark.requirement("M5.1")
def test_a_rollback_is_found_by_who_kept_a_checkpoint(log: Published) -> None:
    whole = objects_of(log)
    newest, _ = open_checkpoint(whole[CHECKPOINT])
    first = sorted(n for n in whole if n.startswith("log/checkpoints/"))[0]
    old = {n: d for n, d in whole.items() if not n.startswith("log/")}
    for name, data in whole.items():
        if name.startswith("log/") and name <= first.replace("checkpoints", name.split("/")[1]):
            old[name] = data
    old[CHECKPOINT] = whole[first]

    report, _ = attacked(log, old).check(since=newest)
    assert CHECKPOINT in {flaw.name for flaw in report.flaws}
    only_newest_back = whole | {CHECKPOINT: whole[first]}
    assert CHECKPOINT in flaws(log, only_newest_back)


@pytest.mark.requirement("M5.1")
def test_an_archive_rewritten_with_the_stolen_keys_is_found_by_a_kept_checkpoint(
    log: Published, tmp_path: Path
) -> None:
    kept, _ = open_checkpoint(objects_of(log)[CHECKPOINT])
    forged = MemoryStore()
    fill(forged, range(100, 330), every=50)  # other records under the same names
    rewritten = published(tmp_path, forged)

    assert rewritten.check()[0].flaws == []
    assert CHECKPOINT in {flaw.name for flaw in rewritten.check(since=kept)[0].flaws}


@pytest.mark.requirement("M5.1")
def test_a_forged_leaf_with_a_matching_tile_is_found(log: Published) -> None:
    from deploytrail_sinks.archive.log.merkle import leaf_hash
    from deploytrail_sinks.archive.log.tiles import join_bundle, split_bundle

    whole = objects_of(log)
    bundle, tile = "log/tile/entries/000", "log/tile/0/000"
    entries = split_bundle(bundle, whole[bundle])
    entries[3] = entries[3].replace(b'"offset":"', b'"offset":"9')
    hashes = whole[tile][: 3 * 32] + leaf_hash(entries[3]) + whole[tile][4 * 32 :]
    found = flaws(log, whole | {bundle: join_bundle(entries), tile: hashes})

    assert found
    assert any(name.startswith(("log/tile/1", "log/tile/0", "log/tile/entries")) for name in found)


@pytest.mark.parametrize(
    "text",
    ["{o}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", "{o}\n99999999999999999999\nAAAA\n", "no checkpoint\n"],
)
def test_a_signed_checkpoint_of_no_sense_is_found(log: Published, text: str) -> None:
    whole = objects_of(log)
    text = text.format(o=ORIGIN)
    forged = Note(text, (LOG_KEY.sign(text, NOW),)).encode()

    assert CHECKPOINT in flaws(log, whole | {CHECKPOINT: forged})
    assert CHECKPOINT in flaws(log, whole | {CHECKPOINT: forged * 5000})


def test_a_checkpoint_of_another_key_or_log_is_found(log: Published) -> None:
    whole = objects_of(log)
    checkpoint, note = open_checkpoint(whole[CHECKPOINT])
    other = Checkpoint("example.com/other", checkpoint.size, checkpoint.root).text()
    for forged in (
        Note(note.text, (key().sign(note.text, NOW),)),
        Note(other, (LOG_KEY.sign(other, NOW),)),
    ):
        assert CHECKPOINT in flaws(log, whole | {CHECKPOINT: forged.encode()})


def test_only_what_is_new_is_read_behind_a_kept_checkpoint(log: Published) -> None:
    whole = objects_of(log)
    first, _ = open_checkpoint(whole[sorted(n for n in whole if n.startswith("log/checkpoints/"))[0]])
    report, of_log = attacked(log, whole).check(since=first)

    assert report.flaws == []
    assert of_log is not None
    assert report.records == 140
    lie = Checkpoint(first.origin, first.size, b"x" * 32)
    assert CHECKPOINT in {flaw.name for flaw in attacked(log, whole).check(since=lie)[0].flaws}
    new = next(name for name in whole if name.startswith("deploytrail.events/002"))
    damaged = attacked(log, whole | {new: whole[new][:-20]}).check(since=first)
    assert new in {flaw.name for flaw in damaged[0].flaws}
