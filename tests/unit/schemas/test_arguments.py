"""Slips in the words of a command: what may be meant is said, in every room, and they are wrong words (64)."""

from __future__ import annotations

import pytest
from deploytrail import command


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("polcy check .", "policy"),
        ("archive verfy", "verify"),
        ("archive hold lst", "list"),
        ("archive keygen --kind logg a b", "log"),
        ("policy chek .", "check"),
        ("policy names --kind enviroment f", "environment"),
        ("report adit --month 2026-10", "audit"),
        ("subject shw ada", "show"),
        ("token lst", "list"),
        ("watch kubernets", "kubernetes"),
        ("sink clickhose", "clickhouse"),
        ("processor lifecycel", "lifecycle"),
        ("log --topic evnts", "events"),
        ("log --type deploymnt", "DeploymentEvent"),
        ("adapters githb", "github"),
    ],
)
def test_a_misspelt_word_is_told_what_it_may_mean(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words.split()) == 64
    assert f"; did you mean {meant}?" in capsys.readouterr().err


def test_a_word_that_resembles_none_is_told_all_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["xyzzy"]) == 64

    said = capsys.readouterr().err
    assert "there is no command 'xyzzy'; there are " in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report audit --month 2026-10 --as-of yesterday", "'yesterday' is not an RFC 3339 date-time"),
        ("report timeline INC1 --as-of 2026-10-01", "'2026-10-01' is not an RFC 3339 date-time"),
        ("report audit --month 2026-10 --zone Berlin", "'Berlin' is no IANA time zone"),
        ("report access --quarter 2026-Q4 --zone Berlin", "'Berlin' is no IANA time zone"),
        ("policy explain --at noon .", "'noon' is not an RFC 3339 date-time"),
        ("backfill --until noon history.jsonl", "'noon' is not an RFC 3339 date-time"),
        ("processor --replay --until noon", "'noon' is not an RFC 3339 date-time"),
        ("processor --replay --partitions x", "--partitions x: expected numbers"),
        ("processor --replay --until 5", "--until 5: an offset is one of one partition"),
        ("processor --replay intake", "intake: writes no records"),
        ("rehydrate --from today --to 2026-10-02", "'today' is no day"),
    ],
)
def test_an_argument_that_makes_no_sense_is_wrong_words_in_every_command(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words.split()) == 64
    assert said in capsys.readouterr().err
