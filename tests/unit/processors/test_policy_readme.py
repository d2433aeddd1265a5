"""Each policy that the README shows is one that `deploytrail policy check` lets pass, and `explain` can say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deploytrail_processors.policy_command import main

README = Path(__file__).parents[3] / "stream_processors" / "README.md"
BLOCKS = [block for block in re.findall(r"```yaml\n(.*?)```", README.read_text("utf-8"), re.S) if "kind:" in block]


@pytest.mark.parametrize("block", BLOCKS, ids=[re.findall(r"kind: (\w+)", block)[0] for block in BLOCKS])
def test_a_policy_of_the_readme_is_valid_and_can_be_explained(
    block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies.yaml").write_text(block)
    checked = main(["check", str(tmp_path / "policies.yaml")])
    told = capsys.readouterr()
    explained = main(["explain", "--at", "2026-12-16T10:00:00Z", str(tmp_path / "policies.yaml")])
    said = capsys.readouterr().out

    assert checked == 0, told.err
    assert explained == 0
    assert all(f"{kind}/" in said for kind in re.findall(r"^kind: (\w+)", block, re.M))


def test_the_readme_shows_policies() -> None:
    assert len(BLOCKS) >= 6
