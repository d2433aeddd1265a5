"""A folder that cannot be used is an error that says what to do, not a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_local import demo, up_command


@pytest.mark.parametrize("words", [[], ["--foreground"], ["--env"]])
def test_up_says_which_folder_cannot_be_used(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEPLOYTRAIL_HOME", str(tmp_path / "file" / "stack"))
    code = up_command.main(words)
    told = capsys.readouterr().err

    assert code == 69
    assert str(tmp_path / "file") in told
    assert "set DEPLOYTRAIL_HOME to a folder that you may write" in told


def test_demo_says_which_folder_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_interrupt_once", lambda: None)  # the signals are pytest's here
    (tmp_path / "file").touch()
    code = demo.main(["--home", str(tmp_path / "file" / "demo"), "--no-keep"])

    assert code == 69
    assert "set DEPLOYTRAIL_HOME" in capsys.readouterr().err
