"""Gates of tests: their settings and keys, what is reported to the trail, and what is asked."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_local import ports
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.permits import Authority, Subject, read_keys, verify_permit
from deploytrail_schemas.reasons import PermitRefusal
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic

from support.commands import run
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
        with urllib.request.urlopen(request, timeout=30) as answer:
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
        with urllib.request.urlopen(f"{self.url}/v1/keys", timeout=30) as answer:
            data: bytes = answer.read()
        return data

    def verify(self, text: str, deployment_id: str, **subject: Any) -> tuple[PermitRefusal, ...]:
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
