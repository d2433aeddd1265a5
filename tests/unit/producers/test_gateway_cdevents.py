"""CDEvents over HTTP: every content mode of CloudEvents is taken, ours of another gateway too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deploytrail.cdevents_out import binary, cdevents_of, structured
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient

DEPLOYED: dict[str, Any] = {
    "event_id": "01a0f1c2-0000-7000-8000-000000000001",
    "event_type": "succeeded",
    "deployment_id": "shöp 42",
    "occurred_at": 1_793_620_800_000_000,
    "region": "eu-west-1",
    "environment": "production",
    "service": "shöp",
    "producer_id": "runner 7",
    "version": "4.2.0",
}
[RUN, SERVICE] = cdevents_of(RecordType.DEPLOYMENT_EVENT, DEPLOYED)


def post(body: bytes | str, headers: dict[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(), publisher), client=("127.0.0.1", 1))
    answer = client.post("/webhooks/cdevents", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json(), [decode(record.value)[1] for record in publisher.records if record.value]


@pytest.mark.requirement("M7.5")
@pytest.mark.parametrize("mode", ["bare", "structured", "binary"])
def test_an_event_of_ours_arrives_as_it_left(mode: str) -> None:
    headers, body = binary(SERVICE)
    sent: dict[str, tuple[bytes | str, dict[str, str]]] = {
        "bare": (json.dumps(SERVICE), {"content-type": "application/json"}),
        "structured": (json.dumps(structured(SERVICE)), {"content-type": "application/cloudevents+json"}),
        "binary": (body, headers),
    }
    answer, [stored] = post(*sent[mode])

    assert answer["ids"] == [DEPLOYED["event_id"]]
    assert {name: stored[name] for name in DEPLOYED} == DEPLOYED


@pytest.mark.requirement("M7.5")
def test_a_batch_is_taken_whole() -> None:
    body = json.dumps([structured(RUN), structured(SERVICE)])
    answer, stored = post(body, {"content-type": "application/cloudevents-batch+json"})

    assert answer["accepted"] == 2
    assert {value["event_id"] for value in stored} == {DEPLOYED["event_id"]}  # told twice, and one event


def test_a_subject_alone_takes_its_context_from_the_headers() -> None:
    headers, _ = binary(SERVICE)
    content = SERVICE["subject"]
    answer, [stored] = post(json.dumps({"subject": content}), headers)

    assert answer["accepted"] == 1
    assert (stored["service"], stored["occurred_at"]) == ("shöp", DEPLOYED["occurred_at"])
