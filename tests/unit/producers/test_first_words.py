"""What somebody reads who uses the commands for the first time: short, and with what to do."""

from __future__ import annotations

import errno

import pytest
from deploytrail import _reporter, command

WORDS = ("run", "start", "register", "progress", "succeed", "fail", "rollback", "amend", "void")


@pytest.mark.parametrize("word", WORDS)
def test_usage_is_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([word, "--help"])
    first, second, *_ = capsys.readouterr().out.splitlines()

    assert ended.value.code == 0
    assert first.startswith(f"usage: deploytrail {word} [options]")
    assert second == ""


def test_a_spool_that_cannot_be_written_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/spool")

    monkeypatch.setattr(_reporter, "reporter", refuse)
    monkeypatch.setattr(_reporter, "say_once", lambda _, text: said.append(text))
    stored = _reporter.emit("started", "a", {}, None)  # type: ignore[arg-type]  # it is not looked at
    told = said[0]

    assert not stored
    assert "Permission denied: /srv/spool" in told
    assert "set DEPLOYTRAIL_SPOOL to a folder that this user may write" in told
