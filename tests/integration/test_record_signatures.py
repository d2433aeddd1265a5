"""Producers, gateway and backfill that sign, against an intake app that asks for it, on a real Kafka."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.record_signatures import Signer
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.tokens import read_token
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.credentials import add_token, relay_token, revoke_token
from support.kafka import make_topics, read_topic, wait_for, write
from support.spool import command, environment

EU = 1
POLICY = """\
kind: intake
name: production-is-signed
effective_from: 2020-01-01T00:00:00Z
spec: {unsigned: refuse, scope: {environments: [production]}}
"""


@dataclass(frozen=True)
class Stack:
    """A Kafka with an intake app that knows the tokens of a file."""

    kafka: str
    tokens: Path
    relay: str
    env: dict[str, str]

    def events(self, deployment_id: str) -> list[dict[str, Any]]:
        decoded = (decode(m.value()) for m in read_topic(self.kafka, Topic.EVENTS))
        return [v for k, v in decoded if k is RecordType.DEPLOYMENT_EVENT and v["deployment_id"] == deployment_id]

    def wait_for_event(self, deployment_id: str) -> dict[str, Any]:
        wait_for(lambda: bool(self.events(deployment_id)), what=f"{deployment_id} on the trail")
        return self.events(deployment_id)[0]

    def wait_for_refusal(self, deployment_id: str) -> tuple[str, str]:
        def found() -> list[tuple[str, str]]:
            letters = [m for m in read_topic(self.kafka, Topic.DEAD_LETTERS) if deployment_id.encode() in m.value()]
            said: list[dict[str, bytes]] = [dict(m.headers() or ()) for m in letters]  # type: ignore[arg-type]
            return [(h["dt-reason"].decode(), h["dt-detail"].decode()) for h in said]

        wait_for(lambda: bool(found()), what=f"{deployment_id} among the dead letters")
        return found()[0]


@pytest.fixture(scope="module")
def stack(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("signed")
    relay = relay_token(folder / "tokens")
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(folder / "state"),
        "DEPLOYTRAIL_CREDENTIALS": str(folder / "tokens"),
    }
    make_topics(own_kafka)
    (folder / "policy.yaml").write_text(POLICY)
    applied = run("policy", "apply", "policy.yaml", env=env, cwd=folder)
    assert applied.returncode == 0, applied.stderr
    with running("processor", "intake", env=env, cwd=folder) as worker:
        yield Stack(own_kafka, folder / "tokens", relay, env)
        assert worker.stop() == 0


def event(deployment_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": uuid7(),
        "event_type": "started",
        "deployment_id": deployment_id,
        "occurred_at": time.time_ns() // 1000,
        "region": "eu-west-1",
        "environment": "production",
        "service": "pay-api",
        "producer_id": "host-1",
    } | fields


def put(stack: Stack, value: dict[str, Any], token: str = "", partition: int = EU, **headers: str) -> None:
    """Write an event straight to Kafka, signed by a token where one is given."""
    data = encode(RecordType.DEPLOYMENT_EVENT, value)
    said = [(f"dt-{name.replace('_', '-')}", text.encode()) for name, text in headers.items()]
    if token:
        said.append(Signer(token, "TOKEN").header(Topic.INTAKE.value, partition, b"host-1", said, data))
    write(stack.kafka, Topic.INTAKE, [(partition, b"host-1", data)], said)


def producer(stack: Stack, spool: Path, **settings: str) -> dict[str, str]:
    usual = {"DEPLOYTRAIL_SERVICE": "pay-api", "DEPLOYTRAIL_EXIT_WAIT_SECONDS": "60"}
    return environment(spool, **{"DEPLOYTRAIL_URL": f"kafka://{stack.kafka}", **usual, **settings})


@pytest.mark.requirement("M2.6")
def test_a_producer_with_a_token_signs_and_is_the_reporter(stack: Stack, tmp_path: Path) -> None:
    token = add_token(stack.tokens)
    env = producer(stack, tmp_path, DEPLOYTRAIL_TOKEN=token)
    started = command("start", "--team", "platform", env=env)
    deployment = started.stdout.strip()
    command("succeed", deployment, env=env)
    found = stack.wait_for_event(deployment)
    wait_for(lambda: len(stack.events(deployment)) == 2, what="the end, whose echo is signed too")

    assert (started.returncode, started.stderr) == (0, "")
    assert found["reporter"] == f"dtk_{read_token(token).id}"
    assert (found["team"], found["tags"]["claimed_team"]) == ("payments", "platform")


@pytest.mark.requirement("M2.6")
def test_what_nobody_signed_is_refused_in_production_alone(stack: Stack, tmp_path: Path) -> None:
    command("start", "--deployment-id", "unsigned", env=producer(stack, tmp_path))
    put(stack, event("unsigned-alias", environment="Prod"))
    put(stack, event("unsigned-test", environment="test"))

    assert stack.wait_for_refusal("unsigned")[0] == "unauthenticated"
    assert stack.wait_for_refusal("unsigned-alias")[0] == "unauthenticated"
    assert stack.wait_for_event("unsigned-test")["reporter"] == ""
    assert stack.events("unsigned") == []


@pytest.mark.requirement("M2.6")
def test_a_token_does_not_reach_beyond_its_scope(stack: Stack) -> None:
    token = add_token(stack.tokens, services=("checkout",))
    put(stack, event("foreign"), token)
    put(stack, event("pretends-to-relay", service="checkout"), token, reporter="gateway")

    reason, detail = stack.wait_for_refusal("foreign")
    assert reason == "out_of_scope"
    assert detail == f"dtk_{read_token(token).id}: /service is 'pay-api'; the credential may say checkout"
    assert stack.wait_for_refusal("pretends-to-relay")[0] == "out_of_scope"


@pytest.mark.requirement("M2.6")
def test_what_is_refused_leaves_no_trace_in_what_is_accepted_later(stack: Stack) -> None:
    token = add_token(stack.tokens)
    genuine = event("genuine")
    hour_ahead = str(genuine["occurred_at"] + 3_600_000_000)
    put(stack, genuine | {"deployment_id": "impostor"}, sent_at=hour_ahead)
    assert stack.wait_for_refusal("impostor")[0] == "unauthenticated"
    put(stack, genuine, token, sent_at=str(genuine["occurred_at"]))

    assert stack.wait_for_event("genuine")["corrected_at"] == genuine["occurred_at"]


@pytest.mark.requirement("M2.6")
def test_a_revoked_token_ends_and_what_it_said_before_stays(stack: Stack) -> None:
    token = add_token(stack.tokens)
    put(stack, event("before"), token)
    stack.wait_for_event("before")
    revoke_token(stack.tokens, token, time.time_ns() // 1000)
    time.sleep(0.01)
    put(stack, event("after"), token)

    reason, detail = stack.wait_for_refusal("after")
    assert (reason, detail) == ("unauthenticated", f"dtk_{read_token(token).id} was revoked when this was received")


@pytest.mark.requirement("M2.6")
def test_a_gateway_relays_whom_it_let_in(stack: Stack, tmp_path: Path) -> None:
    token = add_token(stack.tokens)
    port = ports.free_port()
    env = stack.env | {"DEPLOYTRAIL_GATEWAY_PORT": str(port), "DEPLOYTRAIL_RELAY_TOKEN": stack.relay}
    with running("gateway", env=env, cwd=tmp_path) as gateway:
        url = f"http://127.0.0.1:{port}/v1/events"
        headers = {"Authorization": f"Bearer {token}"}
        mine = httpx.post(url, json=event("relayed"), headers=headers, timeout=60)
        proxied = httpx.post(url, json=event("nobody"), headers={"X-Forwarded-For": "127.0.0.1"}, timeout=60)
        for _ in range(3):
            httpx.post(url, json=event("nobody"), timeout=60)
        assert gateway.stop() == 0
    found = stack.wait_for_event("relayed")

    def refusals() -> list[dict[str, Any]]:
        decoded = (decode(m.value()) for m in read_topic(stack.kafka, Topic.EVENTS))
        return [v for k, v in decoded if k is RecordType.SIGNAL and v["source"] == "deploytrail-gateway"]

    wait_for(lambda: len(refusals()) == 2, what="the refusals, the held ones at the gateway's end")
    assert (mine.status_code, proxied.status_code) == (202, 401)
    assert found["reporter"] == f"dtk_{read_token(token).id}"
    assert [(r["labels"]["reason"], r["labels"]["count"]) for r in refusals()] == [
        ("no_credential", "1"),
        ("no_credential", "3"),
    ]
    assert {r["reporter"] for r in refusals()} == {"gateway"}
    assert stack.events("nobody") == []


@pytest.mark.requirement("M2.6")
def test_history_needs_a_relay_token(stack: Stack, tmp_path: Path) -> None:
    at = time.time_ns() // 1000 - 3_600_000_000

    def load(deployment_id: str, **env: str) -> None:
        line = {"kind": "deployment", "received_at": at, "value": event(deployment_id, occurred_at=at - 5)}
        (tmp_path / "history.jsonl").write_text(json.dumps(line))
        assert run("backfill", "history.jsonl", env=stack.env | env, cwd=tmp_path).returncode == 0

    load("history-unsigned")
    assert stack.wait_for_refusal("history-unsigned")[0] == "unauthenticated"
    load("history-signed", DEPLOYTRAIL_RELAY_TOKEN=stack.relay)
    found = stack.wait_for_event("history-signed")

    assert (found["reporter"], found["received_at"]) == ("backfill", at)


def test_what_is_set_aside_does_not_stop_the_ticks(stack: Stack) -> None:
    put(stack, event("last-good", environment="test"))
    stack.wait_for_event("last-good")
    put(stack, event("last-bad"))
    stack.wait_for_refusal("last-bad")
    refused_at = time.time_ns() // 1000

    def ticks() -> list[int]:
        decoded = (decode(m.value()) for m in read_topic(stack.kafka, Topic.EVENTS) if m.partition() == EU)
        return [v["at"] for k, v in decoded if k is RecordType.TICK]

    wait_for(lambda: max(ticks()) > refused_at, what="a tick after what was set aside")

    assert stack.events("last-bad") == []


def test_a_cut_token_keeps_the_event_and_says_so_once(stack: Stack, tmp_path: Path) -> None:
    token = add_token(stack.tokens)
    done = command("start", env=producer(stack, tmp_path, DEPLOYTRAIL_TOKEN=token[:-1]))
    again = command("start", "--deployment-id", "after-mending", env=producer(stack, tmp_path, DEPLOYTRAIL_TOKEN=token))

    assert (done.returncode, again.returncode) == (0, 0)
    assert "DEPLOYTRAIL_TOKEN is no token" in done.stderr
    assert token[17:50] not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert stack.wait_for_event(done.stdout.strip())["reporter"] == f"dtk_{read_token(token).id}"


@pytest.mark.requirement("M2.6")
def test_nobody_touches_a_deployment_beyond_his_scope_not_by_its_id_either(stack: Stack, tmp_path: Path) -> None:
    payments, toy = add_token(stack.tokens), add_token(stack.tokens, team="play", services=("toy",))
    port = ports.free_port()
    put(stack, event("pay-412"), payments)
    stack.wait_for_event("pay-412")
    put(stack, event("pay-412", event_type="voided", service="toy"), toy)
    env = stack.env | {"DEPLOYTRAIL_GATEWAY_PORT": str(port), "DEPLOYTRAIL_RELAY_TOKEN": stack.relay}
    with running("gateway", env=env, cwd=tmp_path):
        undone = event("toy-1", event_type="succeeded", service="toy", kind="rollback", rollback_of="pay-412")
        failed = event("pay-412", event_type="failed", service="toy")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/events",
            json=[failed, undone],
            headers={"Authorization": f"Bearer {toy}"},
            timeout=60,
        )
        assert answer.status_code == 202, answer.text
    stack.wait_for_event("toy-1")
    beside = stack.events("pay-412@toy")

    assert [e["event_type"] for e in stack.events("pay-412")] == ["started"]
    assert [(e["event_type"], e["tags"]["claimed_deployment_id"]) for e in beside] == [
        ("voided", "pay-412"),
        ("failed", "pay-412"),
    ]
    (rollback,) = stack.events("toy-1")
    assert (rollback["rollback_of"], rollback["tags"]["claimed_rollback_of"]) == ("", "pay-412")


@pytest.mark.requirement("M2.6", "M8.3")
def test_nobody_takes_the_id_of_anothers_event_first_nor_moves_anothers_clock(stack: Stack) -> None:
    payments, toy = add_token(stack.tokens), add_token(stack.tokens, team="play", services=("toy",))
    genuine = event("pay-413", producer_id="host-413")
    hour_ahead = str(genuine["occurred_at"] + 3_600_000_000)
    put(stack, genuine | {"deployment_id": "toy-413", "service": "toy"}, toy, sent_at=hour_ahead)
    for _ in range(2):  # its own repeat is one still
        put(stack, genuine, payments, sent_at=str(genuine["occurred_at"]))
    put(stack, event("pay-414"), payments)
    stack.wait_for_event("pay-414")
    (taken,), (found,) = stack.events("toy-413"), stack.events("pay-413")

    assert taken["event_id"] == genuine["event_id"] != found["event_id"]
    assert found["corrected_at"] == genuine["occurred_at"]
