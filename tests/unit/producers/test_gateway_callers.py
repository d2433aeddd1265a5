"""Who is let in by the gateway, what they may say, and what is recorded of those who may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail.gateway.anonymity import is_loopback
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher, Outgoing
from deploytrail.gateway.refusals import MOST_OPEN, OTHERS, WINDOW, Attempt, Ledger
from deploytrail_schemas.codec import decode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.record_signatures import is_signed, public_key_of, read_signature, signed_bytes
from deploytrail_schemas.scopes import Verb
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.tokens import read_token
from starlette.testclient import TestClient
from support.credentials import LONG_AGO, add_token, relay_token, revoke_token

NOON = 1_793_620_800_000_000
SECOND = 1_000_000
EVENT: dict[str, Any] = {
    "event_type": "started",
    "deployment_id": "pay-1",
    "region": "eu-west-1",
    "environment": "production",
    "service": "pay-api",
}
LOCAL, REMOTE = "127.0.0.1", "203.0.113.9"


def gateway(host: str = REMOTE, **settings: str) -> tuple[TestClient, MemoryPublisher]:
    publisher = MemoryPublisher()
    return TestClient(create_app(Settings(**settings), publisher), client=(host, 1)), publisher


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def values(publisher: MemoryPublisher) -> list[dict[str, Any]]:
    return [decode(record.value)[1] for record in publisher.records]


def reporter(record: Outgoing) -> str:
    return dict(record.headers)["dt-reporter"].decode()


def test_a_webhook_whose_source_has_no_secret_is_told_where_it_would_stand() -> None:
    client, _ = gateway(webhook_secrets="gitlab=whsec_dGhpcnR5LXR3byBieXRlcyB0aGF0IG5vIG9uZSBzYXc=")
    answer = client.post("/webhooks/github", json={})

    assert answer.status_code == 401
    assert answer.json()["detail"] == (
        "the bearer token is missing; DEPLOYTRAIL_WEBHOOK_SECRETS has no secret of github"
    )


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    ("setting", "host", "headers", "status"),
    [
        ("loopback", LOCAL, {}, 202),
        ("loopback", "127.8.9.1", {}, 202),
        ("loopback", "::1", {}, 202),
        ("loopback", "::ffff:127.0.0.1", {}, 202),
        ("loopback", REMOTE, {}, 401),
        ("loopback", REMOTE, {"X-Forwarded-For": LOCAL}, 401),
        ("loopback", LOCAL, {"X-Forwarded-For": REMOTE}, 401),
        ("loopback", LOCAL, {"Forwarded": f"for={REMOTE}"}, 401),
        ("loopback", LOCAL, {"Via": "1.1 proxy"}, 401),
        ("loopback", LOCAL, {"X-Forwarded-Proto": "https"}, 401),
        ("loopback", LOCAL, {"Sec-Fetch-Site": "same-origin"}, 401),
        ("loopback", LOCAL, {"Origin": "https://evil.example"}, 401),
        ("loopback", LOCAL, {"Authorization": "Bearer made-up"}, 401),
        ("loopback", LOCAL, {"Authorization": "Basic dXNlcjpwYXNz"}, 401),
        ("anyone", REMOTE, {}, 202),
        ("anyone", REMOTE, {"Authorization": "Bearer made-up"}, 401),
        ("nobody", LOCAL, {}, 401),
    ],
)
def test_who_needs_no_credential(setting: str, host: str, headers: dict[str, str], status: int) -> None:
    client, _ = gateway(host, anonymous=setting)
    ping = headers | {"X-GitHub-Event": "ping"}

    assert client.post("/v1/events", json=EVENT, headers=headers).status_code == status
    assert client.post("/webhooks/github", json={"zen": "x"}, headers=ping).status_code == status


@pytest.mark.parametrize("host", ["", "testclient", "127.0.0.1.evil.example", "10.0.0.1", "fe80::1", "::ffff:10.0.0.1"])
def test_only_loopback_is_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_word_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="'everyone'; expected loopback, anyone, nobody"):
        gateway(anonymous="everyone")


@pytest.mark.requirement("M2.6")
def test_where_tokens_are_known_being_local_is_not_enough(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens")
    client, _ = gateway(LOCAL, credentials=str(tmp_path / "tokens"))

    assert client.post("/v1/events", json=EVENT).status_code == 401
    assert client.post("/v1/events", json=EVENT, headers=bearer(token)).status_code == 202


@pytest.mark.requirement("M2.6")
def test_a_token_says_who_reported_and_whose_it_is(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens")
    client, publisher = gateway(credentials=str(tmp_path / "tokens"))
    answer = client.post("/v1/events", json=EVENT | {"team": "platform"}, headers=bearer(token))

    assert answer.status_code == 202
    assert reporter(publisher.records[0]) == f"dtk_{read_token(token).id}"
    assert values(publisher)[0]["team"] == "payments"
    assert values(publisher)[0]["tags"] == {"claimed_team": "platform"}


@pytest.mark.requirement("M2.6")
def test_what_a_token_fixes_may_be_left_out(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens")
    client, publisher = gateway(credentials=str(tmp_path / "tokens"))
    short = {name: text for name, text in EVENT.items() if name not in ("region", "environment")}

    assert client.post("/v1/events", json=short, headers=bearer(token)).status_code == 202
    assert (values(publisher)[0]["environment"], values(publisher)[0]["region"]) == ("production", "eu-west-1")


@pytest.mark.requirement("M2.6")
def test_everything_outside_of_the_scope_is_named_and_nothing_is_accepted(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens")
    client, publisher = gateway(credentials=str(tmp_path / "tokens"))
    foreign = EVENT | {"service": "shop", "environment": "staging"}
    answer = client.post("/v1/events", json=[EVENT, foreign], headers=bearer(token))
    [refusal] = values(publisher)

    assert answer.status_code == 403
    assert [v["pointer"] for v in answer.json()["violations"]] == ["/1/service", "/1/environment"]
    assert answer.json()["violations"][0]["detail"] == "is 'shop'; the credential may say pay-*"
    assert refusal["signal_type"] == "unknown"
    assert (refusal["source"], refusal["service"], refusal["severity"]) == (
        "deploytrail-gateway",
        "deploytrail-gateway",
        "warning",
    )
    assert refusal["labels"] == {
        "reason": "out_of_scope",
        "remote": REMOTE,
        "route": "/v1/events",
        "caller": f"dtk_{read_token(token).id}",
        "count": "1",
        "service": "shop",
        "environment": "staging",
        "region": "eu-west-1",
    }


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    ("path", "record", "verb"),
    [
        ("signals", {"signal_type": "alert_firing"}, Verb.SIGNAL),
        ("approvals", {"approval_type": "approved"}, Verb.APPROVE),
        ("approvals", {"approval_type": "requested"}, Verb.REGISTER),
        ("observations", {"observation_type": "running"}, Verb.OBSERVE),
        ("events", {"event_type": "started", "deployment_id": "d"}, Verb.REPORT),
    ],
)
def test_each_kind_of_record_needs_its_verb(path: str, record: dict[str, Any], verb: Verb, tmp_path: Path) -> None:
    may = add_token(tmp_path / "tokens", verb)
    may_not = add_token(tmp_path / "tokens", *(other for other in Verb if other is not verb))
    client, _ = gateway(credentials=str(tmp_path / "tokens"))
    body = record | {"service": "pay-api"}

    assert client.post(f"/v1/{path}", json=body, headers=bearer(may)).status_code == 202
    answer = client.post(f"/v1/{path}", json=body, headers=bearer(may_not))
    assert answer.status_code == 403
    assert f"needs the verb {verb}" in answer.json()["violations"][0]["detail"]


@pytest.mark.requirement("M2.6")
def test_a_token_ends_when_it_is_revoked_without_a_restart(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens")
    expired = add_token(tmp_path / "tokens", expires=LONG_AGO + 1)
    client, publisher = gateway(credentials=str(tmp_path / "tokens"))
    before = client.post("/v1/events", json=EVENT, headers=bearer(token)).status_code
    revoke_token(tmp_path / "tokens", token, LONG_AGO)
    after = client.post("/v1/events", json=EVENT, headers=bearer(token))

    assert (before, after.status_code) == (202, 401)
    assert after.headers["www-authenticate"] == "Bearer"
    assert "was revoked" in after.json()["detail"]
    assert "has expired" in client.post("/v1/events", json=EVENT, headers=bearer(expired)).json()["detail"]
    assert [value["labels"]["reason"] for value in values(publisher)[1:]] == ["revoked", "expired"]


def test_a_static_token_works_beside_the_file_and_is_not_bound(tmp_path: Path) -> None:
    scoped = add_token(tmp_path / "tokens")
    client, publisher = gateway(credentials=str(tmp_path / "tokens"), token=f"old-static,{scoped}")
    anything = EVENT | {"service": "shop"}

    assert client.post("/v1/events", json=anything, headers=bearer("old-static")).status_code == 202
    assert reporter(publisher.records[0]) == "token"
    assert client.post("/v1/events", json=anything, headers=bearer(scoped)).status_code == 403


@pytest.mark.requirement("M2.6")
def test_a_webhook_without_a_secret_may_show_a_token_and_is_bound_by_it(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens", Verb.SIGNAL)
    client, publisher = gateway(credentials=str(tmp_path / "tokens"))

    def payload(service: str) -> bytes:
        alert = {
            "status": "firing",
            "labels": {"alertname": "Slow", "service": service},
            "startsAt": "2026-11-02T12:00:00Z",
            "fingerprint": "f00d",
        }
        return json.dumps({"version": "4", "status": "firing", "alerts": [alert]}).encode()

    mine = client.post("/webhooks/alertmanager", content=payload("pay-api"), headers=bearer(token))
    other = client.post("/webhooks/alertmanager", content=payload("shop"), headers=bearer(token))

    assert (mine.status_code, other.status_code) == (202, 403), mine.text
    assert values(publisher)[0]["environment"] == "production"


@pytest.mark.requirement("M2.6")
def test_a_wrong_signature_is_recorded() -> None:
    client, publisher = gateway(LOCAL, webhook_secrets="github=s3cret")
    answer = client.post("/webhooks/github", json={"zen": "x"}, headers={"X-Hub-Signature-256": "sha256=00"})
    [refusal] = values(publisher)

    assert answer.status_code == 401
    assert refusal["labels"] == {
        "reason": "wrong_signature",
        "remote": LOCAL,
        "route": "/webhooks/github",
        "caller": "webhook:github",
        "count": "1",
    }


def test_a_refused_caller_cannot_flood_the_trail() -> None:
    client, publisher = gateway()
    for _ in range(50):
        assert client.post("/v1/events", json=EVENT).status_code == 401

    assert len(publisher.records) == 1
    assert 'deploytrail_gateway_refusals_total{reason="no_credential"}' in client.get("/metrics").text


def attempt(remote: str = "a", count: int = 1) -> Attempt:
    return Attempt(Refusal.NO_CREDENTIAL, remote, "/v1/events", count=count)


def test_refusals_of_a_minute_are_told_together_at_its_end() -> None:
    ledger = Ledger()

    assert ledger.note(attempt(), NOON) == [attempt()]
    assert [ledger.note(attempt(), NOON + n * SECOND) for n in range(1, 5)] == [[], [], [], []]
    assert ledger.holds_back
    assert ledger.due(NOON + WINDOW - 1) == []
    assert ledger.due(NOON + WINDOW) == [attempt(count=4)]
    assert not ledger.holds_back
    assert ledger.note(attempt(), NOON + WINDOW + 1) == []
    assert ledger.due(NOON + 2 * WINDOW) == [attempt(count=1)]
    assert ledger.due(NOON + 3 * WINDOW) == []
    assert ledger.note(attempt(), NOON + 3 * WINDOW) == [attempt()]


def test_an_attack_from_many_addresses_is_told_in_few_records() -> None:
    ledger = Ledger()
    told = [t for n in range(10_000) for t in ledger.note(attempt(f"10.0.{n // 256}.{n % 256}"), NOON + n)]
    late = ledger.due(NOON + 2 * WINDOW)

    assert len(told) == MOST_OPEN + 1
    assert [(t.remote, t.count) for t in late] == [(OTHERS, 10_000 - MOST_OPEN - 1)]
    assert sum(t.count for t in told + late) == 10_000


def test_what_kafka_did_not_take_is_counted_in_later() -> None:
    ledger = Ledger()
    [first] = ledger.note(attempt(), NOON)
    ledger.give_back(first, NOON)
    ledger.note(attempt(), NOON + 1)

    assert ledger.rest() == [attempt(count=2)]
    assert ledger.rest() == []


@pytest.mark.requirement("M2.6")
def test_a_gateway_with_a_credential_of_its_own_signs_what_it_passes_on(tmp_path: Path) -> None:
    relay = relay_token(tmp_path / "tokens")
    client, publisher = gateway(LOCAL, relay_token=relay)
    client.post("/v1/events", json=EVENT | {"producer_id": "p"})
    [record] = publisher.records
    said = dict(record.headers)
    found = read_signature(said["dt-signature"].decode())

    assert found is not None and found[0] == read_token(relay).id
    data = signed_bytes("deploytrail.intake", 1, b"p", said, record.value)
    assert is_signed(public_key_of(read_token(relay)), found[1], data)


def test_a_relay_token_lets_nobody_report(tmp_path: Path) -> None:
    relay = relay_token(tmp_path / "tokens")
    client, _ = gateway(credentials=str(tmp_path / "tokens"))

    assert client.post("/v1/events", json=EVENT, headers=bearer(relay)).status_code == 403
