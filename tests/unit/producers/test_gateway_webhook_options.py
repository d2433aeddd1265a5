"""What a webhook's URL says beside the place: the options of its source."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient


def approvals(url: str) -> list[dict[str, Any]]:
    """What becomes of a change in Jira that goes to the status "CAB OK", posted to this URL."""
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(), publisher), client=("127.0.0.1", 1))
    fields = {"issuetype": {"name": "Change"}, "components": [{"name": "checkout"}]}
    payload = {
        "webhookEvent": "jira:issue_updated",
        "timestamp": 1793620680751,
        "user": {"name": "bo"},
        "issue": {"id": "1", "key": "CHG-1", "self": "https://jira.acme.example/rest/api/2/1", "fields": fields},
        "changelog": {"id": "2", "items": [{"field": "status", "fromString": "Open", "toString": "CAB OK"}]},
    }
    answer = client.post(url, json=payload)
    assert answer.status_code == 202, answer.text
    return [decode(record.value)[1] for record in publisher.records]


@pytest.mark.requirement("M5.3")
def test_the_url_names_the_statuses_in_which_a_change_is_approved() -> None:
    [found] = approvals("/webhooks/jira?region=eu-west-1&environment=production&approved=CAB+OK,Freigegeben")

    assert (found["approval_type"], found["approver"], found["region"]) == ("approved", "bo", "eu-west-1")


def test_parameters_that_a_sender_adds_change_nothing() -> None:
    [found] = approvals("/webhooks/jira?user_id=ann&user_key=ann&approve=CAB+OK")

    assert (found["approval_type"], found["ticket_state"]) == ("unknown", "CAB OK")
