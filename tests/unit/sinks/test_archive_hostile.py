"""Segments that somebody made to break whoever reads them: each is refused, in bounded time and memory."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.avro_writer import long_bytes
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.notes import KeyKind
from deploytrail_sinks.archive.log.plan import PlanError, read_plan
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.principals import Signer
from deploytrail_sinks.archive.receipts import PURGED
from deploytrail_sinks.archive.segment import SegmentError, is_segment, read_segment, write_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import MemoryStore, fill, key, published

NAME = "deploytrail.events/001/production/00000000000000000000.avro"
GIGABYTE = 1 << 30


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    fill(store, range(40), every=20)
    return store


@pytest.fixture
def little_memory() -> Iterator[None]:
    """What asks for gigabytes fails here, and does not take the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def container(schema: object, blocks: bytes, **said: str) -> bytes:
    """A container whose header says what its writer likes."""
    pairs = {"avro.codec": b"zstandard", "avro.schema": json.dumps(schema).encode()}
    pairs |= {f"deploytrail.{name}": text.encode() for name, text in said.items()}
    parts = [b"Obj\x01", long_bytes(len(pairs))]
    for name, value in pairs.items():
        parts += [long_bytes(len(name)), name.encode(), long_bytes(len(value)), value]
    return b"".join((*parts, b"\0", bytes(16), blocks))


def ours(data: bytes) -> object:
    return json.loads(fastavro.reader(io.BytesIO(data)).metadata["avro.schema"])


def block(count: int, raw: bytes) -> bytes:
    packed = zstd.compress(raw)
    return b"".join((long_bytes(count), long_bytes(len(packed)), packed, bytes(16)))


@pytest.mark.requirement("M5.1")
@pytest.mark.usefixtures("little_memory")
def test_a_header_with_another_schema_is_refused_before_it_is_followed(store: MemoryStore) -> None:
    endless = {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}
    deep: object = "null"
    for _ in range(300):
        deep = {"type": "array", "items": deep}
    nothing = {"type": "record", "name": "N", "fields": [{"name": "n", "type": "null"}]}

    for schema in (endless, deep, nothing, {"type": "array", "items": "null"}, "null", ["x" * (1 << 20)]):
        with pytest.raises(SegmentError, match="schema"):
            read_segment(container(schema, block(1 << 40, b"\0" * 100)))


@pytest.mark.requirement("M5.1")
@pytest.mark.usefixtures("little_memory")
def test_lengths_that_are_declared_and_not_there_are_refused(store: MemoryStore) -> None:
    schema = ours(store.objects[NAME])
    bomb = block(1, b"\0" * (300 << 20))

    assert len(bomb) < 100_000
    for blocks in (
        bomb,
        block(1 << 60, b"\0" * 100),
        block(-5, b"\0" * 100),
        long_bytes(1) + long_bytes(1 << 61),
        long_bytes(1) + long_bytes(-9) + bytes(40),
        b"\xff" * 40,
        block(1, b"\2\2\2\2" + long_bytes(1 << 60)),
    ):
        with pytest.raises(SegmentError, match="cannot be read"):
            read_segment(container(schema, blocks))


def test_bytes_behind_the_records_of_a_block_are_refused(store: MemoryStore) -> None:
    data = store.objects[NAME]
    reader = fastavro.reader(io.BytesIO(data))
    said = {name.removeprefix("deploytrail."): text for name, text in reader.metadata.items() if "." in name}
    said = {name: text for name, text in said.items() if not name.startswith("avro")}
    whole = read_segment(data)
    raw = b"".join(_encoded(whole.records))

    assert read_segment(container(ours(data), block(len(whole.records), raw), **said)) == whole
    with pytest.raises(SegmentError, match="holds other records"):
        read_segment(container(ours(data), block(len(whole.records), raw + b"hidden"), **said))


def _encoded(records: tuple[object, ...]) -> list[bytes]:
    from deploytrail_sinks.archive.raw_records import encoded

    return encoded(records)  # type: ignore[arg-type]


@pytest.mark.requirement("M5.1")
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "lie",
    [
        {"last_offset": 1 << 62},
        {"gaps": ((5, 1 << 62),), "last_offset": 1 << 62},
        {"gaps": ((7, 5),)},
        {"retain_until": "2029/11-05"},
        {"retain_until": "2029-11-05"},
        {"retention_class": "../../../etc"},
        {"topic": "deploytrail.events\u200b"},
    ],
)
def test_a_segment_that_lies_of_itself_is_named_quickly(store: MemoryStore, lie: dict[str, object]) -> None:
    name = sorted(store.list("deploytrail.events/001/production"))[-1]
    segment = read_segment(store.objects[name])
    store.objects[name] = write_segment(replace(segment, **lie))  # type: ignore[arg-type]
    flaws = verify_archive(store, Asked())[0].flaws

    assert any(flaw.name in (name, "deploytrail.events/001") for flaw in flaws)


@pytest.mark.parametrize("segments", [[{}], [1], 7, {"name": "x"}, [{"name": "x", "first_offset": "y"}]])
def test_a_receipt_that_makes_no_sense_excuses_nothing(store: MemoryStore, segments: object) -> None:
    ada = Signer("ada", Ed25519PrivateKey.generate())
    record_act(store, PURGED, {"segments": segments}, ada, datetime(2026, 11, 26, tzinfo=UTC))
    del store.objects[NAME]

    assert not verify_archive(store, Asked())[0].is_whole


def test_digits_of_other_scripts_name_no_segment() -> None:
    assert is_segment(NAME)
    assert not is_segment(NAME.replace("0", "\u0660"))
    assert not is_segment(f"{NAME}\n")


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "log/../../secret", "x\0y", "x" * 5000, "\ud800"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "archive").mkdir()

    with pytest.raises(KeyError):
        LocalFolder(tmp_path / "archive").read(name)


@pytest.mark.parametrize("row", [{"name": 5}, {"sha256": None}, {"entries": True}, {"entries": 1.0}])
def test_a_plan_of_other_types_is_refused(row: dict[str, object]) -> None:
    rows = [{"entries": 1, "name": "log/checkpoints/1", "next_offset": "2", "sha256": "00"} | row]
    data = json.dumps({"format": "1", "segments": rows, "start": 0}, separators=(",", ":"), sort_keys=True)

    with pytest.raises(PlanError):
        read_plan(f"{data}\n".encode())


@pytest.mark.requirement("M5.1")
def test_a_log_rewritten_with_all_its_keys_is_found_by_who_trusts_a_witness(tmp_path: Path) -> None:
    forged = MemoryStore()
    fill(forged, range(100, 300), every=50)
    log = published(tmp_path, forged)  # by whoever stole the keys of sequencer and signer
    witness = key("w.example.com", KeyKind.COSIGNER_ED25519).verifier
    trust = read_trust(log.trust_text.replace("quorum none", f"witness w {witness}\nquorum w"))

    assert log.check()[0].flaws == []
    report, _ = verify_archive(forged, Asked(trust, trust.sequencers))
    assert [(flaw.name, "not the quorum" in flaw.detail) for flaw in report.flaws] == [("log/checkpoint", True)]
