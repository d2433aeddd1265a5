"""A setting that cannot be read ends each command with one exit code: its supervisor need not start it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import run

COMMANDS = [
    "agent",
    "gateway",
    "poll --once",
    "watch kubernetes --server http://127.0.0.1:1",
    "admission --certificate c.pem --key k.pem",
    "backfill history.jsonl",
    "log --kafka --topic events",
    "policy diff policies",
    "processor intake",
    "sink clickhouse",
    "sink archive",
    "sink on-call",
    "migrate",
    "report team shop --month 2026-10",
    "archive verify",
]

SERVICE = "kind: service\nname: shop\nversion: 1\neffective_from: 2026-01-01T00:00:00Z\nspec: {team: pay}\n"


@pytest.mark.requirement("M8.5")
@pytest.mark.parametrize("words", COMMANDS)
def test_a_setting_that_cannot_be_read_is_named_and_ends_the_command_for_good(words: str, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text("")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(SERVICE)
    done = run(*words.split(), env={"DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS": "many"}, cwd=tmp_path)

    assert done.returncode == 78, done.stderr
    assert "DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS" in done.stderr
    assert "Traceback" not in done.stderr
