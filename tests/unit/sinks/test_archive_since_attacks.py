"""`verify --since` reads only what is new; that what a kept checkpoint covers is still there, it looks at all the same.

And `--against`: everything is read, and compared with checkpoints that were kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.merkle import EMPTY_ROOT, leaf_hash
from deploytrail_sinks.archive.log.names import CHECKPOINT, numbered
from deploytrail_sinks.archive.log.plan import Plan, read_plan
from deploytrail_sinks.archive.log.tiles import join_bundle, split_bundle
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.receipts import PURGED
from deploytrail_sinks.archive.segment import digest, is_segment, read_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import MemoryStore, Published, fill, published

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
Objects = dict[str, bytes]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """More than two full tiles in three batches, each with a checkpoint of its own."""
    store = MemoryStore()
    fill(store, range(280), every=70)
    done = published(tmp_path_factory.mktemp("signer"), store)
    fill(store, range(280, 400), every=70)
    fill(store, range(150), partition=2, every=50)
    done.publish()
    fill(store, range(400, 420), every=70)
    done.publish()
    return done


def objects_of(log: Published) -> Objects:
    assert isinstance(log.store, MemoryStore)
    return dict(log.store.objects)


def checkpoint_of(data: bytes) -> Checkpoint:
    return open_checkpoint(data)[0]


def newest(objects: Objects) -> Checkpoint:
    return checkpoint_of(objects[CHECKPOINT])


def named(log: Published, objects: Objects, since: Checkpoint) -> set[str]:
    return {flaw.name for flaw in Published(MemoryStore(objects), log.trust_text).check(since)[0].flaws}


@pytest.mark.requirement("M5.1")
def test_an_archive_that_nobody_touched_is_whole_since_any_checkpoint(log: Published) -> None:
    whole = objects_of(log)
    for name in (name for name in whole if name.startswith("log/checkpoints/")):
        since = checkpoint_of(whole[name])
        report, of_log = log.check(since)

        assert (report.flaws, of_log is not None) == ([], True)
        assert report.segments + report.known == len([name for name in whole if is_segment(name)])


@pytest.mark.requirement("M5.1")
def test_every_object_that_is_gone_is_named_since_any_checkpoint(log: Published) -> None:
    whole = objects_of(log)
    kept = [checkpoint_of(data) for name, data in sorted(whole.items()) if name.startswith("log/checkpoints/")]
    assert len(kept) == 3
    for since in kept:
        missed = [
            name for name in whole if name not in named(log, {n: d for n, d in whole.items() if n != name}, since)
        ]

        assert missed == []


@pytest.mark.requirement("M5.1")
def test_all_events_that_are_gone_are_named_and_the_command_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalFolder(tmp_path / "archive")
    fill(store, range(60), every=20)
    log = published(tmp_path / "signer", store)
    (tmp_path / "trust").write_text(log.trust_text)
    (tmp_path / "kept").write_bytes(store.newest(CHECKPOINT))
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{store.folder}")
    asked = ["verify", "--trust", str(tmp_path / "trust"), "--since", str(tmp_path / "kept")]

    assert command.main(asked) == 0
    assert "6 segments that the checkpoint covers are there and were not read" in capsys.readouterr().out
    names = list(store.list("deploytrail.events"))
    for name in names:
        (store.folder / name).unlink()
    assert command.main(asked) == 1
    said = capsys.readouterr().out
    assert [name for name in names if f"FLAW: {name}: is covered by the checkpoint that you kept" not in said] == []
    for path in sorted(store.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert command.main(asked) == 1
    assert command.main([*asked[:3], "--against", str(tmp_path / "kept")]) == 1
    assert command.main(asked[:3]) == 66


@pytest.mark.requirement("M5.1")
def test_a_cut_through_every_folder_of_the_log_is_named(log: Published) -> None:
    """The first plan, state and checkpoint with all segments of a topic: the plans no longer say what was there."""
    whole = objects_of(log)
    cut = {
        numbered("batches", 0),
        *(min(n for n in whole if n.startswith(f"log/{k}/")) for k in ("states", "checkpoints")),
    }
    left = {n: d for n, d in whole.items() if n not in cut and not n.startswith("deploytrail.")}

    assert numbered("batches", 0) in cut
    assert numbered("batches", 0) in named(log, left, newest(whole))


@pytest.mark.requirement("M5.1")
def test_a_last_state_and_its_checkpoint_that_are_gone_are_named(log: Published) -> None:
    whole = objects_of(log)
    size = newest(whole).size
    cut = {numbered("states", size), numbered("checkpoints", size)}

    assert named(log, {n: d for n, d in whole.items() if n not in cut}, newest(whole)) >= cut


@pytest.mark.requirement("M5.1")
def test_a_plan_that_was_made_to_reach_beyond_the_kept_checkpoint_is_named(log: Published) -> None:
    whole = objects_of(log)
    [_, second, third] = sorted(name for name in whole if name.startswith("log/batches/"))
    since = checkpoint_of(whole[f"log/checkpoints/{third.rpartition('/')[2]}"])
    joined = Plan(read_plan(whole[second]).start, read_plan(whole[second]).segments + read_plan(whole[third]).segments)
    forged = {n: d for n, d in whole.items() if n != third} | {second: joined.encode()}

    assert second in named(log, forged, since)


@pytest.mark.requirement("M5.1", "M7.2")
def test_what_a_principal_purged_is_not_missing_since_a_checkpoint(log: Published) -> None:
    whole, ada = objects_of(log), Signer("ada", Ed25519PrivateKey.generate())
    store = MemoryStore(dict(whole))
    name = next(store.list("deploytrail.events/001/production"))
    segment = read_segment(whole[name])
    gone = {
        "name": name,
        "sha256": digest(whole[name]),
        "version": "",
        "first_offset": str(segment.first_offset),
        "last_offset": str(segment.last_offset),
        "records": len(segment.records),
        "retain_until": "2026-01-01T00:00:00Z",
    }
    record_act(store, PURGED, {"prefix": "", "reason": "over", "segments": [gone]}, ada, NOW)
    del store.objects[name]
    attacked, principals = Published(store, log.trust_text), Principals({"ada": ada.key.public_key()})

    report, _ = attacked.check(newest(whole), principals=principals)
    assert (report.flaws, report.purged) == ([], 1)
    assert name in {flaw.name for flaw in attacked.check(newest(whole))[0].flaws}


def against(log: Published, *kept: Checkpoint) -> list[str]:
    return [f"{flaw.name}: {flaw.detail}" for flaw in log.check(against=kept)[0].flaws]


@pytest.mark.requirement("M5.1")
def test_everything_is_read_and_compared_with_checkpoints_that_were_kept(log: Published, tmp_path: Path) -> None:
    whole = objects_of(log)
    kept = [checkpoint_of(data) for name, data in sorted(whole.items()) if name.startswith("log/checkpoints/")]
    assert against(log, *kept, Checkpoint(kept[0].origin, 0, EMPTY_ROOT)) == []
    forged = MemoryStore()
    fill(forged, range(1000, 1420), every=70)  # other records, all keys stolen
    rewritten = published(tmp_path, forged)
    fill(forged, range(1420, 1700), every=70)
    rewritten.publish()

    assert rewritten.check()[0].flaws == []
    for one in kept:
        found = [flaw for flaw in against(rewritten, one) if flaw.startswith(CHECKPOINT)]
        assert [f"{one.size} entries" in flaw for flaw in found] == [True]
    # What --since does not read, --against does.
    old = next(name for name in whole if is_segment(name))
    damaged = Published(MemoryStore(whole | {old: whole[old][:-20]}), log.trust_text)
    assert old not in {flaw.name for flaw in damaged.check(newest(whole))[0].flaws}
    assert any(flaw.startswith(f"{old}: ") for flaw in against(damaged, newest(whole)))


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda kept: replace(kept, size=kept.size + 1), "the checkpoint that you kept is of"),
        (lambda kept: replace(kept, root=b"x" * 32), "entries are not those"),
        (lambda kept: replace(kept, origin="example.com/other"), "is of the log example.com/other"),
    ],
)
def test_a_kept_checkpoint_that_the_log_does_not_follow_is_said(
    log: Published, change: Callable[[Checkpoint], Checkpoint], why: str
) -> None:
    [flaw] = against(log, change(newest(objects_of(log))))

    assert flaw.startswith(f"{CHECKPOINT}: ")
    assert why in flaw


def forged_plans(plan: Plan) -> dict[str, Plan]:
    """Plans of as many entries that do not name one of the objects, or name another."""
    found = {}
    for at, (before, row) in enumerate(pairwise(plan.segments), 1):
        first, last = plan.segments[: at - 1], plan.segments[at + 1 :]
        reach = max(before.next_offset, row.next_offset)
        joined = replace(before, entries=before.entries + row.entries, next_offset=reach)
        forged = {
            "is left out": (joined,),
            "is named as the one before": (before, replace(row, name=before.name)),
            "has another digest": (before, replace(row, sha256=before.sha256)),
            "begins later": (replace(before, entries=before.entries + 1), replace(row, entries=row.entries - 1)),
            "begins earlier": (replace(before, entries=before.entries - 1), replace(row, entries=row.entries + 1)),
        }
        for what, rows in forged.items():
            if all(one.entries for one in rows):
                found[f"{row.name} {what}"] = replace(plan, segments=(*first, *rows, *last))
    return found


@pytest.mark.requirement("M5.1")
def test_a_plan_that_no_longer_names_what_is_gone_is_named_since_any_checkpoint(log: Published) -> None:
    """Nobody signs a plan: whoever takes a segment away may write the plan anew, too."""
    whole = objects_of(log)
    since, missed, tried = newest(whole), [], 0
    for name in (name for name in whole if name.startswith("log/batches/")):
        for what, plan in forged_plans(read_plan(whole[name])).items():
            assert plan.end == read_plan(whole[name]).end
            left = {n: d for n, d in whole.items() if n != what.partition(" ")[0]} | {name: plan.encode()}
            tried += 1
            if name not in named(log, left, since):
                missed.append(f"{name}: {what}")

    assert missed == []
    assert tried > 50


@pytest.mark.requirement("M5.1")
def test_an_entry_or_hash_that_was_changed_to_fit_a_forged_plan_is_named(log: Published) -> None:
    whole = objects_of(log)
    [batch, *_] = sorted(name for name in whole if name.startswith("log/batches/"))
    plan = read_plan(whole[batch])
    index, row = plan.first_entries()[2]
    bundle, tile = f"log/tile/entries/{index // 256:03}", f"log/tile/0/{index // 256:03}"
    entries = split_bundle(bundle, whole[bundle])
    other = row.name.replace(".events/001", ".events/009")
    entries[index % 256] = entries[index % 256].replace(row.name.encode(), other.encode())
    rows = tuple(replace(one, name=other) if one is row else one for one in plan.segments)
    forged = {n: d for n, d in whole.items() if n != row.name} | {
        batch: replace(plan, segments=rows).encode(),
        bundle: join_bundle(entries),
    }
    hashes = whole[tile][: index % 256 * 32] + leaf_hash(entries[index % 256]) + whole[tile][index % 256 * 32 + 32 :]

    assert bundle in named(log, forged, newest(whole))
    assert tile in named(log, forged | {tile: hashes}, newest(whole))
