"""One of something is not several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploytrail import command
from deploytrail_schemas.counted import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 records"), (1, "1 record"), (2, "2 records"), (1_234_567, "1234567 records"), (1.0, "1 record"),
     (0.5, "0.5 records")],
)  # fmt: skip
def test_one_is_told_as_one(number: float, said: str) -> None:
    assert counted(number, "record") == said


def test_a_verb_may_follow() -> None:
    assert counted(1, "entry is", "entries are") == "1 entry is"
    assert counted(2, "entry is", "entries are") == "2 entries are"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("policy check one.yaml", "1 document, no problem"),
        ("policy names --policies one.yaml names", "1 name of an environment or region is unmapped"),
        ("backfill --check one.jsonl", "1 line, no problem"),
        ("backfill --check broken.jsonl", "1 problem; nothing was loaded"),
    ],
)
def test_commands_that_found_one_say_one(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text("kind: environment\nname: lab\nspec: {production: false}\n")
    Path("names").write_text("mars\n")
    value = {"event_type": "started", "deployment_id": "shop-1", "producer_id": "p", "service": "shop",
             "environment": "production", "region": "eu-west-1", "occurred_at": "2026-11-02T12:00:00Z"}  # fmt: skip
    at = {"sent_at": "2026-11-02T12:00:01Z", "received_at": "2026-11-02T12:00:02Z"}
    Path("one.jsonl").write_text(json.dumps({"kind": "deployment", **at, "value": value}) + "\n")
    Path("broken.jsonl").write_text("{}}\n")

    command.main(words.split())
    out, err = capsys.readouterr()
    assert said in out + err
