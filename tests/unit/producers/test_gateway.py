"""The gateway's answers: what is accepted, and what is said of what is not."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from typing import Any

import pytest
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient

EVENT: dict[str, Any] = {
    "event_type": "started",
    "deployment_id": "shop-1",
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
}


def gateway(**settings: str) -> tuple[TestClient, MemoryPublisher]:
    publisher = MemoryPublisher()
    return TestClient(create_app(Settings(**settings), publisher), client=("127.0.0.1", 1)), publisher


@pytest.mark.requirement("M8.5")
def test_one_object_is_accepted_and_completed() -> None:
    client, publisher = gateway()
    answer = client.post("/v1/events", json=EVENT, headers={"Deploytrail-Sent-At": "1793620800000000"})
    [record] = publisher.records
    kind, value = decode(record.value)

    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "received_at": value["occurred_at"], "ids": [value["event_id"]]}
    assert kind is RecordType.DEPLOYMENT_EVENT
    assert value["service"] == "shop"
    assert record.partition == 1
    assert dict(record.headers) == {
        "dt-received-at": str(value["occurred_at"]).encode(),
        "dt-reporter": b"anonymous",
        "dt-sent-at": b"1793620800000000",
    }


def test_a_list_is_accepted_whole_or_not_at_all() -> None:
    client, publisher = gateway()
    bad = EVENT | {"event_type": "exploded", "versoin": "1"}
    answer = client.post("/v1/events", json=[EVENT, bad])

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [v["pointer"] for v in answer.json()["violations"]] == ["/1/event_type", "/1/versoin"]
    assert publisher.records == []


def test_of_very_many_violations_the_first_are_listed() -> None:
    client, publisher = gateway()
    answer = client.post("/v1/events", json=[EVENT | {"event_type": "exploded", "versoin": "1"}] * 10_000)
    listed = answer.json()["violations"]

    assert (answer.status_code, publisher.records) == (422, [])
    assert [v["pointer"] for v in listed[:2]] == ["/0/event_type", "/0/versoin"]
    assert (len(listed), listed[-1]["detail"]) == (1001, "more may be wrong; the first 1000 are listed")


def test_a_form_is_no_way_for_megabytes() -> None:
    client, _ = gateway()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/v1/events", content=b"service=" + b"%41" * 400_000, headers=headers)

    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["signals", "approvals", "observations"])
def test_every_kind_has_its_route(path: str) -> None:
    client, publisher = gateway()
    answer = client.post(f"/v1/{path}", json={"region": "r", "environment": "e", "service": "s"})

    assert answer.status_code == 202, answer.text
    assert decode(publisher.records[0].value)[0].value.lower() + "s" == path


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b'{"a": 1, "a": 2}', 400, "stands twice"),
        (b'{"a": NaN}', 400, "NaN is not JSON"),
        (b'{"a"', 400, "not JSON"),
        (b"[" * 40, 400, "nested deeper"),
        (b"3", 422, "1 violation;"),
        (json.dumps(EVENT | {"error": "x" * (1 << 20)}).encode(), 422, "cannot be stored"),
        (json.dumps(EVENT | {"producer_id": "x" * (600 << 10)}).encode(), 422, "cannot be stored"),
        (b" " * ((16 << 20) + 1), 413, "more than 16777216 bytes"),
        (json.dumps([EVENT] * 10_001).encode(), 413, "10001 records"),
    ],
)
def test_bad_bodies_get_a_clear_answer(body: bytes, status: int, part: str) -> None:
    client, publisher = gateway()
    answer = client.post("/v1/events", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    assert part in answer.json()["detail"]
    assert publisher.records == []


def test_a_body_may_be_gzip_and_a_bomb_is_refused() -> None:
    client, publisher = gateway()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    good = client.post("/v1/events", content=gzip.compress(json.dumps(EVENT).encode()), headers=headers)
    bomb = client.post("/v1/events", content=gzip.compress(b" " * (64 << 20)), headers=headers)
    broken = client.post("/v1/events", content=b"no gzip", headers=headers)

    assert (good.status_code, bomb.status_code, broken.status_code) == (202, 413, 400)
    assert len(publisher.records) == 1


@pytest.mark.requirement("M8.5")
def test_one_line_of_curl_reports_a_deployment() -> None:
    client, publisher = gateway()
    answer = client.post("/v1/events", data=EVENT | {"version": "4.2.0", "tags.sprint": "42", "emergency": "true"})
    _, value = decode(publisher.records[0].value)

    assert answer.status_code == 202
    assert (value["version"], value["tags"], value["emergency"]) == ("4.2.0", {"sprint": "42"}, True)
    assert value["confidence"] == 0.9


def test_secrets_in_a_report_are_not_kept() -> None:
    client, publisher = gateway()
    said = {"error": "login with password=hunter2-and-more failed", "tags": {"api_key": "abcdef0123456789"}}
    client.post("/v1/events", json=EVENT | said)

    assert b"hunter2" not in publisher.records[0].value
    assert b"abcdef0123456789" not in publisher.records[0].value


def test_a_form_with_a_wrong_field_is_answered_as_json_is() -> None:
    client, publisher = gateway()
    answer = client.post("/v1/events", data=EVENT | {"event_type": "exploded", "versoin": "4"})

    assert answer.status_code == 422
    assert [v["pointer"] for v in answer.json()["violations"]] == ["/event_type", "/versoin"]
    assert publisher.records == []


def test_json_that_curl_calls_a_form_is_json() -> None:
    client, _ = gateway()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    assert client.post("/v1/events", content=json.dumps(EVENT), headers=headers).status_code == 202


def test_another_content_type_is_refused() -> None:
    client, _ = gateway()

    assert client.post("/v1/events", content=b"a,b", headers={"Content-Type": "text/csv"}).status_code == 415


@pytest.mark.requirement("M8.3")
def test_what_a_sender_says_of_its_clocks_goes_on() -> None:
    client, publisher = gateway()
    said = {"Deploytrail-Sent-Monotonic": "81273400000000", "Deploytrail-Clock": "-120,900"}
    client.post("/v1/events", json=EVENT, headers=said | {"Deploytrail-Sent-At": "1793620800000000"})
    headers = dict(publisher.records[0].headers)

    assert headers["dt-sent-monotonic"] == b"81273400000000"
    assert headers["dt-clock"] == b"-120,900"
    assert client.post("/v1/events", json=EVENT, headers={"Deploytrail-Sent-Monotonic": "-1"}).status_code == 400


def test_wrong_time_headers_are_refused() -> None:
    client, _ = gateway()
    answer = client.post("/v1/events", json=EVENT, headers={"Deploytrail-Sent-At": "noon", "Deploytrail-Echo": "1,2"})

    assert answer.status_code == 400
    assert len(answer.json()["violations"]) == 2
    assert client.post("/v1/events", json=EVENT, headers={"Deploytrail-Sent-At": "1_793_620_800_000_000"}).is_error


def test_what_kafka_does_not_take_is_not_acknowledged() -> None:
    client, publisher = gateway()
    publisher.away = True
    answer = client.post("/v1/events", json=EVENT)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_token_is_asked_for_where_one_is_set() -> None:
    client, _ = gateway(token="old,new")

    assert client.post("/v1/events", json=EVENT).status_code == 401
    assert client.post("/v1/events", json=EVENT, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.post("/v1/events", json=EVENT, headers={"Authorization": "Bearer new"}).status_code == 202


def test_requests_are_counted() -> None:
    client, _ = gateway()
    client.post("/v1/events", json=EVENT)

    assert 'deploytrail_gateway_requests_total{route="/v1/events",status="202"}' in client.get("/metrics").text


def test_a_github_delivery_must_be_signed_where_a_secret_is_set() -> None:
    client, publisher = gateway(webhook_secrets="github=old,s3cret")
    body = json.dumps({"zen": "Design for failure."}).encode()
    signature = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "ping"}
    unsigned = client.post("/webhooks/github", content=body, headers=headers)
    signed = client.post("/webhooks/github", content=body, headers=headers | {"X-Hub-Signature-256": signature})

    assert (unsigned.status_code, signed.status_code) == (401, 202)
    assert signed.json()["accepted"] == 0
    assert "says nothing of a deployment" in signed.json()["ignored"]
    assert [decode(r.value)[1]["source"] for r in publisher.records] == ["deploytrail-gateway"]  # the refusal


@pytest.mark.parametrize("secret", ["whsec_", "plain", "whsec_***"])
def test_a_secret_that_signs_nothing_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="secret of cdevents is no Standard Webhooks secret"):
        gateway(webhook_secrets=f"cdevents={secret}")


@pytest.mark.parametrize("setting", ["gitbuh=s", "github", "github=", "github= , ,", "=s"])
def test_a_secret_of_nothing_is_refused_at_the_start(setting: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_WEBHOOK_SECRETS names"):
        gateway(webhook_secrets=setting)


def test_an_unknown_source_is_answered_with_those_that_are_known() -> None:
    client, _ = gateway()
    answer = client.post("/webhooks/base", json={})

    assert answer.status_code == 404
    assert "alertmanager, " in answer.json()["detail"]


def test_json_may_come_as_a_field_of_a_form() -> None:
    client, _ = gateway()
    answer = client.post("/webhooks/github", data={"payload": '{"zen": "x"}'}, headers={"X-GitHub-Event": "ping"})

    assert (answer.status_code, answer.json()["accepted"]) == (202, 0)


def test_what_is_not_served_is_a_problem_too() -> None:
    client, _ = gateway()

    assert client.get("/v1/events").status_code == 405
    assert client.get("/nothing").headers["content-type"] == "application/problem+json"
