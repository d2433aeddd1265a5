"""The gate on a real Kafka: a permit for what is registered and approved, the reasons for everything else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_local import ports
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.permits import Authority, Subject, read_keys, verify_permit
from deploytrail_schemas.reasons import PermitRefusal as No
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.kafka import make_topics, read_topic, wait_for, write

ISSUER, AUDIENCE = "https://gate.example", "deploytrail"
DIGEST, OTHER_DIGEST = "sha256:" + "1b" * 32, "sha256:" + "2c" * 32
REGIONS = {"eu-west-1": 1, "us-east-1": 3}
POLICIES = """\
kind: change_window
name: closed
effective_from: 2020-01-01T00:00:00Z
spec:
  effect: allow
  zone: UTC
  start: 2020-02-29T00:00
  duration_minutes: 60
  rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29
  scope: {services: [closed]}
---
kind: approval
name: two
effective_from: 2020-01-01T00:00:00Z
spec:
  count: 2
  scope: {services: [two]}
---
kind: service
name: checkout
effective_from: 2020-01-01T00:00:00Z
spec: {team: payments, aliases: [checkout-svc]}
"""


@dataclass(frozen=True)
class Answer:
    """What the gate answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def reasons(self) -> list[str]:
        return [reason["reason"] for reason in self.body.get("reasons", [])]


def now() -> int:
    return time.time_ns() // 1000


def call(url: str, body: dict[str, Any] | bytes | None = None, **headers: str) -> Answer:
    """One request; POST where there is a body. Connection failures are status 0."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return Answer(answer.status, json.loads(answer.read()), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read()), dict(error.headers))
    except OSError:
        return Answer(0, {}, {})


def make_key(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = folder / f"{name}.new"
    fresh.touch(0o600)
    fresh.write_bytes(pem)
    fresh.rename(folder / f"{name}.pem")


def settings(kafka: str, folder: Path, name: str = "one") -> dict[str, str]:
    """The environment of one gate worker."""
    return {
        "DEPLOYTRAIL_KAFKA": kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(folder / f"state-{name}"),
        "DEPLOYTRAIL_GATE_PORT": str(ports.free_port()),
        "DEPLOYTRAIL_GATE_KEYS": str(folder / "keys"),
        "DEPLOYTRAIL_PERMIT_ISSUER": ISSUER,
        "DEPLOYTRAIL_PERMIT_AUDIENCE": AUDIENCE,
    }


def url_of(env: dict[str, str]) -> str:
    return f"http://127.0.0.1:{env['DEPLOYTRAIL_GATE_PORT']}"


def prepare(kafka: str, folder: Path) -> None:
    make_topics(kafka)
    make_key(folder / "keys", "2026-01")
    (folder / "policies.yaml").write_text(POLICIES)
    applied = run("policy", "apply", "policies.yaml", env={"DEPLOYTRAIL_KAFKA": kafka}, cwd=folder)
    assert applied.returncode == 0, applied.stderr


@dataclass(frozen=True)
class Gate:
    """A gate that runs."""

    kafka: str
    url: str
    folder: Path

    def report(self, *steps: dict[str, Any]) -> None:
        """Report approvals, and return once the trail has them."""
        for step in steps:
            partition = REGIONS.get(step["region"], 0)
            write(self.kafka, Topic.INTAKE, [(partition, b"test", encode(RecordType.APPROVAL, step))])
        ids = {step["approval_id"] for step in steps}
        wait_for(lambda: ids <= {value["approval_id"] for value in self.approvals()}, what="the approvals on the trail")

    def approvals(self, kind: str = "") -> list[dict[str, Any]]:
        found = (decode(m.value() or b"") for m in read_topic(self.kafka, Topic.EVENTS))
        return [v for k, v in found if k is RecordType.APPROVAL and v["approval_type"] == (kind or v["approval_type"])]

    def ask(self, deployment_id: str, **fields: Any) -> Answer:
        return call(f"{self.url}/v1/permits", question(deployment_id, **fields))

    def jwks(self) -> bytes:
        with urllib.request.urlopen(f"{self.url}/v1/keys", timeout=15) as answer:
            data: bytes = answer.read()
        return data

    def verify(self, text: str, deployment_id: str, **subject: Any) -> tuple[No, ...]:
        usual = Subject(DIGEST, "checkout", "production", "eu-west-1", deployment_id)
        authority = Authority(read_keys(self.jwks(), "keys"), ISSUER, AUDIENCE)
        return verify_permit(text, replace(usual, **subject), authority, now=time.time()).reasons


def question(deployment_id: str, **fields: Any) -> dict[str, Any]:
    place = {"service": "checkout", "environment": "production", "region": "eu-west-1"}
    return {"deployment_id": deployment_id, **place, "artifact_digest": DIGEST, **fields}


def step(approval_type: str, deployment_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "approval_id": uuid7(),
        "approval_type": approval_type,
        "deployment_id": deployment_id,
        "occurred_at": now(),
        "service": "checkout",
        "environment": "production",
        "region": "eu-west-1",
        "producer_id": "test",
        "source": "test",
    } | fields


def registered(deployment_id: str, **fields: Any) -> dict[str, Any]:
    usual = {"artifact_digest": DIGEST, "change_ticket": f"CHG-{deployment_id}", "tags": {"deployer": "dora"}}
    return step("registered", deployment_id, **(usual | fields))


def approved(deployment_id: str, who: str = "ada", **fields: Any) -> dict[str, Any]:
    return step("approved", deployment_id, approver=who, **fields)


@pytest.fixture(scope="module")
def gate(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One worker with intake and gate on a Kafka of their own."""
    folder = tmp_path_factory.mktemp("gate")
    prepare(own_kafka, folder)
    env = settings(own_kafka, folder)
    with running("processor", "intake", "gate", env=env, cwd=folder) as command:
        found = Gate(own_kafka, url_of(env), folder)
        wait_for(lambda: found.ask("nobody").status == 403, what="the gate's first answer")
        yield found
        assert command.stop() == 0


@pytest.mark.requirement("M5.3", "M5.4")
def test_what_is_registered_and_approved_gets_a_permit_that_verifies(gate: Gate) -> None:
    gate.report(registered("good"), approved("good"))
    answer = gate.ask("good", service="Checkout-SVC", environment="PROD")

    assert (answer.status, answer.body["verdict"], answer.body["approvers"]) == (200, "allowed", ["ada"])
    assert gate.verify(answer.body["permit"], "good") == ()
    [told] = [a for a in gate.approvals("permit_issued") if a["deployment_id"] == "good"]
    assert (told["artifact_digest"], told["change_ticket"], told["tags"]["kid"]) == (DIGEST, "CHG-good", "2026-01")
    assert 0 < told["valid_until"] - told["valid_from"] <= 900_000_000


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ({"artifact_digest": OTHER_DIGEST}, No.OTHER_ARTIFACT),
        ({"environment": "staging"}, No.OTHER_ENVIRONMENT),
        ({"region": "us-east-1"}, No.OTHER_REGION),
        ({"service": "cart"}, No.OTHER_SERVICE),
        ({"deployment_id": "another"}, No.OTHER_DEPLOYMENT),
    ],
)
def test_a_permit_of_the_gate_holds_for_nothing_else(gate: Gate, subject: dict[str, str], reason: No) -> None:
    gate.report(registered("bound"), approved("bound"))

    assert gate.verify(gate.ask("bound").body["permit"], **{"deployment_id": "bound"} | subject) == (reason,)


@pytest.mark.requirement("M5.3", "M5.4")
@pytest.mark.parametrize(
    ("steps", "asked", "expected"),
    [
        ([], {}, ["unregistered", "no_approval"]),
        ([registered], {}, ["no_approval"]),
        ([approved], {}, ["unregistered", "approval_not_bound", "not_enough_approvals"]),
        ([registered, lambda i: approved(i, "dora")], {}, ["self_approval", "not_enough_approvals"]),
        ([registered, approved], {"artifact_digest": OTHER_DIGEST},
         ["registered_for_other_artifact", "approved_other_artifact", "not_enough_approvals"]),
        ([registered, approved], {"service": "cart"}, ["registered_for_other_place", "no_approval"]),
        ([registered, approved], {"deployer": "ada"}, ["self_approval", "not_enough_approvals"]),
        ([registered, approved, lambda i: step("revoked", i, approver="ada")], {},
         ["approval_revoked", "not_enough_approvals"]),
        ([registered, approved, lambda i: step("rejected", i, approver="bob")], {}, ["rejected"]),
        ([registered, lambda i: approved(i, valid_until=now())], {}, ["approval_expired", "not_enough_approvals"]),
        ([lambda i: registered(i, service="closed"), lambda i: approved(i, service="closed")], {"service": "closed"},
         ["outside_allowed_windows"]),
        ([lambda i: registered(i, service="two"), lambda i: approved(i, service="two")], {"service": "two"},
         ["not_enough_approvals"]),
    ],
)  # fmt: skip
def test_a_refusal_names_every_reason(
    gate: Gate, steps: list[Callable[[str], dict[str, Any]]], asked: dict[str, str], expected: list[str]
) -> None:
    deployment_id = uuid7()
    gate.report(*(make(deployment_id) for make in steps))
    answer = gate.ask(deployment_id, **asked)

    assert (answer.status, answer.body["verdict"], answer.reasons) == (403, "refused", expected)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "permit" not in answer.body


@pytest.mark.requirement("M5.3")
def test_an_approval_of_the_ticket_counts(gate: Gate) -> None:
    gate.report(registered("ticket"), approved("", change_ticket="CHG-ticket"))

    assert gate.ask("ticket").status == 200


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 422, "expected an object"),
        (b'{"service": "a", "service": "b"}', 400, "no JSON"),
        ({"service": "checkout"}, 422, "deployment_id is missing"),
        (question("x", artifact_digest=5), 422, "artifact_digest is no text"),
        (question("x", colour="red"), 422, "colour is no field here"),
    ],
)
def test_a_question_that_is_none_is_said_so(gate: Gate, body: Any, status: int, detail: str) -> None:
    answer = call(f"{gate.url}/v1/permits", body)

    assert answer.status == status
    assert detail in answer.body["detail"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Origin"])
def test_behind_a_proxy_or_a_page_nobody_is_local(gate: Gate, header: str) -> None:
    assert call(f"{gate.url}/v1/permits", question("x"), **{header: "https://elsewhere.example"}).status == 401


@pytest.mark.requirement("M4.2", "M5.4")
def test_windows_say_when_a_service_may_change(gate: Gate) -> None:
    at = "environment=production&region=eu-west-1&at=2027-01-01T00:00:00Z"
    closed = call(f"{gate.url}/v1/windows?service=closed&{at}").body
    free = call(f"{gate.url}/v1/windows?service=checkout").body

    assert (closed["position"], closed["reason"]) == ("outside", "outside_allowed_windows")
    assert free["reason"] == "no_window_applies"
    assert call(f"{gate.url}/v1/windows").status == 400
    assert call(f"{gate.url}/v1/windows?service=a&at=now").status == 400


@pytest.mark.requirement("M5.4")
def test_keys_rotate_and_old_permits_hold_until_their_key_is_gone(gate: Gate) -> None:
    gate.report(registered("rotated"), approved("rotated"))
    before = gate.ask("rotated").body["permit"]
    make_key(gate.folder / "keys", "2026-02")
    after = gate.ask("rotated").body["permit"]

    assert [key["kid"] for key in json.loads(gate.jwks())["keys"]] == ["2026-01", "2026-02"]
    assert (gate.verify(before, "rotated"), gate.verify(after, "rotated")) == ((), ())
    (gate.folder / "keys" / "2026-01.pem").unlink()
    assert gate.verify(before, "rotated") == (No.UNKNOWN_KEY,)
    assert gate.verify(after, "rotated") == ()
    make_key(gate.folder / "keys", "2026-01")
    assert b'"d"' not in gate.jwks()
