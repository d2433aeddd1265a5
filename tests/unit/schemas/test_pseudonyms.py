"""Names of people are replaced before they are stored for good, and can be forgotten."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploytrail import subject_command
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.pseudonyms import NameMap, pseudonymised
from deploytrail_schemas.records import RecordType
from support.values import NOON, approval, event

ADA = "ada.lovelace@example.com"


@pytest.fixture
def names(tmp_path: Path) -> NameMap:
    return NameMap(tmp_path / "names.db")


def test_a_name_has_one_pseudonym_whatever_its_case(names: NameMap, tmp_path: Path) -> None:
    first = names.pseudonym(ADA)

    assert re.fullmatch("person-[a-z2-7]{16}", first)
    assert names.pseudonym(" Ada.Lovelace@Example.com") == NameMap(tmp_path / "names.db").pseudonym(ADA) == first
    assert names.pseudonym("grace") != first
    assert names.name_of(first) == ADA
    assert (tmp_path / "names.db").stat().st_mode & 0o777 == 0o600


def test_who_asks_at_the_same_time_gets_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: NameMap(tmp_path / "names.db").pseudonym(f"user-{n % 3}"), range(60)))

    assert len(set(found)) == 3


def test_an_erased_name_is_in_no_byte_of_the_table_and_comes_back_as_somebody_else(
    names: NameMap, tmp_path: Path
) -> None:
    for n in range(300):
        names.pseudonym(f"user-{n}@example.com")
    first = names.pseudonym(ADA)

    assert names.erase(ADA) == first
    assert names.erase(ADA) is None
    assert not [p for p in tmp_path.iterdir() if b"lovelace" in p.read_bytes().lower()]
    assert names.find("user-7@example.com")
    assert names.pseudonym(ADA) != first


def test_a_person_is_replaced_wherever_the_record_says_the_name(names: NameMap) -> None:
    value = event(
        "started",
        deployer=ADA,
        justification=f"asked for by Ada.Lovelace@example.com, not by x{ADA}y",
        tags={"owner": ADA, "team": "payments"},
        service="shop",
    )
    cleaned = pseudonymised(RecordType.DEPLOYMENT_EVENT, value, names.pseudonym)
    person = names.find(ADA)

    assert cleaned["deployer"] == person
    assert cleaned["justification"] == f"asked for by {person}, not by x{ADA}y"
    assert cleaned["tags"] == {"owner": person, "team": "payments"}
    assert {k: v for k, v in cleaned.items() if v != value[k]}.keys() == {"deployer", "justification", "tags"}
    assert decode(encode(RecordType.DEPLOYMENT_EVENT, cleaned))[1]["deployer"] == person


def test_deployer_and_approver_stay_comparable(names: NameMap) -> None:
    deployed = pseudonymised(RecordType.DEPLOYMENT_EVENT, event("started", deployer=ADA), names.pseudonym)
    approved = pseudonymised(RecordType.APPROVAL, approval(approver=ADA.upper()), names.pseudonym)

    assert deployed["deployer"] == approved["approver"]


def test_automation_and_pseudonyms_stay_as_they_are(names: NameMap) -> None:
    bot = event("started", deployer="release-bot", deployer_type="automation")
    assert pseudonymised(RecordType.DEPLOYMENT_EVENT, bot, names.pseudonym) == bot

    once = pseudonymised(RecordType.DEPLOYMENT_EVENT, event("started", NOON, deployer=ADA), names.pseudonym)
    assert pseudonymised(RecordType.DEPLOYMENT_EVENT, once, names.pseudonym) == once


def test_a_table_that_cannot_be_used_is_waited_for_and_one_that_is_none_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploytrail_schemas.pseudonyms._PATIENCE", 0.05)
    names = NameMap(tmp_path / "names.db")
    names.pseudonym(ADA)
    other = sqlite3.connect(tmp_path / "names.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RetryLater, match="map of names"):
        names.pseudonym("grace")
    other.close()

    (tmp_path / "other.db").write_text("no table at all " * 100)
    with pytest.raises(ConfigurationError, match="is no map of names"):
        NameMap(tmp_path / "other.db").pseudonym(ADA)


def test_the_command_shows_and_erases(
    names: NameMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert subject_command.main(["show", ADA]) == 78
    monkeypatch.setenv("DEPLOYTRAIL_PSEUDONYMS", str(tmp_path / "names.db"))
    assert subject_command.main(["erase", ADA]) == 78
    person = names.pseudonym(ADA)
    assert subject_command.main(["show", ADA]) == subject_command.main(["show", person]) == 0
    assert subject_command.main(["erase", ADA]) == 0
    assert capsys.readouterr().out == f"{person}\n{ADA}\n{person} is nobody's now\n"
    assert subject_command.main(["show", ADA]) == subject_command.main(["erase", ADA]) == 66
    assert ADA not in capsys.readouterr().err
