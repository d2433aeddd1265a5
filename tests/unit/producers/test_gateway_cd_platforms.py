"""CD platforms at the gateway: what each sends as it is sent, with what proves it."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient
from support.golden import FOLDER

SECRET = "s3cret"


def body(source: str, case: str) -> bytes:
    return json.dumps(json.loads((FOLDER / source / f"{case}.json").read_text("utf-8"))["payload"]).encode()


def posted(source: str, given: bytes, headers: dict[str, str]) -> tuple[Any, list[dict[str, Any]]]:
    """The gateway's answer, and what became of it."""
    publisher = MemoryPublisher()
    app = create_app(Settings(webhook_secrets=f"{source}={SECRET}"), publisher)
    answer = TestClient(app, client=("192.0.2.7", 1)).post(
        f"/webhooks/{source}?region=eu-west-1&environment=production", content=given, headers=headers
    )
    return answer, [value for record in publisher.records if "event_id" in (value := decode(record.value)[1])]


def test_a_verification_of_hcp_terraform_is_answered_and_leaves_nothing() -> None:
    given = body("terraform_cloud", "verification")
    signature = hmac.new(SECRET.encode(), given, hashlib.sha512).hexdigest()
    answer, events = posted("terraform_cloud", given, {"x-tfe-notification-signature": signature})

    assert (answer.status_code, events) == (202, [])
    assert answer.json()["ignored"].startswith("a verification")


def test_a_signed_event_of_flux_is_taken() -> None:
    given = body("flux", "helm_release_upgraded")
    signature = "sha256=" + hmac.new(SECRET.encode(), given, hashlib.sha256).hexdigest()
    answer, [event] = posted("flux", given, {"x-signature": signature, "gotk-component": "helm-controller"})

    assert (answer.status_code, event["event_type"], event["service"]) == (202, "succeeded", "shop")


@pytest.mark.parametrize(
    ("source", "case", "headers"),
    [
        ("datadog_deployments", "deployment", {"dd-api-key": SECRET}),
        ("devlake", "one_repository_of_a_named_service", {"authorization": f"Bearer {SECRET}"}),
    ],
)
def test_who_used_to_report_elsewhere_changes_the_url_and_the_key(
    source: str, case: str, headers: dict[str, str]
) -> None:
    answer, events = posted(source, body(source, case), headers)
    refused, none = posted(source, body(source, case), {name: f"{value}x" for name, value in headers.items()})

    assert (answer.status_code, [event["event_type"] for event in events]) == (202, ["started", "succeeded"])
    assert (refused.status_code, none) == (401, [])
