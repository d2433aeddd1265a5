"""Time stamps of checkpoints, from a real authority: `openssl ts`."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.timestamp_words import StampError
from deploytrail_sinks.archive.log.timestamps import check_stamp, read_roots, request_stamp
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import purge
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.store import LocalFolder, ObjectStore
from support.archive_log import TOPIC, MemoryStore, Published, fill, published, record
from support.timestamp_authority import authority_at, make_authority

pytest.importorskip("rfc3161_client")
if shutil.which("openssl") is None:
    pytest.skip("openssl is missing: it is the time stamp authority", allow_module_level=True)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def authority(roots: Path) -> Iterator[str]:
    with authority_at(roots.parent) as url:
        yield url


@pytest.mark.requirement("M5.1")
def test_a_stamp_covers_its_bytes_and_no_others(authority: str, roots: Path, tmp_path: Path) -> None:
    trusted = read_roots(roots.read_bytes())
    stamp = request_stamp(authority, b"checkpoint")

    at = check_stamp(stamp, b"checkpoint", trusted)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    with pytest.raises(StampError, match="covers other bytes"):
        check_stamp(stamp, b"checkpoint2", trusted)
    with pytest.raises(StampError, match="no trusted authority"):
        check_stamp(stamp, b"checkpoint", read_roots(make_authority(tmp_path).read_bytes()))
    with pytest.raises(StampError):
        check_stamp(stamp[:-10], b"checkpoint", trusted)


@pytest.mark.requirement("M5.1")
def test_published_checkpoints_are_stamped_and_verified(authority: str, roots: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url=authority, stamp_every=0.0)
    fill(store, range(40, 80))
    log.publish()
    asked = Asked(log.trust, log.trust.sequencers, stamp_roots=read_roots(roots.read_bytes()))
    report, of_log = verify_archive(store, asked)
    stamps = list(store.list("log/timestamps"))

    assert report.flaws == []
    assert of_log is not None
    assert of_log.timestamps == len(stamps) == 2
    store.objects[stamps[0]], store.objects[stamps[1]] = store.objects[stamps[1]], store.objects[stamps[0]]
    assert {flaw.name for flaw in verify_archive(store, asked)[0].flaws} >= set(stamps)


def test_a_deleted_stamp_that_the_log_has_entered_is_missed(authority: str, tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url=authority, stamp_every=0.0)
    for begin in (40, 80):
        fill(store, range(begin, begin + 40))
        log.publish()
    first = next(store.list("log/timestamps"))
    del store.objects[first]

    assert first in {flaw.name for flaw in log.check()[0].flaws}


def test_an_authority_that_is_away_delays_no_checkpoint(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url="http://127.0.0.1:9", stamp_every=0.0)

    assert log.check()[0].flaws == []
    assert list(store.list("log/timestamps")) == []
    with pytest.raises(RetryLater, match="does not answer"):
        request_stamp("http://127.0.0.1:9", b"x")


DAY_MS = 86_400_000


def fill_at(store: ObjectStore, offsets: range, days: float, policy: str = "") -> None:
    """Archive records that were made so many days from now."""
    archive = PartitionArchive(store, TOPIC, 1, frozenset(), policy=read_policy(policy))
    archive.resume(offsets.start)
    at = int(datetime.now(UTC).timestamp() * 1000 + days * DAY_MS)
    for offset in offsets:
        archive.add(replace(record(offset), timestamp=at + offset))
        if offset % 10 == 9:
            archive.close_segments()
    archive.close_segments()


@pytest.fixture
def stamped(authority: str, tmp_path: Path) -> Callable[..., Published]:
    """Logs that are published with the same keys and stamped now."""

    def stamped(name: str, offsets: range, days: float, store: ObjectStore | None = None, **more: Any) -> Published:
        store = store or MemoryStore()
        fill_at(store, offsets, days, **more)
        return published(tmp_path / name, store, stamp_url=authority, stamp_every=0.0)

    return stamped


@pytest.fixture
def flaws(roots: Path) -> Callable[..., dict[str, str]]:
    """What is found, by object, where the authority is trusted."""

    def flaws(log: Published, **more: Any) -> dict[str, str]:
        asked: dict[str, Any] = {
            "stamp_roots": read_roots(roots.read_bytes()),
            "stamp_within": timedelta(days=7),
        }
        return {flaw.name: flaw.detail for flaw in log.check(**(asked | more))[0].flaws}

    return flaws


Stamped, Flaws = Callable[..., Published], Callable[..., dict[str, str]]


@pytest.mark.requirement("M5.1")
def test_a_log_that_was_rewritten_with_all_keys_and_stamped_today_is_found_by_its_stamps(
    stamped: Stamped, flaws: Flaws, roots: Path
) -> None:
    honest, rewritten = stamped("honest", range(60), -1), stamped("rewritten", range(100, 160), -30)
    [stamp] = rewritten.store.list("log/timestamps")

    assert rewritten.check()[0].flaws == []
    assert flaws(honest) == {}
    assert list(flaws(rewritten)) == [stamp]
    assert "30 days" in flaws(rewritten)[stamp] or "29 days" in flaws(rewritten)[stamp]
    assert "whose newest record is of" in flaws(rewritten)[stamp]
    assert flaws(rewritten, stamp_within=timedelta(days=31)) == {}
    # One new record does not make old ones new.
    fill_at(rewritten.store, range(160, 170), 0)
    rewritten.publish()
    assert list(flaws(rewritten)) == [stamp]


@pytest.mark.requirement("M5.1")
def test_a_log_whose_stamps_are_gone_is_found_by_who_trusts_the_authority(stamped: Stamped, flaws: Flaws) -> None:
    log = stamped("log", range(60), 0)
    assert isinstance(log.store, MemoryStore)
    for name in list(log.store.list("log/timestamps")):
        del log.store.objects[name]

    assert log.check()[0].flaws == []
    assert list(flaws(log)) == ["log/timestamps"]


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("days", [-10, 10])
def test_what_no_stamp_covers_though_one_was_due_is_found(stamped: Stamped, flaws: Flaws, days: int) -> None:
    """Whoever rewrites what is behind a stamp and adds none."""
    log = stamped("log", range(60), 0)
    fill_at(log.store, range(60, 80), 0.01)
    log.publisher._stamp_url = ""
    log.publish()
    assert flaws(log) == {}  # the next stamp is not due yet

    fill_at(log.store, range(80, 100), days)
    log.publish()
    found = flaws(log)

    assert list(found) == ["log/timestamps"]
    assert "none covers deploytrail.events/001/" in found["log/timestamps"]


@pytest.mark.requirement("M5.1")
def test_a_stamp_that_was_kept_outside_is_of_a_checkpoint_that_the_log_follows(
    stamped: Stamped, flaws: Flaws, roots: Path, tmp_path: Path
) -> None:
    honest, rewritten = stamped("honest", range(60), 0), stamped("rewritten", range(100, 160), 0)
    [name] = honest.store.list("log/timestamps")
    [size] = [checkpoint for checkpoint in honest.store.list("log/checkpoints")]
    kept = [("kept.tsr", honest.store.read(name))]
    fill_at(honest.store, range(60, 80), 0)
    honest.publish()

    assert flaws(rewritten) == {}
    assert flaws(honest, stamps=kept) == {}
    assert list(flaws(rewritten, stamps=kept)) == ["kept.tsr"]
    assert "no checkpoint that this log has kept" in flaws(rewritten, stamps=kept)["kept.tsr"]
    # The old checkpoint that is put beside the new tree helps nobody.
    assert isinstance(rewritten.store, MemoryStore)
    rewritten.store.objects[size] = honest.store.read(size)
    assert CHECKPOINT in flaws(rewritten, stamps=kept)
    others = make_authority(tmp_path)
    untrusted = flaws(honest, stamps=kept, stamp_roots=read_roots(others.read_bytes()))
    assert "no trusted authority" in untrusted["kept.tsr"]
    for nonsense in (b"", kept[0][1][:-10], b"\0" * 1000):
        assert "kept.tsr" in flaws(honest, stamps=[("kept.tsr", nonsense)])


@pytest.mark.requirement("M5.1")
def test_the_command_says_from_when_to_when_the_log_was_stamped(
    stamped: Stamped,
    roots: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = LocalFolder(tmp_path / "archive")
    log = stamped("signer", range(60), -30, store)
    (tmp_path / "trust").write_text(log.trust_text)
    (tmp_path / "kept").write_bytes(store.read(next(store.list("log/timestamps"))))
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{store.folder}")

    def ask(*words: str) -> tuple[int, str]:
        code = command.main(["verify", "--trust", str(tmp_path / "trust"), *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    trusting = ("--stamp-roots", str(roots), "--stamp", str(tmp_path / "kept"))
    assert ask()[0] == 0  # no authority is trusted: nothing is said of times
    code, said = ask(*trusting)
    assert (code, "FLAW: log/timestamps/" in said) == (1, True)
    code, said = ask(*trusting, "--stamp-within", "60")
    assert code == 0
    today = f"1 time stamp of {datetime.now(UTC).year}-"
    assert (today in said, f", {log.publisher.size} entries;" in said) == (True, True)
    report = json.loads(ask(*trusting, "--stamp-within", "60", "--json")[1])["log"]
    assert report["oldest_stamp"] == report["newest_stamp"] != ""
    assert report["stamped"] == log.publisher.size
    assert ask("--stamp", str(tmp_path / "nothing"))[0] == 78
    for content in (b"", b"hello", log.trust_text.encode(), (tmp_path / "kept").read_bytes()[:-10]):
        (tmp_path / "none").write_bytes(content)
        code, said = ask("--stamp", str(tmp_path / "none"))
        assert code == 1
        words = "is no time stamp; expected an authority's answer as it came (RFC 3161, DER), such as a copy from log/"
        assert f"FLAW: {tmp_path}/none: {words}timestamps\n" in said
    for days in ("-1", "nan", "1e30", "x"):
        with pytest.raises(SystemExit):
            ask("--stamp-within", days)


@pytest.mark.requirement("M5.1", "M7.2")
def test_an_audit_with_all_that_was_kept_ends_with_0_and_then_with_1(
    stamped: Stamped,
    roots: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, ada = LocalFolder(tmp_path / "archive"), Signer("ada", Ed25519PrivateKey.generate())
    log, public = stamped("signer", range(60), -4, store, policy="non-production=1"), ada.key.public_key()
    (tmp_path / "TRUST").write_text(log.trust_text)
    (tmp_path / "PEOPLE").write_text(json.dumps({"ada": b64encode(public.public_bytes_raw()).decode()}))
    (tmp_path / "KEPT.checkpoint").write_bytes(store.newest(CHECKPOINT))
    (tmp_path / "KEPT.tsr").write_bytes(store.read(next(store.list("log/timestamps"))))
    goes = purge(store, TOPIC, "over", ada, Principals({"ada": public}), datetime.now(UTC)).goes
    fill_at(store, range(60, 80), 0)
    log.publish()
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{store.folder}")
    monkeypatch.chdir(tmp_path)
    words = "verify --trust TRUST --principals PEOPLE --against KEPT.checkpoint --stamp-roots {} --stamp KEPT.tsr"
    audit = words.format(roots).split()

    assert len(goes) == 5
    assert command.main(audit) == 0
    assert "5 segments were purged, with a principal's receipt" in capsys.readouterr().out
    # Everything made anew, by somebody who has every key.
    shutil.rmtree(store.folder)
    stamped("another signer", range(100, 160), 0, LocalFolder(store.folder))
    assert command.main(audit) == 1
    said = capsys.readouterr().out
    assert "FLAW: log/checkpoint: " in said
    assert "FLAW: KEPT.tsr: " in said
