"""The gate on a real Kafka: a permit for what is registered and approved, the reasons for everything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deploytrail_processors import zones
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.reasons import PermitRefusal as No
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.gate import (
    AUDIENCE,
    DIGEST,
    ISSUER,
    OTHER_DIGEST,
    Gate,
    approved,
    call,
    make_key,
    now,
    prepare,
    question,
    registered,
    settings,
    step,
    url_of,
)
from support.kafka import read_topic, wait_for, write

SECOND = 1_000_000


@pytest.fixture(scope="module")
def gate(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One worker with intake and gate on a Kafka of their own."""
    folder = tmp_path_factory.mktemp("gate")
    prepare(own_kafka, folder)
    env = settings(own_kafka, folder)
    with running("processor", "intake", "gate", "approval", env=env, cwd=folder) as command:
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


@pytest.mark.requirement("M2.6", "M5.4")
def test_a_refusal_stands_on_the_trail_once_with_its_reasons_and_hinders_nothing(gate: Gate) -> None:
    for _ in range(4):
        assert gate.ask("hasty", deployer="dora").reasons == ["unregistered", "no_approval"]
    gate.report(registered("hasty"))
    assert [gate.ask("hasty").reasons for _ in range(2)] == [["no_approval"]] * 2
    gate.report(approved("hasty"))
    assert gate.ask("hasty").status == 200

    found = [one for one in gate.approvals("permit_refused") if one["deployment_id"] == "hasty"]
    assert [one["tags"]["reasons"] for one in found] == ["unregistered,no_approval", "no_approval"]
    assert {(one["artifact_digest"], one["service"], one["reporter"]) for one in found} == {
        (DIGEST, "checkout", "gate")
    }
    assert found[0]["tags"]["asked_by"] == "anonymous"
    assert "no_approval: nobody has approved hasty" in found[0]["justification"]
    findings = [decode(m.value() or b"")[1] for m in read_topic(gate.kafka, Topic.FINDINGS)]
    assert [one for one in findings if one["deployment_id"] == "hasty"] == []


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
    assert closed["tzdata"] == zones.VERSION
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


@pytest.mark.requirement("M5.3", "M5.4")
def test_from_register_to_deploy_by_commands_alone(gate: Gate, tmp_path: Path) -> None:
    env = {
        "DEPLOYTRAIL_URL": f"kafka://{gate.kafka}",
        "DEPLOYTRAIL_SPOOL": str(tmp_path / "spool"),
        "DEPLOYTRAIL_GATE_URL": gate.url,
        "DEPLOYTRAIL_PERMIT_ISSUER": ISSUER,
        "DEPLOYTRAIL_PERMIT_AUDIENCE": AUDIENCE,
        "DEPLOYTRAIL_SERVICE": "checkout",
        "DEPLOYTRAIL_ENVIRONMENT": "production",
        "DEPLOYTRAIL_REGION": "eu-west-1",
    }
    about = ("--artifact-digest", DIGEST)
    said = run(
        "register", *about, "--change-ticket", "CHG77", "--deployer", "dora", "--wait", "20", env=env, cwd=tmp_path
    )
    env["DEPLOYTRAIL_DEPLOYMENT_ID"] = said.stdout.strip()
    early = run("require-permit", *about, env=env, cwd=tmp_path)
    gate.report(approved("", change_ticket="CHG77"))
    given = run("require-permit", *about, env=env, cwd=tmp_path)
    env["DEPLOYTRAIL_PERMIT"] = given.stdout.strip()
    keys = {"DEPLOYTRAIL_PERMIT_KEYS": f"{gate.url}/v1/keys"}
    verified = run("verify-permit", *about, env=env | keys, cwd=tmp_path)
    other = run("require-permit", "--artifact-digest", OTHER_DIGEST, env=env, cwd=tmp_path)

    assert (early.returncode, early.stdout) == (77, "")
    assert f"no_approval: nobody has approved {env['DEPLOYTRAIL_DEPLOYMENT_ID']} (CHG77)" in early.stderr
    assert (given.returncode, verified.returncode) == (0, 0), given.stderr + verified.stderr
    assert other.returncode == 77
    assert "registered_for_other_artifact" in other.stderr


def started(deployment_id: str, at: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": uuid7(),
        "event_type": "started",
        "deployment_id": deployment_id,
        "occurred_at": at,
        "service": "checkout",
        "environment": "production",
        "region": "eu-west-1",
        "producer_id": "test",
        "source": "library",  # as what is registered: two ids of one source are two deployments
        "artifact_digest": DIGEST,
        "deployer": "dora",
    } | fields


def begin(gate: Gate, *events: dict[str, Any]) -> None:
    write(gate.kafka, Topic.INTAKE, [(1, b"test", encode(RecordType.DEPLOYMENT_EVENT, e)) for e in events])


def findings(gate: Gate, deployment_id: str) -> list[tuple[str, str, str]]:
    """Rule, verdict and reason of every finding of a deployment, each once."""
    decoded = (decode(m.value() or b"")[1] for m in read_topic(gate.kafka, Topic.FINDINGS))
    mine = {f["finding_id"]: f for f in decoded if f["deployment_id"] == deployment_id}
    return [(f["rule"], f["verdict"], f["reason"]) for f in mine.values()]


@pytest.mark.requirement("M5.4")
def test_what_began_without_registration_is_found_within_a_minute(gate: Gate) -> None:
    at = now()
    begin(gate, started("silent", at))
    wait_for(lambda: len(findings(gate, "silent")) == 2, what="the findings")

    assert findings(gate, "silent") == [
        ("unregistered_deployment", "violation", "unregistered"),
        ("missing_approval", "violation", "no_approval"),
    ]
    written = [m for m in read_topic(gate.kafka, Topic.FINDINGS) if b"silent" in (m.value() or b"")]
    assert max(m.timestamp()[1] * 1000 for m in written) - at < 60 * SECOND


@pytest.mark.requirement("M5.3", "M5.4")
def test_late_approvals_and_misused_permits_are_findings_that_say_so(gate: Gate) -> None:
    gate.report(registered("late", occurred_at=now() - 90 * SECOND))
    begin(gate, started("late", now() - 60 * SECOND))
    wait_for(lambda: bool(findings(gate, "late")), what="the first finding")
    gate.report(approved("late"))
    wait_for(lambda: len(findings(gate, "late")) > 1, what="the finding that supersedes it")

    assert findings(gate, "late") == [
        ("missing_approval", "violation", "no_approval"),
        ("missing_approval", "violation", "late_approval"),
    ]
    gate.report(registered("misused"), approved("misused"))
    assert gate.ask("misused").status == 200
    [told] = [a for a in gate.approvals("permit_issued") if a["deployment_id"] == "misused"]
    tags = {"permit_id": told["tags"]["permit_id"], "cluster": "blue", "workload": "Deployment/checkout"}
    use = step("permit_used", "misused", artifact_digest=DIGEST, tags=tags)
    gate.report(use, use | {"approval_id": uuid7(), "tags": tags | {"cluster": "green"}})
    wait_for(lambda: bool(findings(gate, "misused")), what="the finding")

    assert findings(gate, "misused") == [("permit_misuse", "violation", "permit_used_elsewhere")]
