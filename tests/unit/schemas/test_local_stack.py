"""Whoever starts a stack and forgets to point the shell to it is told how, by every command that then finds nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from deploytrail import command
from deploytrail_schemas.local_stack import POINTS_A_SHELL, if_not_set
from deploytrail_schemas.settings import PREFIX

WORDS = [
    ("archive verify", 66),
    ("archive cat", 66),
    ("archive prove shop-1", 66),
    ("rehydrate --from 2026-01-01 --to 2026-01-02", 0),
    ("require-permit --artifact-digest sha256:0", 69),
    ("verify-permit --service a --environment b --region c --artifact-digest sha256:0", 69),
    ("doctor", 0),
]
NOBODY_ANSWERS = [("report access --month 2026-10", "CLICKHOUSE_URL"), ("archive restore", "CLICKHOUSE_URL")]


@pytest.fixture(autouse=True)
def fresh_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEPLOYTRAIL_SPOOL", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("words", "code"), WORDS)
def test_a_shell_that_points_nowhere_is_told_how_to_point_it(
    words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words.split()) == code
    out, err = capsys.readouterr()
    assert (out if words == "doctor" else err).count(POINTS_A_SHELL) == 1


@pytest.mark.parametrize(("words", "variable"), NOBODY_ANSWERS)
def test_who_has_named_another_place_is_not(
    words: str, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PREFIX + variable, "http://127.0.0.1:9")

    assert command.main(words.split()) == 69
    [line] = capsys.readouterr().err.splitlines()
    assert f"is {PREFIX}{variable} " in line and "right, and does it run?" in line
    assert POINTS_A_SHELL not in line


def test_only_a_setting_that_nobody_made_has_the_hint() -> None:
    assert POINTS_A_SHELL in if_not_set("kafka", "127.0.0.1:9092")
    assert if_not_set("kafka", "127.0.0.1:9093") == ""
