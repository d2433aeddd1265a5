"""The archive's segments: nothing lost and nothing twice over crashes, restarts and zombies."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import fastavro
import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.registry import SchemaRegistry
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.raw_records import SCHEMA, encoded
from deploytrail_sinks.archive.retention import RetentionClass, classify, retain_until
from deploytrail_sinks.archive.segment import Record, SegmentError, read_segment, salted, segment_name, write_segment
from deploytrail_sinks.archive.sequence import ArchiveConflict, Sequence
from deploytrail_sinks.archive.store import (
    USUAL,
    LocalFolder,
    ObjectExists,
    ObjectKept,
    ObjectStore,
    Terms,
    Version,
    may_go,
)
from deploytrail_sinks.archive.verify import verify
from support.schema_registry import schema_registry
from support.values import NOON, event

TOPIC = "deploytrail.events"
ENVIRONMENTS = ("production", "staging", "production")
VALUES = [
    encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, environment=e, service="ledger" if i == 2 else "shop"))
    for i, e in enumerate(ENVIRONMENTS)
]


class MemoryStore:
    """A store that forgets with the process; the contract is the folder's."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.dates: dict[str, str] = {}
        self.held: set[str] = set()

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
        if self.objects.get(name, data) != data:
            raise ObjectExists(name)
        self.objects[name] = data
        self.dates[name] = max(retain_until, self.dates.get(name, ""))
        return ""

    def settle(self, name: str) -> None:
        return

    def read(self, name: str, version: str = "") -> bytes:
        return self.objects[name]

    def versions(self, name: str) -> tuple[Version, ...]:
        return (Version("", len(self.objects[name])),) if name in self.objects else ()

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(name for name in self.objects if name.startswith(f"{prefix}/" if prefix else "")))

    def retain_until(self, name: str) -> str | None:
        return self.dates.get(name)

    def lengthen(self, name: str, retain_until: str, terms: Terms = USUAL) -> bool:
        before, self.dates[name] = self.dates[name], max(retain_until, self.dates[name])
        return self.dates[name] != before

    def is_held(self, name: str) -> bool:
        return name in self.held

    def hold(self, name: str, on: bool) -> None:
        (self.held.add if on else self.held.discard)(name)

    def delete(self, name: str, now: datetime) -> None:
        if why := may_go(self.dates.get(name), self.is_held(name), now):
            raise ObjectKept(why)
        del self.objects[name], self.dates[name]


def record(offset: int, value: bytes | None = None) -> Record:
    headers = (("h", b"1"), ("h", None))
    return Record(offset, NOON // 1000 + offset, 1, b"k", VALUES[offset % 3] if value is None else value, headers)


def archive_of(store: ObjectStore, offsets: range, every: int = 10) -> None:
    archive = PartitionArchive(store, TOPIC, 1, {"ledger"})
    archive.resume()
    for offset in offsets:
        archive.add(record(offset))
        if offset % every == every - 1:
            archive.close_segments()
    archive.close_segments()


def offsets_in(store: ObjectStore) -> list[int]:
    return sorted(r.offset for name in store.list("") for r in read_segment(store.read(name)).records)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalFolder(tmp_path / "archive") if request.param == "folder" else MemoryStore()


def test_a_store_creates_once_and_gives_back_what_it_took(store: ObjectStore) -> None:
    store.create("a/b.avro", b"one", "2033-01-01T00:00:00Z")
    with pytest.raises(ObjectExists):
        store.create("a/b.avro", b"two", "2033-01-01T00:00:00Z")
    with pytest.raises(KeyError):
        store.read("a/c.avro")

    assert store.read("a/b.avro") == b"one"
    assert list(store.list("a")) == ["a/b.avro"]
    assert store.retain_until("a/b.avro") == "2033-01-01T00:00:00Z"


def test_a_stored_file_is_read_only_and_alone(tmp_path: Path) -> None:
    LocalFolder(tmp_path).create("a/b.avro", b"one", "2033-01-01T00:00:00Z")

    assert (tmp_path / "a/b.avro").stat().st_mode & 0o777 == 0o444
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b.avro", "b.avro.retain"]


@pytest.mark.requirement("M5.1")
def test_a_segment_gives_back_raw_records(store: ObjectStore) -> None:
    archive_of(store, range(30))
    [name, *_] = store.list(f"{TOPIC}/001/production")
    segment = read_segment(store.read(name))

    assert name == "deploytrail.events/001/production/00000000000000000000.avro"
    assert [r.content() for r in segment.records] == [record(o).content() for o in range(10) if o % 3 == 0]
    assert all(len(r.salt) == 16 for r in segment.records)


def test_equal_records_and_salts_give_equal_bytes() -> None:
    store = MemoryStore()
    archive_of(store, range(5))
    for name in store.list(""):
        assert write_segment(read_segment(store.read(name))) == store.read(name)


@pytest.mark.parametrize("seed", range(50))
def test_records_are_written_as_a_general_writer_of_avro_writes_them(seed: int) -> None:
    rng = random.Random(seed)

    def number() -> int:
        return rng.choice((1, -1)) * rng.getrandbits(rng.randrange(64)) - rng.randrange(2)

    def some_bytes() -> bytes | None:
        return rng.choice((None, rng.randbytes(rng.choice((0, 1, 63, 64, 127, 8191, 8192, 9000)))))

    headers = tuple((rng.choice(("h", "\u00fc" * 70, "")), some_bytes()) for _ in range(rng.choice((0, 1, 3, 70))))
    one = Record(number(), number(), rng.randrange(3), some_bytes(), some_bytes(), headers, rng.randbytes(16))
    expected = io.BytesIO()
    as_avro = asdict(one) | {"headers": [{"name": name, "value": value} for name, value in headers]}
    fastavro.schemaless_writer(expected, SCHEMA, as_avro)

    assert encoded([one]) == [expected.getvalue()]


def staged(environment: str) -> bytes:
    return encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, environment=environment))


@pytest.mark.requirement("M5.5")
def test_records_have_the_class_of_their_environment() -> None:
    assert classify(VALUES[0], frozenset()) is RetentionClass.PRODUCTION
    assert classify(VALUES[1], frozenset()) is RetentionClass.NON_PRODUCTION
    assert classify(VALUES[2], {"ledger"}) is RetentionClass.REGULATED
    assert classify(staged(""), frozenset()) is RetentionClass.PRODUCTION
    assert classify(staged("unknown"), frozenset()) is RetentionClass.PRODUCTION
    assert classify(staged("eu-production"), frozenset()) is RetentionClass.PRODUCTION
    assert classify(staged("pre-prod"), frozenset()) is RetentionClass.NON_PRODUCTION
    assert classify(b"unreadable", frozenset()) is RetentionClass.PRODUCTION
    assert classify(encode(RecordType.TICK, {"at": NOON}), frozenset()) is RetentionClass.PRODUCTION
    told = encode(RecordType.GLOBAL_CHANGE, event("started", NOON, region="global", service="ledger"))
    assert classify(told, {"ledger"}) is RetentionClass.REGULATED  # it names people, as the event itself does


def test_a_record_whose_class_changed_across_a_crash_is_kept() -> None:
    store = MemoryStore()
    first = PartitionArchive(store, TOPIC, 1, frozenset())
    first.resume(0)
    for offset in range(6):
        first.add(record(offset))
    # A crash after one class was stored, and the settings are changed before the restart.
    first._sequences[RetentionClass.NON_PRODUCTION].close_segment(6, 0)
    second = PartitionArchive(store, TOPIC, 1, {"ledger"})
    second.resume(0)
    for offset in range(6):
        second.add(record(offset, VALUES[1] if offset == 2 else None))
    second.close_segments()

    assert offsets_in(store) == list(range(6))
    assert verify(store).flaws == []


def test_what_a_registry_names_the_schema_of_has_the_class_of_its_record_and_stays_as_it_came() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        framed = [wire.framed(value, "deploytrail.intake") for value in VALUES]
        store = MemoryStore()
        archive = PartitionArchive(store, "deploytrail.intake", 1, {"ledger"}, wire=wire)
        archive.resume()
        for offset, value in enumerate([*framed, b"\0\0\1\0\0of nobody"]):
            archive.add(record(offset, value))
        archive.close_segments()
    stored = {s.retention_class: [r.value for r in s.records] for s in map(read_segment, store.objects.values())}

    assert stored == {
        RetentionClass.PRODUCTION: [framed[0], b"\0\0\1\0\0of nobody"],
        RetentionClass.NON_PRODUCTION: [framed[1]],
        RetentionClass.REGULATED: [framed[2]],
    }


def test_a_gap_before_what_was_only_pending_is_noticed() -> None:
    store = MemoryStore()
    archive_of(store, range(6))
    archive = PartitionArchive(store, TOPIC, 1, {"ledger"})
    archive.resume(committed=6)

    assert archive.add(record(9)) == [(6, 8)]


def test_timestamps_of_no_sense_stop_nothing() -> None:
    assert retain_until(RetentionClass.NON_PRODUCTION, -1) == "2001-01-02T00:00:00Z"
    assert retain_until(RetentionClass.NON_PRODUCTION, 1 << 62) == "2101-01-03T00:00:00Z"


def test_regulated_records_are_kept_for_more_than_seven_years() -> None:
    assert retain_until(RetentionClass.REGULATED, NOON // 1000) == "2033-12-08T00:00:00Z"


def test_every_offset_is_in_one_class(store: ObjectStore) -> None:
    archive_of(store, range(35))
    report = verify(store)

    assert report.flaws == []
    assert (report.records, report.segments) == (35, 12)
    assert offsets_in(store) == list(range(35))


def test_an_idle_class_holds_no_commit_back() -> None:
    archive = PartitionArchive(MemoryStore(), TOPIC, 1, frozenset())
    archive.resume()
    for offset in range(5):
        archive.add(record(offset, VALUES[1]))

    assert archive.safe_offset() == 0
    archive.close_segments()
    assert archive.safe_offset() == 5


def test_what_kafka_lost_is_a_recorded_gap() -> None:
    store = MemoryStore()
    archive_of(store, range(10))
    archive = PartitionArchive(store, TOPIC, 1, {"ledger"})
    archive.resume()

    assert archive.add(record(15)) == [(10, 14)]
    archive.close_segments()
    report = verify(store)
    assert report.flaws == []
    assert {gap.detail for gap in report.gaps} == {"offsets 10 to 14 were lost before archiving"}


def test_holes_of_a_compacted_topic_are_no_gaps() -> None:
    store = MemoryStore()
    archive = PartitionArchive(store, "deploytrail.policies", 0, frozenset(), compacted=True)
    archive.resume()

    assert archive.add(record(3, b"{}")) == []
    assert archive.add(record(9, b"{}")) == []
    archive.close_segments()
    assert verify(store).is_whole
    assert offsets_in(store) == [3, 9]


def test_an_object_that_holds_something_else_stops_the_sequence() -> None:
    store = MemoryStore()
    other = Sequence(store, TOPIC, 1, RetentionClass.PRODUCTION)
    other.begin(0)
    other.add(Record(0, 1, 1, b"k", b"another value", ()))
    other.close_segment(1, 0)
    mine = Sequence(store, TOPIC, 1, RetentionClass.PRODUCTION)
    mine.begin(0)
    mine.add(record(0))

    with pytest.raises(ArchiveConflict, match="holds other records"):
        mine.close_segment(1, 0)


def play_history(seed: int) -> MemoryStore:
    """Writers that are killed, restarted and left behind as zombies, until one of them is done."""
    rng = random.Random(seed)
    store, end = MemoryStore(), 60
    committed = 0
    writers: list[tuple[PartitionArchive, int]] = []
    for _ in range(rng.randint(10, 60)):
        if not writers or rng.random() < 0.2:
            fresh = PartitionArchive(store, TOPIC, 1, {"ledger"})
            fresh.resume()
            writers.append((fresh, committed))
        index = rng.randrange(len(writers))
        archive, position = writers[index]
        for _ in range(rng.randint(0, 12)):
            if position < end:
                archive.add(record(position))
                position += 1
        writers[index] = (archive, position)
        if rng.random() < 0.6:
            if rng.random() < 0.3:  # a crash after some of the classes were stored
                some = list(archive._sequences.values())[: rng.randint(1, 2)]
                for sequence in some:
                    sequence.close_segment(archive.position or 0, 0)
                writers.pop(index)
                continue
            archive.close_segments()
            if index == len(writers) - 1:  # a zombie's commit is refused
                committed = max(committed, archive.safe_offset() or 0)
        if rng.random() < 0.2:
            writers.pop(index)
    last = PartitionArchive(store, TOPIC, 1, {"ledger"})
    last.resume()
    for offset in range(committed, end):
        last.add(record(offset))
    last.close_segments()
    return store


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("block", range(10))
def test_crashes_restarts_and_zombies_lose_and_double_nothing(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        store = play_history(seed)

        assert offsets_in(store) == list(range(60)), seed
        assert verify(store).flaws == [], seed


class TestAttacks:
    """Whatever is done to an object is found, and the object named."""

    @pytest.fixture
    def whole(self) -> MemoryStore:
        store = MemoryStore()
        archive_of(store, range(60))
        assert verify(store).is_whole
        return store

    def named(self, store: MemoryStore) -> set[str]:
        return {flaw.name for flaw in verify(store).flaws}

    def test_a_flipped_byte(self, whole: MemoryStore) -> None:
        rng = random.Random(1)
        for name, data in list(whole.objects.items()):
            newest = name == list(whole.list(name.rpartition("/")[0]))[-1]
            # Nothing is chained to the newest segment yet: its records are covered, its header's wording is not.
            header = data.index(data[-16:]) + 16 if newest else 0
            at = rng.randrange(header, len(data) - 16)
            whole.objects[name] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

            assert name in self.named(whole), (name, at)
            whole.objects[name] = data

    def test_a_deleted_segment(self, whole: MemoryStore) -> None:
        for name in list(whole.objects):
            data = whole.objects.pop(name)

            assert self.named(whole), name
            whole.objects[name] = data

    def test_a_truncated_segment(self, whole: MemoryStore) -> None:
        name = next(whole.list(""))
        whole.objects[name] = whole.objects[name][:-20]

        assert name in self.named(whole)

    def test_two_swapped_segments(self, whole: MemoryStore) -> None:
        first, second, *_ = whole.list(f"{TOPIC}/001/production")
        whole.objects[first], whole.objects[second] = whole.objects[second], whole.objects[first]

        assert {first, second} <= self.named(whole)

    def test_a_renamed_segment(self, whole: MemoryStore) -> None:
        first = next(whole.list(f"{TOPIC}/001/production"))
        other = segment_name(TOPIC, 2, "production", 0)
        whole.objects[other] = whole.objects.pop(first)

        assert other in self.named(whole)


def test_a_retention_date_that_was_shortened_is_named(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    archive_of(store, range(20))
    longer, shorter, *_ = store.list("")
    store.lengthen(longer, "2099-01-01T00:00:00Z")
    assert verify(store).flaws == []

    beside = tmp_path / f"{shorter}.retain"
    beside.chmod(0o644)
    beside.write_text('{"retain_until": "2026-12-01T00:00:00Z"}')
    [flaw] = verify(store).flaws
    assert flaw.name == shorter and flaw.detail.startswith("is kept until 2026-12-01T00:00:00Z; it was created")


def test_damaged_bytes_are_no_segment() -> None:
    with pytest.raises(SegmentError, match="cannot be read"):
        read_segment(b"Obj\x01nothing")


def test_a_salt_is_new_each_time() -> None:
    assert salted(record(1)).salt != salted(record(1)).salt


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{folder}")
    return command.main(list(words))


def test_an_archive_that_holds_nothing_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path / "typo", monkeypatch, "verify") == 66
    said = capsys.readouterr()
    assert (said.out, f"file:{tmp_path / 'typo'} holds no segment" in said.err) == ("", True)

    assert asked(tmp_path / "typo", monkeypatch, "verify", "--json") == 66
    assert json.loads(capsys.readouterr().out)["whole"] is False

    # A log is asked for, and not there yet either.
    trust = []
    for name, word in (("shop.example/archive", "log"), ("shop.example/archive/sequencer", "#sequencer")):
        assert command.main(["keygen", name, str(tmp_path / word)]) == 0
        trust.append(f"{word} {capsys.readouterr().out.split()[-1]}")
    (tmp_path / "trust").write_text("\n".join([*trust, "quorum none", ""]))
    assert asked(tmp_path / "typo", monkeypatch, "verify", "--trust", str(tmp_path / "trust")) == 66
    assert "holds no segment" in capsys.readouterr().err
    (tmp_path / "typo").mkdir()
    (tmp_path / "typo" / "left").touch()
    assert asked(tmp_path / "typo", monkeypatch, "verify", "--trust", str(tmp_path / "trust")) == 1
    assert "log/checkpoint: is missing" in capsys.readouterr().out


def test_an_archive_without_a_flaw_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(LocalFolder(tmp_path), range(20))

    assert asked(tmp_path, monkeypatch, "verify") == 0
    assert capsys.readouterr().out.endswith(": whole\n")


@pytest.mark.parametrize("name", ["", "nonesuch", "nonesuch/000", "nonesuch/000/production/1.avro"])
def test_what_is_not_in_the_archive_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path, monkeypatch, "cat", *([name] if name else [])) == 66

    assert "there is no object" in (said := capsys.readouterr().err) and (name or "the archive") in said
