"""Sequencer and signer: one tree of each size, whoever is killed where, and nothing signed that does not follow."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_sinks.archive.log import sequencer as sequencer_module
from deploytrail_sinks.archive.log import signer as signer_module
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from deploytrail_sinks.archive.log.merkle import root_of
from deploytrail_sinks.archive.log.names import numbered, tile_name
from deploytrail_sinks.archive.log.notes import Note
from deploytrail_sinks.archive.log.objects import LogConflict, sole_user, write_durably
from deploytrail_sinks.archive.log.publisher import Publisher
from deploytrail_sinks.archive.log.sequencer import Sequencer
from deploytrail_sinks.archive.log.signer import CheckpointSigner, SigningRefused
from deploytrail_sinks.archive.log.tiles import Tree, read_entries
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import NOW, ORIGIN, TOPIC, Killed, MemoryStore, expected_leaves, fill, key, record

HISTORIES = int(os.environ.get("DEPLOYTRAIL_TEST_HISTORIES", "15"))
NO_WITNESS = read_trust("quorum none\n")
LOG_KEY, SEQUENCER_KEY = key(), key("example.com/sequencer")


def sequencer(store: MemoryStore | LocalFolder) -> Sequencer:
    return Sequencer(store, ORIGIN, SEQUENCER_KEY, lambda: NOW)


def signer(store: MemoryStore | LocalFolder, folder: Path, *keys: object) -> CheckpointSigner:
    return CheckpointSigner(store, ORIGIN, keys or (LOG_KEY,), (SEQUENCER_KEY.verifier,), folder, lambda: NOW)


def drain(of: Sequencer) -> None:
    while of.step():
        pass


def check_tree(store: MemoryStore, size: int, leaves: Sequence[bytes] = ()) -> bytes:
    """The root of the first leaves, after bundles and tiles were compared with plans and segments."""
    leaves = (leaves or expected_leaves(store))[:size]
    tree = Tree(store.read, size)
    assert len(leaves) == size
    assert tree.root() == root_of(leaves)
    for index in range((size + 255) // 256):
        assert tree.tile(0, index) == leaves[index * 256 : index * 256 + 256]
    return tree.root()


def offsets_entered(store: MemoryStore, size: int) -> Counter[tuple[str, str]]:
    entries = [entry for index in range((size + 255) // 256) for entry in read_entries(store.read, size, index)[1]]
    return Counter(
        (partition, offset.split(b'"')[0].decode())
        for entry in entries
        if b'"kind":"record"' in entry
        for partition, offset in [(entry.split(b'"partition":')[1][:1].decode(), entry.split(b'"offset":"')[1])]
    )


@pytest.mark.requirement("M5.1")
def test_every_record_is_entered_once_and_signed(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path / "archive")
    fill(store, range(400), partition=1)
    fill(store, range(30, 60), partition=2)
    drain(sequencer(store))
    fill(store, range(400, 430), partition=1)
    again = sequencer(store)
    state = again.step()
    note = signer(store, tmp_path / "signer").sign_next()

    assert state is not None
    assert note is not None
    assert read_checkpoint(note) == state
    assert LOG_KEY.verifier.signed(note)
    assert check_tree(store, state.size) == state.root
    assert set(offsets_entered(store, state.size).values()) == {1}
    assert len(offsets_entered(store, state.size)) == 460
    assert again.step() is None


@dataclass
class History:
    """One random life of a log: kills, restarts, zombies, lost memories of nothing."""

    random: random.Random
    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    signed: dict[int, set[bytes]] = field(default_factory=dict)
    filled: int = 0
    fuse: int = -1

    def more_segments(self) -> None:
        new = self.random.randint(1, 40)
        fill(self.store, range(self.filled, self.filled + new), partition=self.random.choice((1, 1, 1)), every=7)
        self.filled += new

    def burn(self, name: str) -> None:
        """Called before and behind each write: kill when the fuse is burnt down."""
        self.fuse -= 1
        if self.fuse == 0:
            raise Killed(name)

    def mortal(self) -> MemoryStore:
        self.fuse = self.random.randint(1, 30)
        return MemoryStore(self.store.objects, self.burn, self.burn)

    def haunted(self, ghost: Sequencer) -> MemoryStore:
        """A store in which another sequencer does a whole step in the middle of one of our writes."""
        left = [self.random.randint(1, 12)]

        def visit(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                self.more_segments()
                ghost.step()

        return MemoryStore(self.store.objects, visit, visit)

    def note_signed(self, note: Note | None) -> None:
        if note is not None:
            checkpoint = read_checkpoint(note)
            self.signed.setdefault(checkpoint.size, set()).add(checkpoint.root)

    def sign(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def dying(path: Path, data: bytes) -> None:
            when = self.random.choice(("never", "never", "before", "behind"))
            if when == "before":
                raise Killed
            write_durably(path, data)
            self.note_signed(open_checkpoint(data)[1])
            if when == "behind":
                raise Killed

        monkeypatch.setattr(signer_module, "write_durably", dying)
        with contextlib.suppress(Killed):
            of = signer(self.store, self.folder)
            self.note_signed(of.sign_next())
            if of.last is not None:
                Publisher(self.mortal(), NO_WITNESS, lambda: NOW).publish(of.last)


@pytest.mark.requirement("M5.1")
@pytest.mark.timeout(300)
def test_no_crash_makes_two_roots_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = 0
    monkeypatch.setattr(sequencer_module, "POSITIONS_EVERY", 3)  # so that there are some to resume from
    for seed in range(HISTORIES):
        history = History(random.Random(seed), tmp_path / str(seed))
        for _ in range(12):
            history.more_segments()
            try:
                match history.random.choice(("mortal", "mortal", "haunted")):
                    case "mortal":
                        drain(sequencer(history.mortal()))
                    case _:
                        drain(sequencer(history.haunted(sequencer(history.store))))
            except Killed:
                kills += 1
            history.sign(monkeypatch)
        drain(sequencer(history.store))
        monkeypatch.setattr(signer_module, "write_durably", write_durably)
        history.note_signed(signer(history.store, history.folder).sign_next())
        size = sequencer_size(history.store)

        leaves = expected_leaves(history.store)
        assert offsets_entered(history.store, size) == Counter({("1", str(o)): 1 for o in range(history.filled)})
        published = Publisher(history.store, NO_WITNESS, lambda: NOW)
        published.publish(signer(history.store, history.folder).last)
        for signed_size, roots in history.signed.items():
            assert roots == {check_tree(history.store, signed_size, leaves)}
        report, _ = verify_archive(history.store, Asked())
        assert report.flaws == []
        assert list(history.store.list("log/positions"))
    assert kills >= HISTORIES


def sequencer_size(store: MemoryStore) -> int:
    whole = sequencer(store)
    whole.resume()
    return whole.size


def logged(tmp_path: Path) -> tuple[MemoryStore, CheckpointSigner, Checkpoint]:
    """A log with a first signed checkpoint."""
    store = MemoryStore()
    fill(store, range(50))
    drain(sequencer(store))
    fill(store, range(50, 100))
    drain(sequencer(store))
    of = signer(store, tmp_path)
    note = of.sign_next()
    assert note is not None
    return store, of, read_checkpoint(note)


def rewritten(store: MemoryStore, changed: str) -> MemoryStore:
    """A log over the same archive without one of its segments: another history, made by the right sequencer."""
    other = MemoryStore({n: d for n, d in store.objects.items() if not n.startswith("log/") and n != changed})
    drain(sequencer(other))
    return other


def test_the_signer_refuses_another_history_and_a_smaller_tree(tmp_path: Path) -> None:
    store, of, _ = logged(tmp_path)
    segments = [name for name in store.list("deploytrail.events")]
    other = rewritten(store, segments[-1])
    fill(other, range(100, 200), partition=2)
    drain(sequencer(other))
    again = signer(other, tmp_path)
    with pytest.raises(SigningRefused):
        again._check_follows(open_checkpoint(other.read(list(other.list("log/states"))[-1]))[0])
    with pytest.raises(SigningRefused, match="was signed before"):
        of._check_follows(open_checkpoint(store.read(next(store.list("log/states"))))[0])
    assert of.sign_next() is None


def test_the_signer_refuses_a_state_that_the_tiles_do_not_make_or_that_nobody_vouches_for(tmp_path: Path) -> None:
    store, of, first = logged(tmp_path)
    fill(store, range(100, 150))
    drain(sequencer(store))
    [name] = [n for n in store.list("log/states") if n > numbered("states", first.size)]
    state, note = open_checkpoint(store.read(name))
    lie = Checkpoint(ORIGIN, state.size, b"x" * 32).text()

    store.objects[name] = Note(lie, (SEQUENCER_KEY.sign(lie, NOW),)).encode()
    with pytest.raises(SigningRefused, match="tiles make another root"):
        of.sign_next()
    store.objects[name] = Note(note.text, (key("example.com/sequencer").sign(note.text, NOW),)).encode()
    with pytest.raises(SigningRefused, match="not signed by the sequencer"):
        of.sign_next()
    store.objects[name] = note.encode()
    assert of.sign_next() is not None


def test_a_signer_that_lost_its_memory_signs_nothing_until_it_adopts_a_checkpoint(tmp_path: Path) -> None:
    store, of, first = logged(tmp_path / "first")
    assert of.last is not None
    store.objects[numbered("checkpoints", first.size)] = of.last.encode()
    fill(store, range(100, 150))
    drain(sequencer(store))
    fresh = signer(store, tmp_path / "second")

    with pytest.raises(SigningRefused, match="remembers nothing"):
        fresh.sign_next()
    with pytest.raises(ConfigurationError, match="not signed by a key"):
        fresh.adopt(Note(first.text(), (key().sign(first.text(), NOW),)).encode())
    fresh.adopt(of.last.encode())
    assert fresh.sign_next() is not None


def test_damaged_memory_stops_the_signer(tmp_path: Path) -> None:
    store, _, _ = logged(tmp_path)
    (tmp_path / "checkpoint").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        signer(store, tmp_path)


def test_keys_are_replaced_with_an_overlap(tmp_path: Path) -> None:
    store, _, _ = logged(tmp_path)
    new = key()
    fill(store, range(100, 150))
    drain(sequencer(store))
    both = signer(store, tmp_path, LOG_KEY, new).sign_next()
    fill(store, range(150, 200))
    drain(sequencer(store))
    alone = signer(store, tmp_path, new).sign_next()

    assert both is not None
    assert LOG_KEY.verifier.signed(both)
    assert new.verifier.signed(both)
    assert alone is not None
    assert new.verifier.signed(alone)
    assert LOG_KEY.verifier.signed(alone) is None


def test_a_damaged_object_stops_the_sequencer_and_is_named() -> None:
    store = MemoryStore()
    fill(store, range(100))
    drain(sequencer(store))
    for name, match in ((numbered("batches", 0), "log/batches/0"), (tile_name("entries", 0, 119), "entries/000.p")):
        damaged = MemoryStore({n: d for n, d in store.objects.items() if "/states/" not in n})
        if name not in damaged.objects:
            name = next(n for n in damaged.objects if n.startswith("log/tile/entries"))
        damaged.objects[name] = damaged.objects[name][:-3] + b"???"
        with pytest.raises(LogConflict, match=match):
            sequencer(damaged).resume()


def test_a_segment_that_cannot_be_read_stops_its_sequence_only() -> None:
    store = MemoryStore()
    fill(store, range(100), partition=1)
    fill(store, range(100), partition=2)
    broken = next(store.list("deploytrail.events/001"))
    store.objects[broken] = b"broken"
    of = sequencer(store)
    drain(of)
    entered = offsets_entered(store, of.size)

    assert of.stopped == 1
    assert {offset for partition, offset in entered if partition == "2"} == {str(o) for o in range(100)}
    assert 0 < len([1 for partition, _ in entered if partition == "1"]) < 100


def test_what_could_not_be_appended_waits(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(30), every=30)

    def full(name: str) -> None:
        if name.startswith("log/tile"):
            raise RetryLater("the store is full")

    of = sequencer(store)
    store.before = full
    with pytest.raises(RetryLater):
        of.step()
    waiting = of.waiting
    store.before = lambda _: None
    drain(of)

    assert waiting == 32  # of two classes: 30 records, two segments
    assert (of.waiting, of.size) == (0, 32)


def test_a_gap_is_counted_once_however_often_its_batch_is_tried() -> None:
    store = MemoryStore()
    fill(store, range(30), every=30)
    archive = PartitionArchive(store, TOPIC, 1, frozenset())
    archive.resume(committed=30)
    archive.add(record(40))  # ten were gone
    archive.close_segments()

    def full(name: str) -> None:
        if name.startswith("log/states"):
            raise RetryLater("the store is full")

    of = sequencer(store)
    store.before = full
    for _ in range(3):
        with pytest.raises(RetryLater):
            of.step()
    before = of.gaps
    store.before = lambda _: None
    drain(of)

    assert (before, of.gaps) == (0, 3)  # one in each class


def test_a_folder_is_used_by_one_process(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(ConfigurationError, match="in use"), sole_user(tmp_path):
        pass
