"""Adapters: payload in, canonical values out; any payload survives."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deploytrail.adapters import alertmanager, cdevents, github
from deploytrail.adapters.base import Adapted, Defaults
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType

NOON = 1_793_620_800_000_000
NO_DEFAULTS = Defaults()
GITHUB_STATUS = {
    "deployment_status": {
        "id": 9,
        "state": "success",
        "created_at": "2026-11-02T12:00:00Z",
        "log_url": "https://github.com/acme/shop/actions/runs/7",
    },
    "deployment": {
        "id": 5,
        "url": "https://api.github.com/repos/acme/shop/deployments/5",
        "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
        "ref": "v4.2.0",
        "task": "deploy",
        "environment": "production",
        "payload": '{"region": "eu-west-1"}',
        "creator": {"login": "ann", "type": "User"},
    },
    "repository": {"name": "shop", "full_name": "acme/shop"},
}


def values(adapted: Adapted) -> list[dict[str, Any]]:
    """The values as they are read back: every one fits its schema."""
    return [decode(encode(kind, value))[1] for kind, value in adapted.records]


@pytest.mark.requirement("M7.5", "M3.2")
def test_a_github_status_is_an_event() -> None:
    [found] = values(github.adapt(GITHUB_STATUS, {"x-github-event": "deployment_status"}, NO_DEFAULTS, NOON + 5))

    assert {name: value for name, value in found.items() if value not in ("", None, {}, False, 0)} == {
        "event_id": "27f5cad2-c92e-5e0f-a4a6-464d64624e85",
        "event_type": "succeeded",
        "deployment_id": "github:api.github.com:5",
        "occurred_at": NOON,
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "producer_id": "github:api.github.com",
        "kind": "release",
        "strategy": "unknown",
        "version": "v4.2.0",
        "commit_sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
        "repository": "acme/shop",
        "ref": "v4.2.0",
        "build_url": "https://github.com/acme/shop/actions/runs/7",
        "deployer": "ann",
        "deployer_type": "person",
        "source": "github",
        "provenance": "reported",
        "confidence": 1.0,
        "clock_state": "unknown",
        "raw_status": "success",
        "tags": {"task": "deploy"},
    }


@pytest.mark.parametrize(("state", "event_type"), [*github.STATUSES.items(), ("dancing", "unknown")])
def test_every_github_status_is_mapped_on_purpose(state: str, event_type: str) -> None:
    status = GITHUB_STATUS["deployment_status"] | {"state": state}
    [found] = values(github.adapt(GITHUB_STATUS | {"deployment_status": status}, {}, NO_DEFAULTS, NOON))

    assert (found["event_type"], found["raw_status"]) == (event_type, state)


def test_github_enterprise_payloads_have_ids_of_their_own() -> None:
    enterprise = GITHUB_STATUS["deployment"] | {"url": "https://git.acme.example/api/v3/repos/acme/shop/deployments/5"}
    [public] = values(github.adapt(GITHUB_STATUS, {}, NO_DEFAULTS, NOON))
    [own] = values(github.adapt(GITHUB_STATUS | {"deployment": enterprise}, {}, NO_DEFAULTS, NOON))

    assert own["event_id"] != public["event_id"]
    assert own["deployment_id"] == "github:git.acme.example:5"


def test_the_url_of_the_webhook_fills_what_the_payload_lacks() -> None:
    bare = {**GITHUB_STATUS, "deployment": {**GITHUB_STATUS["deployment"], "payload": {}}}
    [found] = values(github.adapt(bare, {}, Defaults(region="us-east-1", service="web"), NOON))
    [other] = values(github.adapt(bare, {}, NO_DEFAULTS, NOON))

    assert (found["region"], found["service"]) == ("us-east-1", "web")
    assert (other["region"], other["service"]) == ("other", "shop")


def test_a_repeated_delivery_gives_the_same_ids() -> None:
    first, again = (values(github.adapt(GITHUB_STATUS, {}, NO_DEFAULTS, at)) for at in (NOON, NOON + 99))

    assert first == again


def test_every_github_fixture_is_read(shared: Path) -> None:
    found: Counter[str] = Counter()
    for path in sorted((shared / "fixtures/github").glob("*/*.json")):
        headers = {"x-github-event": path.parent.name}
        adapted = github.adapt(json.loads(path.read_text("utf-8")), headers, NO_DEFAULTS, NOON)
        for value in values(adapted):
            found[f"{path.parent.name}:{value.get('event_type') or value.get('approval_type')}"] += 1
        found["ignored"] += not adapted.records

    assert found == {
        "deployment:queued": 3,
        "deployment_review:requested": 1,
        "deployment_status:succeeded": 2,
        "deployment_status:started": 1,
        "workflow_job:queued": 1,
        "ignored": 30,
    }


@pytest.mark.parametrize("version", ["v0.4.1", "v0.5.1"])
def test_every_cdevents_sample_is_read(shared: Path, version: str) -> None:
    found: Counter[str] = Counter()
    for path in sorted((shared / f"fixtures/cdevents/{version}/conformance").glob("*.json")):
        adapted = cdevents.adapt(json.loads(path.read_text("utf-8")), {}, NO_DEFAULTS, NOON)
        for (kind, _), value in zip(adapted.records, values(adapted), strict=True):
            found[
                f"{path.stem}:{value.get('event_type') or value.get('signal_type') or value.get('observation_type')}"
            ] += 1
            assert kind in (RecordType.DEPLOYMENT_EVENT, RecordType.SIGNAL, RecordType.OBSERVATION)

    assert found == {
        "incident_detected:incident_opened": 1,
        "incident_reported:incident_opened": 1,
        "incident_resolved:incident_resolved": 1,
        "service_deployed:succeeded": 1,
        "service_published:running": 1,
        "service_removed:removed": 1,
        "service_rolledback:succeeded": 1,
        "service_upgraded:succeeded": 1,
    }


def test_a_deployed_service_is_a_deployment_that_succeeded(shared: Path) -> None:
    path = shared / "fixtures/cdevents/v0.5.1/conformance/service_deployed.json"
    [found] = values(cdevents.adapt(json.loads(path.read_text()), {}, Defaults(region="eu-west-1"), NOON))

    assert found["event_type"] == "succeeded"
    assert found["service"] == "mySubject123"
    assert found["environment"] == "test123"
    assert found["artifact_digest"] == "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427"
    assert found["occurred_at"] == 1_679_322_425_315_384


def test_a_structured_cloudevent_is_opened() -> None:
    event = {
        "context": {"id": "1", "source": "/ci", "type": "dev.cdevents.service.deployed.0.3.0"},
        "subject": {"id": "shop", "content": {"environment": {"id": "production"}}},
    }
    plain = cdevents.adapt(event, {}, NO_DEFAULTS, NOON)

    assert cdevents.adapt({"specversion": "1.0", "data": event}, {}, NO_DEFAULTS, NOON) == plain


def test_every_alert_is_a_signal(shared: Path) -> None:
    payload = json.loads((shared / "fixtures/alertmanager/prom_post_request.json").read_text())
    [found] = values(alertmanager.adapt(payload, {}, Defaults(environment="production"), NOON))

    assert found["signal_type"] == "alert_firing"
    assert (found["severity"], found["title"], found["service"]) == ("warning", "high_memory_load", "docker_nodes")
    assert found["occurred_at"] == 1_520_422_401_873_077


def test_firing_and_resolved_share_their_fingerprint() -> None:
    alert = {"labels": {"alertname": "Down", "service": "shop"}, "startsAt": "2026-11-02T12:00:00Z"}
    end = {"endsAt": "2026-11-02T12:10:00Z", "status": "resolved"}
    [firing] = values(alertmanager.adapt({"status": "firing", "alerts": [alert]}, {}, NO_DEFAULTS, NOON))
    [resolved] = values(alertmanager.adapt({"alerts": [alert | end]}, {}, NO_DEFAULTS, NOON))

    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["signal_id"] != resolved["signal_id"]
    assert (resolved["signal_type"], resolved["occurred_at"]) == ("alert_resolved", NOON + 600_000_000)


def test_alerts_of_our_own_pages_are_known() -> None:
    alert = {"labels": {"alertname": "Page", "source": "deploytrail"}, "startsAt": "2026-11-02T12:00:00Z"}
    [found] = values(alertmanager.adapt({"status": "firing", "alerts": [alert]}, {}, NO_DEFAULTS, NOON))

    assert found["source"] == "deploytrail"
