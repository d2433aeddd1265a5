"""`deploytrail subject`, used for the first time."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail import command


def test_who_asks_before_there_is_a_table_is_told_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_PSEUDONYMS", str(tmp_path / "names"))

    assert command.main(["subject", "show", "ada"]) == 78
    assert "the gateway makes it, or `deploytrail subject add`" in capsys.readouterr().err

    assert command.main(["subject", "add", "ada"]) == 0
    pseudonym = capsys.readouterr().out
    assert command.main(["subject", "show", "ada"]) == 0
    assert capsys.readouterr().out == pseudonym


def test_the_list_of_commands_tells_of_all_three_words(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--help"])

    assert "add, show and erase whose pseudonym it is" in capsys.readouterr().out
