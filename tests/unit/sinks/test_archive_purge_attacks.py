"""Receipts of purges that excuse nothing: whoever may write to the store can write one, too."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.acts import FOLDER, read_acts, record_act
from deploytrail_sinks.archive.holds import ADDED, RELEASED, holds_of
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import look as look_first
from deploytrail_sinks.archive.purge import purge
from deploytrail_sinks.archive.receipts import PURGED, judge
from deploytrail_sinks.archive.segment import Segment, SegmentError, digest, read_segment, write_segment
from deploytrail_sinks.archive.store import LocalFolder, ObjectKept
from deploytrail_sinks.archive.verify import Report
from support.archive_log import TOPIC, Published, fill, published

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
IN_FORTY_YEARS = NOW + timedelta(days=40 * 366)
ADA, GRACE, NOBODY = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "grace", "nobody"))
PRINCIPALS = Principals({one.name: one.key.public_key() for one in (ADA, GRACE)})


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    found = LocalFolder(tmp_path / "archive")
    fill(found, range(60), every=20)
    return found


@pytest.fixture
def log(store: LocalFolder, tmp_path: Path) -> Published:
    return published(tmp_path / "signer", store)


@pytest.fixture
def victim(store: LocalFolder) -> str:
    """A segment of production that is kept for years."""
    return next(store.list(f"{TOPIC}/001/production"))


def look(log: Published, principals: Principals | None = PRINCIPALS, now: datetime = NOW) -> Report:
    asked = Asked(log.trust, log.trust.sequencers, principals=principals, now=now)
    return verify_archive(log.store, asked)[0]


def receipt(store: LocalFolder, name: str, **other: Any) -> dict[str, Any]:
    """What a receipt would say of a segment. It is past its date, if that is believed."""
    data = store.read(name)
    segment = read_segment(data)
    said = {
        "name": name,
        "sha256": digest(data),
        "version": "",
        "first_offset": str(segment.first_offset),
        "last_offset": str(segment.last_offset),
        "records": len(segment.records),
        "retain_until": "2026-01-01T00:00:00Z",
    }
    return {"prefix": "", "reason": "to hide something", "segments": [said | other]}


def gone_by(store: LocalFolder, name: str, signer: Signer, at: datetime = NOW, **other: Any) -> None:
    """A receipt, and the file is taken away by hand."""
    record_act(store, PURGED, receipt(store, name, **other), signer, at)
    (store.folder / name).unlink()


def reasons(report: Report, name: str) -> str:
    return "; ".join(flaw.detail for flaw in report.flaws if flaw.name == name)


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.parametrize("entered", [False, True])
def test_a_receipt_of_nobody_excuses_nothing_whether_or_not_principals_are_told(
    store: LocalFolder, log: Published, victim: str, entered: bool
) -> None:
    gone_by(store, victim, NOBODY)
    if entered:
        log.publish()

    assert "signed by no principal" in reasons(look(log), victim)
    untold = look(log, None)
    assert "--principals" in reasons(untold, victim)
    assert untold.purged == look(log).purged == 0


@pytest.mark.requirement("M5.5")
def test_a_receipt_that_a_principal_is_said_to_have_signed_excuses_nothing(
    store: LocalFolder, log: Published, victim: str
) -> None:
    gone_by(store, victim, Signer("ada", NOBODY.key))

    assert "signed by no principal" in reasons(look(log), victim)


@pytest.mark.requirement("M5.5")
def test_one_principal_does_not_undo_a_hold_with_a_receipt(store: LocalFolder, log: Published, victim: str) -> None:
    record_act(store, ADDED, {"prefix": TOPIC, "reason": "case 7"}, GRACE, NOW)
    record_act(store, RELEASED, {"hold": "hold-0"}, ADA, NOW)
    gone_by(store, victim, ADA)
    log.publish()

    assert "hold-0 was on it" in reasons(look(log), victim)
    # Nor does a release that comes behind the receipt.
    record_act(store, RELEASED, {"hold": "hold-0"}, GRACE, NOW)
    log.publish()
    assert "hold-0 was on it" in reasons(look(log), victim)


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize(
    ("said", "at", "why"),
    [
        ({}, NOW, ""),
        ({"retain_until": "2030-01-01T00:00:00Z"}, NOW, "kept until 2030-01-01T00:00:00Z"),
        ({"retain_until": "2026-11-26T12:00:01Z"}, NOW, "kept until 2026-11-26T12:00:01Z"),
        ({"retain_until": "2030-01-01T00:00:00Z"}, datetime(2031, 1, 1, tzinfo=UTC), "kept until 2030-01-01T00:00:00Z"),
        ({"retain_until": ""}, NOW, "no date"),
        ({"retain_until": "2026-01-01"}, NOW, "no date"),
        ({"retain_until": 5}, NOW, "no date"),
    ],
    ids=["past", "not past", "not past by a second", "by an act of the future", "empty", "without a zone", "a number"],
)
def test_a_receipt_is_judged_by_the_date_that_it_says_and_todays(
    store: LocalFolder, log: Published, victim: str, said: dict[str, Any], at: datetime, why: str
) -> None:
    gone_by(store, victim, ADA, at, **said)
    report = look(log)

    assert (report.purged, report.flaws) == (1, []) if not why else (0, report.flaws)
    assert why in reasons(report, victim)
    assert bool(reasons(report, victim)) == bool(why)


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize(
    "said", [{"records": float("inf")}, {"first_offset": "x"}, {"records": None}, {"last_offset": "9" * 5000}]
)
def test_a_receipt_that_makes_no_sense_excuses_nothing(
    store: LocalFolder, log: Published, victim: str, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A principal can sign what our commands would not write.
    monkeypatch.setattr("deploytrail_sinks.archive.acts.canonical", lambda value: json.dumps(value).encode())
    gone_by(store, victim, ADA, **said)

    assert reasons(look(log), victim)


@pytest.mark.requirement("M7.2", "M5.5")
def test_a_true_purge_says_until_when_each_segment_was_kept_and_is_counted(store: LocalFolder, log: Published) -> None:
    kept = {name: read_segment(store.read(name)).retain_until for name in store.list(f"{TOPIC}/001/production")}
    goes = purge(store, f"{TOPIC}/001/production", "over", ADA, PRINCIPALS, IN_FORTY_YEARS).goes
    log.publish()
    report = look(log, now=IN_FORTY_YEARS)

    assert [item.retain_until for item in goes] == [kept[item.name] for item in goes]
    assert (report.flaws, report.purged, len(goes)) == ([], 2, 2)
    assert look(log, None, IN_FORTY_YEARS).purged == 0
    assert {flaw.name for flaw in look(log, now=NOW).flaws} >= {item.name for item in goes}  # whoever set the clock on


@pytest.mark.requirement("M5.5")
def test_a_hold_that_came_amid_a_purge_keeps_what_it_covers_and_a_new_receipt_lets_it_go(
    store: LocalFolder, log: Published
) -> None:
    below = f"{TOPIC}/001/production"

    class Slow(LocalFolder):
        """Somebody adds a hold between the look at what may go and the receipt."""

        def create(self, name: str, *given: Any, **more: Any) -> str:
            if not list(read_acts(store)):
                record_act(store, ADDED, {"prefix": below, "reason": "case 8"}, GRACE, IN_FORTY_YEARS)
            return super().create(name, *given, **more)

    with pytest.raises(ObjectKept, match="hold-0"):
        purge(Slow(store.folder), below, "over", ADA, PRINCIPALS, IN_FORTY_YEARS)
    for who in (ADA, GRACE):
        record_act(store, RELEASED, {"hold": "hold-0"}, who, IN_FORTY_YEARS)
    assert look(log, now=IN_FORTY_YEARS).flaws == []  # the receipt is void, and nothing is gone
    goes = purge(store, below, "over", ADA, PRINCIPALS, IN_FORTY_YEARS).goes

    assert len(goes) == 2
    assert [act.number for act in read_acts(store) if act.kind == PURGED] == [1, 4]
    assert {item.name for item in judge(read_acts(store, PRINCIPALS), IN_FORTY_YEARS).gone} == {i.name for i in goes}
    assert look(log, now=IN_FORTY_YEARS).flaws == []


@pytest.mark.requirement("M5.5")
def test_the_command_takes_the_principals_of_a_file_and_says_what_was_purged(
    store: LocalFolder,
    log: Published,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{store.folder}")
    monkeypatch.delenv("DEPLOYTRAIL_ARCHIVE_PRINCIPALS", raising=False)
    (tmp_path / "trust").write_text(log.trust_text)
    for file, one in (("people", ADA), ("strangers", NOBODY)):
        public = b64encode(one.key.public_key().public_bytes_raw()).decode()
        (tmp_path / file).write_text(json.dumps({"ada": public}))
    below = f"{TOPIC}/001/production"
    first = next(store.list(below))
    gone_by(store, first, ADA)
    log.publish()

    def ask(*words: str) -> tuple[int, str]:
        code = command.main(["verify", "--trust", str(tmp_path / "trust"), *words])
        return code, capsys.readouterr().out

    told = ask("--principals", str(tmp_path / "people"), "--json")[1]
    assert json.loads(told)["purged"] == 1
    assert "1 segment was purged, with a principal's receipt" in ask("--principals", str(tmp_path / "people"))[1]
    for words in ((), ("--principals", str(tmp_path / "strangers"))):
        code, said = ask(*words)
        assert (code, f"FLAW: {first}: " in said) == (1, True)
    assert ask("--principals", str(tmp_path / "nothing"))[0] == 78


def holds_and_others(store: LocalFolder) -> list[str]:
    """Three acts, the first of them a hold on all events; the objects that have them."""
    for prefix in (TOPIC, "deploytrail.other", "deploytrail.third"):
        record_act(store, ADDED, {"prefix": prefix, "reason": "case 9"}, ADA, NOW)
    return list(store.list(FOLDER))


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_nothing_is_purged_where_an_act_is_gone_that_the_log_or_the_acts_behind_it_know(
    store: LocalFolder, tmp_path: Path, number: int
) -> None:
    acts = holds_and_others(store)
    log = published(tmp_path / "signer", store)
    (store.folder / acts[number]).unlink()
    before = list(store.list(""))

    with pytest.raises(SegmentError, match=acts[number]):
        purge(store, TOPIC, "to hide something", ADA, PRINCIPALS, IN_FORTY_YEARS)
    with pytest.raises(SegmentError, match=acts[number]):
        look_first(store, TOPIC, PRINCIPALS, IN_FORTY_YEARS)
    assert list(store.list("")) == before
    assert any(flaw.name in (acts[number], *acts[number + 1 : number + 2]) for flaw in look(log).flaws)


@pytest.mark.requirement("M5.5")
def test_acts_are_read_as_a_chain_and_no_other_is_one(store: LocalFolder) -> None:
    acts = holds_and_others(store)
    assert [act.number for act in read_acts(store)] == [0, 1, 2]
    whole = [read_segment(store.read(name)) for name in acts]

    def put(number: int, segment: Segment) -> None:
        (store.folder / acts[number]).unlink()
        (store.folder / acts[number]).write_bytes(write_segment(segment))

    for number, forged in (
        (0, replace(whole[0], previous_sha256="00")),
        (1, replace(whole[1], previous_sha256="")),
        (1, replace(whole[1], records=())),
        (1, replace(whole[1], last_offset=2)),
        (1, whole[0]),
        (1, replace(whole[1], records=(replace(whole[1].records[0], value=b"{}"),))),
    ):
        put(number, forged)
        with pytest.raises(SegmentError, match=r"archive-acts/.*is not the act that follows"):
            list(read_acts(store))
        put(number, whole[number])

    assert [act.number for act in read_acts(store)] == [0, 1, 2]


@pytest.mark.requirement("M5.5")
def test_a_release_that_was_signed_for_another_archive_releases_nothing(store: LocalFolder, tmp_path: Path) -> None:
    """The same people keep a staging archive, where a hold of the same number was released by two."""
    staging = LocalFolder(tmp_path / "staging")
    for archive in (staging, store):
        record_act(archive, ADDED, {"prefix": TOPIC, "reason": "case 7"}, GRACE, NOW)
    for who in (ADA, GRACE):
        record_act(staging, RELEASED, {"hold": "hold-0"}, who, NOW)
    for number, name in enumerate(list(staging.list(FOLDER))[1:], 1):
        theirs = read_segment(staging.read(name))
        before = digest(store.read(f"{FOLDER}/{number - 1:020}.avro"))
        store.create(name, write_segment(replace(theirs, previous_sha256=before)), theirs.retain_until)

    [there] = holds_of(read_acts(staging, PRINCIPALS)).values()
    [here] = holds_of(read_acts(store, PRINCIPALS)).values()
    assert (there.state, here.state) == ("released", "held")
    assert [act.verified for act in read_acts(store, PRINCIPALS)] == [True, False, False]
    assert look_first(store, TOPIC, PRINCIPALS, IN_FORTY_YEARS).goes == []
