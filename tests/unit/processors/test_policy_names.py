"""The dry run of aliases: what reported names would be recorded as."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from deploytrail_processors.policy_command import EXIT_INVALID, main
from deploytrail_processors.policy_names import NotNames, read_names
from deploytrail_schemas.json_lines import json_line
from deploytrail_schemas.records import RecordType
from support.values import event

POLICY = """\
kind: environment
name: test
spec: {aliases: ["qa*"]}
---
kind: region
name: eu-west-1
spec: {aliases: [euw1]}
"""


def test_names_come_from_plain_lines_and_from_records() -> None:
    renamed = event("started", environment="production", reported_environment="PROD-east", region="eu-west-1")
    lines = ["qa1\n", "\n", " qa1 \n", json_line(RecordType.DEPLOYMENT_EVENT, renamed)]

    assert read_names(lines, "environment") == {
        ("environment", "qa1"): 2,
        ("environment", "PROD-east"): 1,  # as it was reported, not as an alias made it
        ("region", "eu-west-1"): 1,
        ("service", "shop"): 1,
    }


def test_a_torn_record_is_named() -> None:
    with pytest.raises(NotNames, match="line 2 is no JSON"):
        read_names(["qa1", '{"region": '], "environment")


@pytest.mark.requirement("M2.4")
def test_the_dry_run_says_what_maps_by_what_and_what_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies.yaml").write_text(POLICY)
    reported = [{"environment": "qa1", "region": "EUW1", "service": "shop"}, {"environment": "lab", "region": "mars"},
                {"environment": "qa1", "region": "us-east-1"}]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(json.dumps, reported))))

    assert main(["names", "-", "--policies", str(tmp_path / "policies.yaml")]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "kind         reported   recorded as  by                               records",
        "environment  qa1        test         pattern qa* of environment/test  2",
        "region       EUW1       eu-west-1    alias euw1 of region/eu-west-1   1",
        "region       us-east-1  us-east-1    region of the settings           1",
        "environment  lab        lab          UNMAPPED: no policy has it       1",
        "region       mars       mars         UNMAPPED: no policy has it       1",
        "service      shop       shop         UNMAPPED: no policy has it       1",
    ]
    assert err == "2 names of environments and regions are unmapped\n"


def test_where_everything_maps_the_dry_run_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policies.yaml").write_text(POLICY)
    (tmp_path / "names").write_text("qa1\nqa-7\nProd\n")

    assert main(["names", str(tmp_path / "names"), "--policies", str(tmp_path / "policies.yaml")]) == 0
    assert capsys.readouterr().err == ""
    assert main(["names", str(tmp_path / "none"), "--policies", str(tmp_path / "policies.yaml")]) == EXIT_INVALID


@pytest.mark.parametrize(
    "words",
    [
        "names FILE --policies A B",
        "names --policies A B FILE",
        "names --policies=A FILE",
        "names --policies A FILE --kind environment",
        "names --kind environment FILE --policies A",
    ],
)
def test_the_file_of_names_may_stand_before_and_behind_the_policies(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("A").write_text(POLICY.partition("---")[0])
    Path("B").write_text(POLICY.partition("---")[2])
    Path("FILE").write_text("qa1\n")

    assert main(words.split()) == 0
    assert "pattern qa* of environment/test" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["names", "names --policies a.yaml", "names --policies a.yaml b.yml", "names --policies a.yaml ."]
)
def test_without_a_file_of_names_no_policy_is_taken_for_one(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(words.split())

    assert "the FILE of names is missing" in capsys.readouterr().err
