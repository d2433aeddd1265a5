"""`deploytrail adapters`: the loss report is what the golden cases prove, in three forms."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from deploytrail import adapters, adapters_command, command
from deploytrail.adapters_command import ALIKE, as_markdown, as_text, loss_of, main
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import fields
from deploytrail_schemas.scopes import PLACES
from support.golden import cases


def reported(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["--json", *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["sources"]
    return found


@pytest.mark.requirement("M3.2")
@pytest.mark.parametrize("name", adapters.names())
def test_every_field_that_intake_does_not_set_is_filled_or_never(name: str) -> None:
    source = adapters.load(name)
    for kind, loss in loss_of(source).items():
        every = [f["name"] for f in fields(kind)]

        assert sorted(loss.fills + loss.never) == sorted(set(every) - {*CANONICAL_FIELDS, *ALIKE})
        assert set(loss.fills) == source.fills[kind] - ALIKE
    assert loss_of(source).keys() == source.fills.keys()


@pytest.mark.requirement("M3.2")
@pytest.mark.parametrize("name", adapters.names())
def test_no_golden_case_fills_what_the_report_says_is_never_filled(name: str) -> None:
    never = {kind.value: {*loss.never} - {*PLACES} for kind, loss in loss_of(adapters.load(name)).items()}
    told = [json.loads(p.read_text("utf-8")).get("records", []) for p in cases() if p.parent.name == name]

    assert [r for records in told for r in records if r["value"].keys() & never[r["kind"]]] == []


def test_a_source_that_learns_to_fill_a_field_loses_it_no_longer() -> None:
    source = adapters.load("alertmanager")
    learned = replace(source, fills={RecordType.SIGNAL: source.fills[RecordType.SIGNAL] | {"value"}})

    assert "value" in loss_of(source)[RecordType.SIGNAL].never
    assert "value" not in loss_of(learned)[RecordType.SIGNAL].never
    assert "value" not in as_text([learned])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("github", "with which the sender signs"),
        ("alertmanager", "sent as Authorization: Bearer SECRET"),
        ("pagerduty", "with which the sender signs"),
    ],
)
def test_a_source_says_how_its_webhook_is_set_up(name: str, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 0

    said = capsys.readouterr().out
    assert f"https://GATEWAY/webhooks/{name}?region=REGION" in said
    assert f'DEPLOYTRAIL_WEBHOOK_SECRETS="{name}=SECRET" of the gateway: {how}' in said


def test_the_report_says_what_a_source_never_fills(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = reported(capsys, "pagerduty")

    assert found["records"]["Signal"]["never"] == ["region", "environment", "healthy", "value", "ticket_id"]
    assert found["gives_no"] == ["DeploymentEvent", "Approval", "Observation"]
    assert (found["path"], found["signature"]) == ("/webhooks/pagerduty", "pagerduty")
    assert found["statuses"]["incident.resolved"] == "incident_resolved"
    assert "incident.acknowledged" in found["ignored"]


@pytest.mark.requirement("M3.2", "M7.5")
def test_without_a_name_every_source_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    names = [source["name"] for source in reported(capsys)]

    assert names == list(adapters.names())
    assert len(names) >= 14


def test_people_read_the_same_as_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for source in reported(capsys):
        text, markdown = as_text([adapters.load(source["name"])]), as_markdown([adapters.load(source["name"])])
        for kind, loss in source["records"].items():
            assert f"{kind} fills {len(loss['fills'])} of " in text
            row = next(line for line in markdown.splitlines() if f"| {kind} |" in line)
            for name in loss["never"]:
                assert name in text.split(f"{kind} fills")[1]
                assert f"`{name}`" in row


def test_one_source_is_told_with_its_statuses_and_how_to_set_it_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datadog_monitors"]) == 0
    said = capsys.readouterr().out

    assert '"transition": "$ALERT_TRANSITION"' in said
    assert "Re-Triggered       alert_firing" in said
    assert "Signal fills" in said


def test_one_source_in_markdown_has_a_table_of_its_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jira", "--markdown"]) == 0
    said = capsys.readouterr().out

    assert "| `change awaiting implementation` | approved |" in said
    assert "| `planned_start` |" in said
    assert "**Approval** fills" in said


@pytest.mark.parametrize("words", [["nagios"], ["--json", "--markdown"], ["github", "gitlab"]])
def test_words_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 64
    said = capsys.readouterr()

    assert said.out == ""
    assert "deploytrail adapters: " in said.err


def test_a_wrong_name_is_answered_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    main(["git_hub"])

    assert "there is no source 'git_hub'; there are " + ", ".join(adapters.names()) in capsys.readouterr().err


def test_the_command_finds_it() -> None:
    module, function, _ = command.OWN["adapters"]

    assert getattr(sys.modules[module], function) is adapters_command.main


def test_it_needs_nothing_but_the_producers_themselves() -> None:
    script = (
        "import sys; from deploytrail.command import main; main(['adapters', '--json']); print('\\n', *sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout.rpartition("\n ")[2]

    loaded = {name.partition(".")[0] for name in found.split()}
    assert "deploytrail_schemas" in loaded
    assert not loaded & {"starlette", "fastavro", "confluent_kafka", "yaml", "cryptography", "asyncio", "httpx"}
