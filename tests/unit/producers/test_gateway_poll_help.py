"""What `deploytrail poll` says to somebody who has no file for it yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail import poll_command
from deploytrail.polling import config


def test_help_of_poll_shows_a_file_that_poll_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        poll_command.main(["--help"])
    _, begin, shown = capsys.readouterr().out.partition("sources:\n")
    (tmp_path / "poll.yaml").write_text(begin + shown.partition("\n\n")[0])
    sources = config.load(tmp_path / "poll.yaml")

    assert [one.kind for one in sources] == ["github", "gitlab", "argocd", "jenkins"]


def test_a_file_of_poll_that_is_no_yaml_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "poll.yaml").write_text("sources: [")
    with pytest.raises(config.ConfigurationError) as raised:
        config.load(tmp_path / "poll.yaml")

    assert "poll.yaml is no YAML" in str(raised.value)
    assert "\n" not in str(raised.value)
