"""What can be done to the folder of an archive beside changing an object: links, and the files that lie beside."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.holds import ADDED
from deploytrail_sinks.archive.lengthen_command import lengthen
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import look
from deploytrail_sinks.archive.retention import DEFAULT_POLICY
from deploytrail_sinks.archive.segment import is_segment, read_segment
from deploytrail_sinks.archive.store import LocalFolder, is_date, is_later
from deploytrail_sinks.archive.verify import verify
from support.archive_log import LOG_KEY, SEQUENCER_KEY, fill, published

TRUST = f"log {LOG_KEY.verifier}\nquorum none\n#sequencer {SEQUENCER_KEY.verifier}\n"
SECRET = "what lies outside"
AT_THE_END = datetime(2100, 1, 1, tzinfo=UTC)
NOBODY = Principals({})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = LocalFolder(folder / "archive")
    fill(store, range(60), every=20)
    log = published(folder / "signer", store)
    fill(store, range(10), partition=2, every=10)
    log.publish()
    return folder / "archive"


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be tampered with; beside it, a folder and a file that are none of it."""
    shutil.copytree(whole, tmp_path / "archive")
    for path in (tmp_path / "archive").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text(SECRET)
    return tmp_path / "archive"


def flaws(archive: Path) -> set[str]:
    trust = read_trust(TRUST)
    return {flaw.name for flaw in verify_archive(LocalFolder(archive), Asked(trust, trust.sequencers))[0].flaws}


def names(archive: Path) -> list[str]:
    return list(LocalFolder(archive).list(""))


@pytest.mark.requirement("M5.1")
def test_a_link_in_place_of_any_object_is_named_whatever_it_points_to(archive: Path, tmp_path: Path) -> None:
    assert flaws(archive) == set()
    found, tried = {}, set()
    for name in names(archive):
        object_, away = archive / name, tmp_path / "outside/moved"
        object_.rename(away)
        for what, target in (
            ("the same bytes, outside", away),
            ("another file", tmp_path / "outside/secret"),
            ("nothing", tmp_path / "outside/nothing"),
            ("itself", object_),
            ("a folder", tmp_path / "outside"),
        ):
            if (kind := (name.split("/")[1], what)) in tried and what != "the same bytes, outside":
                continue
            tried.add(kind)
            object_.symlink_to(target)
            if name not in flaws(archive):
                found[name] = what
            object_.unlink()
        away.rename(object_)

    assert found == {}
    assert flaws(archive) == set()


@pytest.mark.requirement("M5.1")
def test_a_folder_that_was_moved_out_and_linked_back_is_named(archive: Path, tmp_path: Path) -> None:
    missed = []
    for path in sorted(path for path in archive.rglob("*") if path.is_dir()):
        away = tmp_path / "outside/folder"
        path.rename(away)
        path.symlink_to(away)
        name = str(path.relative_to(archive))
        if not any(flaw == name or flaw.startswith(f"{name}/") for flaw in flaws(archive)):
            missed.append(name)
        path.unlink()
        away.rename(path)

    assert missed == []


@pytest.mark.requirement("M5.1")
def test_a_link_that_was_put_beside_is_named_and_shows_nothing_of_outside(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{archive}")
    monkeypatch.chdir(tmp_path)  # where a proof is written
    (tmp_path / "trust").write_text(TRUST)
    places = (
        "deploytrail.events/001/production/00000000000000000060.avro",
        "deploytrail.events/001/secret",
        "log/checkpoints/00000000000000009999",
        "log/secret",
        "secret",
    )
    for name in places:
        (archive / name).symlink_to(tmp_path / "outside/secret")
        assert name in flaws(archive)
        for words in (["cat"], ["verify", "--trust", str(tmp_path / "trust")], ["cat", name], ["prove", "shop-1"]):
            command.main(words)
        (archive / name).unlink()
    said = capsys.readouterr()

    assert SECRET not in said.out + said.err


def test_nothing_is_written_through_a_link(archive: Path, tmp_path: Path) -> None:
    store = LocalFolder(archive)
    (archive / "deploytrail.findings").symlink_to(tmp_path / "outside")
    (archive / "deploytrail.events/001/production/x").symlink_to(tmp_path / "outside/x")
    for name in ("deploytrail.findings/000/production/1", "deploytrail.events/001/production/x"):
        with pytest.raises(RetryLater, match="is a link"):
            store.create(name, b"x", "2099-01-01T00:00:00Z")
    newest = archive / "log/checkpoint"
    newest.unlink()
    newest.symlink_to(tmp_path / "outside/secret")
    store.replace("log/checkpoint", b"the newest")

    assert not newest.is_symlink()
    assert newest.read_bytes() == b"the newest"
    assert [(path.name, path.read_text()) for path in (tmp_path / "outside").iterdir()] == [("secret", SECRET)]


def test_nothing_behind_a_linked_folder_is_changed(archive: Path, tmp_path: Path) -> None:
    def outside() -> dict[str, bytes]:
        return {str(path.relative_to(away)): path.read_bytes() for path in away.rglob("*") if path.is_file()}

    store, away = LocalFolder(archive), tmp_path / "outside"
    moved = archive / "deploytrail.events"
    name = next(name for name in names(archive) if name.startswith("deploytrail.events"))
    moved.rename(away / "events")
    moved.symlink_to(away / "events")
    before = outside()
    for act in (
        lambda: store.hold(name, True),
        lambda: store.hold(name, False),
        lambda: store.lengthen(name, "2099-01-01T00:00:00Z"),
        lambda: store.delete(name, AT_THE_END),
        lambda: store.replace(name, b"x"),
        lambda: store.settle(name),
    ):
        with pytest.raises(RetryLater, match="is a link"):
            act()

    assert outside() == before


def test_a_sink_stops_where_its_newest_segment_is_a_link(archive: Path, tmp_path: Path) -> None:
    newest = list(LocalFolder(archive).list("deploytrail.events/001/production"))[-1]
    (archive / newest).rename(tmp_path / "outside/segment")
    (archive / newest).symlink_to(tmp_path / "outside/segment")
    with pytest.raises(DeploytrailError, match="is no object"):
        fill(LocalFolder(archive), range(60, 70))


def test_the_folder_itself_may_be_a_link(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(archive)

    assert flaws(tmp_path / "link") == set()
    assert names(tmp_path / "link") == names(archive)


def flipped(data: bytes) -> Iterator[bytes]:
    """Each byte with one of its bits flipped; those of digits and of the first with each."""
    rng = random.Random(3)
    for at, byte in enumerate(data):
        for bit in range(8) if at == 0 or chr(byte).isdigit() else (rng.randrange(8),):
            yield data[:at] + bytes([byte ^ (1 << bit)]) + data[at + 1 :]


def date_in(data: bytes) -> str:
    try:
        return str(json.loads(data)["retain_until"])
    except (ValueError, KeyError, TypeError):
        return ""


@pytest.mark.requirement("M5.1", "M5.5")
def test_a_flipped_bit_of_a_retention_date_is_named_or_keeps_longer_and_lets_nothing_go_early(archive: Path) -> None:
    shutil.rmtree(archive / "log")  # which says nothing of dates
    store = LocalFolder(archive)
    name = next(store.list("deploytrail.events/001/production"))
    promised = read_segment(store.read(name)).retain_until
    beside = archive / f"{name}.retain"
    before, harmless = beside.read_bytes(), []
    early = datetime.fromisoformat(promised).replace(year=datetime.fromisoformat(promised).year - 1)
    for data in (*flipped(before), b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"retain_until": 5}'):
        beside.write_bytes(data)
        if name not in {flaw.name for flaw in verify(store).flaws}:
            harmless.append(date_in(data))
        assert look(store, "deploytrail.events/001/production", NOBODY, early).goes == [], data
        lengthen(store, DEFAULT_POLICY)
        assert verify(store).flaws == [], data
        beside.unlink()
        beside.write_bytes(before)
    # The same date, or one that is later: the object is kept no shorter than it was created to be.
    assert len(harmless) < len(before)
    assert [date for date in harmless if not is_date(date) or is_later(promised, date)] == []


@pytest.mark.requirement("M5.5")
def test_a_date_that_was_shortened_lets_nothing_go_before_the_one_it_was_created_with(archive: Path) -> None:
    store = LocalFolder(archive)
    for name in filter(is_segment, names(archive)):
        (archive / f"{name}.retain").write_text('{"retain_until": "2026-01-01T00:00:00Z"}')
    found = look(store, "deploytrail.events", NOBODY, datetime(2026, 12, 1, tzinfo=UTC))

    assert found.goes == []
    assert "it is kept until 20" in str(found.stays)
    assert look(store, "deploytrail.events", NOBODY, AT_THE_END).goes != []


def test_a_date_that_is_a_link_is_none(archive: Path, tmp_path: Path) -> None:
    name = next(LocalFolder(archive).list("deploytrail.events/001/production"))
    beside = archive / f"{name}.retain"
    beside.rename(tmp_path / "outside/date")
    beside.symlink_to(tmp_path / "outside/date")

    assert flaws(archive) == {name}


@pytest.mark.requirement("M5.5")
def test_a_hold_lies_in_the_signed_acts_and_not_beside_the_object(archive: Path, tmp_path: Path) -> None:
    store, ada = LocalFolder(archive), Signer("ada", Ed25519PrivateKey.generate())
    record_act(store, ADDED, {"prefix": "deploytrail.events", "reason": "case 7"}, ada, datetime.now(UTC))
    name = next(store.list("deploytrail.events/001/production"))
    store.hold(name, True)
    beside = archive / f"{name}.hold"
    principals = Principals({"ada": ada.key.public_key()})

    def goes() -> list[str]:
        return [item.name for item in look(store, "deploytrail.events", principals, AT_THE_END).goes]

    assert goes() == []
    beside.unlink()
    assert goes() == []  # the act counts
    beside.symlink_to(tmp_path / "nowhere")
    assert store.is_held(name)  # and whatever is there in that name is a hold
    beside.unlink()
    beside.write_bytes(b"released, says mallory")
    assert store.is_held(name)


def test_dates_beside_the_logs_objects_decide_nothing(archive: Path) -> None:
    # Of the log only full bundles of entries go, by a receipt: here is none. S3 holds its own dates.
    for path in (archive / "log").rglob("*.retain"):
        path.write_text('{"retain_until": "2000-01-01T00:00:00Z"}')

    store = LocalFolder(archive)
    assert look(store, "log", NOBODY, AT_THE_END).goes == []
    found = look(store, "", NOBODY, AT_THE_END)
    assert found.goes != []
    assert [item.name for item in found.goes if item.name.startswith("log/")] == [*found.of_log.objects] == []
    assert flaws(archive) == set()
