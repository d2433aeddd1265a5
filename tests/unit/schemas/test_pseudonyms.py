"""Names of people are replaced before they are stored for good, and can be forgotten."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deploytrail import subject_command
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.pseudonyms import NameMap, pseudonymised
from deploytrail_schemas.records import RecordType
from support.values import NOON, approval, event, observation, signal

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
    cleaned = pseudonymised(RecordType.DEPLOYMENT_EVENT, value, names)
    person = names.find(ADA)

    assert cleaned["deployer"] == person
    assert cleaned["justification"] == f"asked for by {person}, not by x{ADA}y"
    assert cleaned["tags"] == {"owner": person, "team": "payments"}
    assert {k: v for k, v in cleaned.items() if v != value[k]}.keys() == {"deployer", "justification", "tags"}
    assert decode(encode(RecordType.DEPLOYMENT_EVENT, cleaned))[1]["deployer"] == person


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RecordType.DEPLOYMENT_EVENT, event("started", deployer="grace@example.com", justification="TEXT")),
        (RecordType.DEPLOYMENT_EVENT, event("started", ref="TEXT", repository="https://git.example.com/TEXT/shop")),
        (RecordType.DEPLOYMENT_EVENT, event("started", deployment_id="TEXT-42", tags={"TEXT": "x", "mail": "<TEXT>"})),
        (RecordType.DEPLOYMENT_EVENT, event("started", environment="sandbox-TEXT", config_changes={"cpu": "by TEXT"})),
        (RecordType.DEPLOYMENT_EVENT, event("started", deployer="TEXT", deployer_type="automation")),
        (RecordType.SIGNAL, signal(title="paged TEXT", labels={"assignee": "TEXT"})),
        (RecordType.APPROVAL, approval(approver="grace@example.com", justification="as TEXT, who is away, asked")),
        (RecordType.OBSERVATION, observation(instance="TEXT-laptop", tags={"owner": "TEXT"})),
    ],
)
@pytest.mark.parametrize(
    "said",
    [ADA, ADA.upper(), "ada.lovelace", "Ada Lovelace", "Lovelace, Ada", "ada-lovelace", "ada_lovelace", "AdaLovelace"],
)
def test_a_known_name_is_in_no_text_of_any_kind(
    kind: RecordType, value: dict[str, Any], said: str, names: NameMap
) -> None:
    person = names.pseudonym(ADA)
    cleaned = pseudonymised(kind, json.loads(json.dumps(value).replace("TEXT", said)), names)

    assert "lovelace" not in json.dumps(cleaned).lower()
    assert json.dumps(cleaned).count(person) == json.dumps(value).count("TEXT")
    assert decode(encode(kind, cleaned))[1]


def test_what_alerts_are_told_apart_by_stays_though_somebody_is_called_so(names: NameMap) -> None:
    for name in ("kafka", "ada"):
        names.pseudonym(name)
    labels = {"job": "kafka", "pod": "kafka-0", "assignee": "ada"}
    cleaned = pseudonymised(RecordType.SIGNAL, signal(title="kafka is slow, says Ada", labels=labels), names)
    ada = names.find("ada")

    assert cleaned["labels"] == {"job": "kafka", "pod": "kafka-0", "assignee": ada}
    assert cleaned["title"] == f"kafka is slow, says {ada}"


def test_a_person_who_is_called_as_a_thing_renames_no_thing(names: NameMap) -> None:
    for name in ("shop", "root", "eu", "ada", "42", "x", "succeeded"):
        names.pseudonym(name)
    value = event(
        "started",
        service="shop",
        region="eu-west-1",
        deployment_id="shop-42",
        tags={"shop": "root cause", "eu": "x", "owner": "Ada"},
        justification="the shop of ada's team in eu succeeded",
        deployer="",
    )
    cleaned = pseudonymised(RecordType.DEPLOYMENT_EVENT, value, names)
    ada = names.find("ada")

    assert {k: v for k, v in cleaned.items() if v != value[k]} == {
        "tags": {"shop": "root cause", "eu": "x", "owner": ada},
        "justification": f"the shop of {ada}'s team in eu succeeded",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Ada Lovelace <ada.lovelace@example.com>", "Ada Lovelace"),
        ("Ada Lovelace <ada@example.com>", "mail ada@example.com"),
        ("12345+ada-l@users.noreply.github.com", "@ada-l"),
        ("CORP\\ada.lovelace", "ada.lovelace"),
        ("ada.lovelace+deploys@example.com", "ada.lovelace@example.org"),
        ("José Núñez", "jose\u0301 nu\u0301n\u0303ez"),
        ("张伟", "由 张伟 部署"),
        ("İlker Öz", "asked İlker Öz"),
        ("İlker Öz", "asked ilker öz"),
        ("प्रिया शर्मा", "by प्रिया शर्मा."),
        ("สมชาย ใจดี", "สมชาย ใจดี said so"),
        ("مُحَمَّد علي", "(مُحَمَّد علي)"),
        ("Nguyễn Văn An", "NGUYỄN VĂN AN"),
    ],
)
def test_somebody_is_found_by_what_his_name_says(name: str, said: str, names: NameMap) -> None:
    person = names.pseudonym(name)
    cleaned = pseudonymised(RecordType.DEPLOYMENT_EVENT, event("started", deployer="", justification=said), names)

    assert person in cleaned["justification"]


def test_what_others_add_and_erase_is_known_at_once(names: NameMap, tmp_path: Path) -> None:
    def said() -> str:
        value = event("started", deployer="", justification="asked for by ada.lovelace and grace.hopper")
        return str(pseudonymised(RecordType.DEPLOYMENT_EVENT, value, names)["justification"])

    other = NameMap(tmp_path / "names.db")
    assert said() == "asked for by ada.lovelace and grace.hopper"
    ada = other.pseudonym(ADA)
    assert said() == f"asked for by {ada} and grace.hopper"
    grace = other.pseudonym("grace.hopper@example.com")
    assert said() == f"asked for by {ada} and {grace}"
    other.erase(ADA)
    anybody = other.pseudonym("somebody.else@example.com")  # as many rows as before, and numbered anew
    assert said() == f"asked for by ada.lovelace and {grace}"
    assert names.pseudonym("somebody.else@example.com") == anybody
    assert names.pseudonym(ADA) != ada


@pytest.mark.parametrize("seed", range(20))
def test_whoever_adds_and_erases_in_whatever_order_everybody_knows_the_same(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    people = [
        f"{first}.{last}@example.com" for first in ("ada", "grace", "mary") for last in ("stone", "wood", "field")
    ]
    maps = [NameMap(tmp_path / "names.db") for _ in range(3)]
    known: dict[str, str] = {}
    for _ in range(60):
        one, name = dice.choice(maps), dice.choice(people)
        if dice.random() < 0.3:
            assert one.erase(name) == known.pop(name, None)
        else:
            known[name] = one.pseudonym(name)
        reader = dice.choice(maps).known()
        assert [reader.replaced(name) for name in people] == [known.get(name, name) for name in people]


def test_deployer_and_approver_stay_comparable(names: NameMap) -> None:
    deployed = pseudonymised(RecordType.DEPLOYMENT_EVENT, event("started", deployer=ADA), names)
    approved = pseudonymised(RecordType.APPROVAL, approval(approver=ADA.upper()), names)

    assert deployed["deployer"] == approved["approver"]


def test_automation_and_pseudonyms_stay_as_they_are(names: NameMap) -> None:
    bot = event("started", deployer="release-bot", deployer_type="automation")
    assert pseudonymised(RecordType.DEPLOYMENT_EVENT, bot, names) == bot

    once = pseudonymised(RecordType.DEPLOYMENT_EVENT, event("started", NOON, deployer=ADA), names)
    assert pseudonymised(RecordType.DEPLOYMENT_EVENT, once, names) == once


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
    assert subject_command.main(["add", " "]) == 78
    assert subject_command.main(["add", ADA]) == 0
    person = capsys.readouterr().out.strip()
    assert names.pseudonym(ADA) == person
    assert subject_command.main(["show", ADA]) == subject_command.main(["show", person]) == 0
    assert subject_command.main(["erase", ADA]) == 0
    assert capsys.readouterr().out == f"{person}\n{ADA}\n{person} is nobody's now\n"
    assert subject_command.main(["show", ADA]) == subject_command.main(["erase", ADA]) == 66
    assert ADA not in capsys.readouterr().err
