"""The command's words: what they are, what help says of them, and what is said of a slip."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import pytest
from deploytrail import command
from deploytrail._words import later_parser

PLACE = ["--service", "checkout", "--environment", "production", "--region", "eu-west-1"]


def test_help_names_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0

    said = capsys.readouterr().out.replace(",", " ").split()
    assert {*command.OWN, *(entry.name for entry in entry_points(group=command.GROUP))} <= set(said)


def test_help_says_of_every_word_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--help"])
    told = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", capsys.readouterr().out, re.M))

    assert told.keys() == {*command.OWN, *(entry.name for entry in entry_points(group=command.GROUP))}


def test_help_says_of_every_option_what_it_is_for() -> None:
    for word in ("progress", "succeed", "fail", "rollback", "amend", "void"):
        made = later_parser(word)
        text = made.format_help()

        assert [action.dest for action in made._actions if not action.help] == []
        assert "one of release, hotfix" in text


@pytest.mark.parametrize("words", [["start", *PLACE, "--verison", "4.2.0"], ["start", *PLACE, "--verison=4.2.0"]])
def test_a_misspelt_option_is_told_what_it_may_mean(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 64

    assert "(did you mean --version?)" in capsys.readouterr().err


def test_an_option_that_resembles_none_is_only_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["start", *PLACE, "--xyzzy", "4.2.0"]) == 64

    assert capsys.readouterr().err.startswith("deploytrail start: unrecognized arguments: --xyzzy 4.2.0. See")


@pytest.mark.parametrize("words", [["strat"], [], ["agent", "--nothing"], ["backfill"], ["watch", "nomad"], ["start"]])
def test_words_that_make_no_sense_are_64(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DEPLOYTRAIL_SERVICE", raising=False)

    assert command.main(words) == 64
    assert capsys.readouterr().err
