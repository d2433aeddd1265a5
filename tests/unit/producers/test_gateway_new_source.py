"""The README's example of an adapter, behind the gateway: one file is enough."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from deploytrail import adapters
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient
from support.guide import example, write


@pytest.mark.requirement("M7.5")
def test_the_gateway_takes_the_webhooks_of_a_source_that_is_one_more_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    adapters.names.cache_clear()
    publisher = MemoryPublisher()
    case = json.loads(example("json"))
    try:
        client = TestClient(create_app(Settings(), publisher), client=("127.0.0.1", 1))
        answer = client.post("/webhooks/shipit?region=eu-west-1", json=case["payload"])
    finally:
        adapters.names.cache_clear()
        adapters.load.cache_clear()
        sys.modules.pop("deploytrail.adapters.shipit", None)
    [value] = [decode(record.value)[1] for record in publisher.records]

    assert answer.status_code == 202, answer.text
    assert answer.json()["ids"] == [case["records"][0]["value"]["event_id"]]
    assert (value["service"], value["region"], value["event_type"]) == ("checkout", "eu-west-1", "succeeded")
