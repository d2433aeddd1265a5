"""Tickets, sprint, tags and the kind of change come in by every way in which a deployment can be reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient
from support.spool import command, environment, python, stored

SAID: dict[str, Any] = {
    "feature_ticket": "SHOP-42",
    "change_ticket": "CHG0031337",
    "sprint": "2026-23",
    "kind": "database_migration",
    "tags": {"cost_centre": "4711"},
}
KINDS = [
    *("release", "hotfix", "configuration_change", "database_migration", "infrastructure", "feature_flag", "rollback"),
    "unknown",
]
PLACE = {"deployment_id": "d", "region": "eu-west-1", "environment": "production", "service": "checkout"}
MAP = """\
old:
  columns: {deployment_id: Nr, kind: Art, sprint: S, feature_ticket: T, change_ticket: C, tags.cost_centre: K}
  constants: {event_type: started, environment: production, region: eu-west-1, service: checkout}
"""


def by_library(folder: Path) -> dict[str, Any]:
    script = "import deploytrail, json, sys\ndeploytrail.start(**json.loads(sys.argv[1]))"
    python(script, environment(folder), json.dumps(SAID))
    return stored(folder)[0]


def by_command(folder: Path) -> dict[str, Any]:
    words = ["--feature-ticket", "SHOP-42", "--change-ticket", "CHG0031337", "--sprint", "2026-23"]
    command("start", *words, "--kind", "database_migration", "--tag", "cost_centre=4711", env=environment(folder))
    return stored(folder)[0]


def asked(folder: Path, path: str, **body: Any) -> dict[str, Any]:
    maps = folder / "maps.yaml"
    maps.write_text(MAP)
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(csv_maps=str(maps)), publisher), client=("127.0.0.1", 1))
    answer = client.post(path, **body)
    assert answer.status_code == 202, answer.text
    return decode(publisher.records[0].value)[1]


def by_json(folder: Path) -> dict[str, Any]:
    return asked(folder, "/v1/events", json=PLACE | SAID | {"event_type": "started"})


def by_form(folder: Path) -> dict[str, Any]:
    flat = {name: text for name, text in SAID.items() if name != "tags"} | {"tags.cost_centre": "4711"}
    return asked(folder, "/v1/events", data=PLACE | flat | {"event_type": "started"})


def by_csv(folder: Path) -> dict[str, Any]:
    lines = "Nr,Art,T,C,S,K\nd,database_migration,SHOP-42,CHG0031337,2026-23,4711\n"
    return asked(folder, "/v1/csv/old", content=lines, headers={"Content-Type": "text/csv"})


@pytest.mark.requirement("M1.2", "M3.6")
@pytest.mark.parametrize("way", [by_library, by_command, by_json, by_form, by_csv])
def test_each_way_brings_what_the_business_wants_to_know(tmp_path: Path, way: Any) -> None:
    found = way(tmp_path)

    assert {name: found[name] for name in SAID} == SAID


@pytest.mark.requirement("M1.2")
def test_kinds_are_a_closed_list_and_all_of_it_is_taken(tmp_path: Path) -> None:
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(), publisher), client=("127.0.0.1", 1))
    event = PLACE | {"event_type": "started"}
    taken = [client.post("/v1/events", json=event | {"kind": kind}).status_code for kind in KINDS]
    other = client.post("/v1/events", json=event | {"kind": "miracle"})
    said = command("start", "--kind", "miracle", env=environment(tmp_path))

    assert taken == [202] * len(KINDS)
    assert [decode(record.value)[1]["kind"] for record in publisher.records] == KINDS
    assert other.status_code == 422
    assert "hotfix" in other.text
    assert said.returncode == 0  # a deploy does not end for a wrong word
    assert "'miracle'; expected one of release, hotfix" in said.stderr
    assert [value["kind"] for value in stored(tmp_path)] == ["unknown"]
