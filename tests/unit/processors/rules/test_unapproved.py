"""What began without registration, approval or permit is found, and found late where it came late."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle, unapproved
from deploytrail_processors.rules.approval_steps import keep
from deploytrail_processors.rules.findings import in_place_of
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from support.values import MINUTE, NOON, SECOND, approval, event

DIGEST, OTHER = "sha256:" + "1b" * 32, "sha256:" + "2c" * 32
PERMIT_POLICY = [{"kind": "approval", "name": "production", "spec": {"permit": True}}]


def content(*events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual = {"artifact_digest": DIGEST, "deployer": "dora", "kind": "release"}
    facts = lifecycle.new_facts("shop-1")
    for each in events or (event("started", **{**usual, **fields}),):
        facts = lifecycle.add(facts, each)
    return lifecycle.derive(facts, 0, None)


def registered(at: int = NOON - 60 * MINUTE, **fields: Any) -> dict[str, Any]:
    usual = {"artifact_digest": DIGEST, "change_ticket": "CHG1", "tags": {"deployer": "dora"}}
    return approval("registered", at, **(usual | fields))


def approved(at: int = NOON - 30 * MINUTE, **fields: Any) -> dict[str, Any]:
    return approval("approved", at, **({"approver": "ada"} | fields))


def issued(at: int = NOON - MINUTE, permit_id: str = "p1", **fields: Any) -> dict[str, Any]:
    usual = {"artifact_digest": DIGEST, "valid_until": at + 15 * MINUTE, "source": "gate"}
    return approval("permit_issued", at, tags={"permit_id": permit_id}, **(usual | fields))


def used(at: int = NOON, permit_id: str = "p1", workload: str = "Deployment/shop", **fields: Any) -> dict[str, Any]:
    tags = {"permit_id": permit_id, "cluster": fields.pop("cluster", "blue"), "workload": workload}
    usual = {"artifact_digest": DIGEST, "approval_id": f"{at}/{permit_id}/{tags}/{fields}"}
    return approval("permit_used", at, tags=tags, **(usual | fields))


def start(*steps: dict[str, Any], policies: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, list[str]]:
    in_force = PolicySet().with_documents(read_document(d) for d in policies or [])
    found, _ = unapproved.against_start(content(**fields), [keep(s) for s in steps], in_force.at)
    return {rule: [p.reason.value for p in problems] for rule, problems in found.items() if problems}


def use(*steps: dict[str, Any], shown: tuple[str, ...] = ()) -> list[str]:
    return [p.reason.value for p in unapproved.against_permits("shop-1", [keep(s) for s in steps], shown)]


@pytest.mark.requirement("M5.3", "M5.4")
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([registered(), approved()], {}),
        ([], {"unregistered_deployment": ["unregistered"], "missing_approval": ["no_approval"]}),
        ([registered()], {"missing_approval": ["no_approval"]}),
        ([registered(NOON + MINUTE), approved(NOON + 2 * MINUTE)],
         {"unregistered_deployment": ["late_registration"],
          "missing_approval": ["late_approval", "not_enough_approvals"]}),
        ([registered(artifact_digest=OTHER), approved(artifact_digest=DIGEST)],
         {"unregistered_deployment": ["registered_for_other_artifact"]}),
        ([registered(valid_until=NOON - MINUTE), approved()],
         {"unregistered_deployment": ["registered_for_other_time"]}),
        ([registered(valid_from=NOON + MINUTE), approved()],
         {"unregistered_deployment": ["registered_for_other_time"]}),
        ([registered(valid_from=NOON - MINUTE, valid_until=NOON + MINUTE), approved()], {}),
        ([registered(), approved(uncertainty_ms=5_000, at=NOON - SECOND)],
         {"missing_approval": ["approval_time_within_uncertainty"]}),
    ],
)  # fmt: skip
def test_what_speaks_against_a_start(steps: list[dict[str, Any]], expected: dict[str, list[str]]) -> None:
    assert start(*steps) == expected


def test_other_environments_and_voided_deployments_need_nothing() -> None:
    voided = content(event("started"), event("voided", NOON + SECOND))

    assert start(environment="staging") == {}
    assert not any(unapproved.against_start(voided, [], PolicySet().at)[0].values())


@pytest.mark.requirement("M5.4")
def test_a_permit_is_needed_where_policy_says_so() -> None:
    good = [registered(), approved()]

    assert start(*good, policies=PERMIT_POLICY) == {"permit_misuse": ["no_permit"]}
    assert start(*good, issued(NOON + MINUTE), policies=PERMIT_POLICY) == {"permit_misuse": ["no_permit"]}
    assert start(*good, issued(), policies=PERMIT_POLICY) == {}


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("steps", "shown", "expected"),
    [
        ([issued(), used()], ("p1",), []),
        ([issued(), used(), used()], (), []),  # one use that is told twice
        ([issued(), used(), used(workload="Deployment/worker")], (), []),
        ([issued(), used(), used(NOON + SECOND)], (), ["permit_used_twice"]),
        ([issued(), used(), used(cluster="green")], (), ["permit_used_elsewhere"]),
        ([issued(), used(region="us-east-1")], (), ["permit_used_elsewhere"]),
        ([issued(), used(environment="staging")], (), ["permit_used_elsewhere"]),
        ([issued(), used(artifact_digest=OTHER)], (), ["permit_used_for_other_artifact"]),
        ([issued(), used(NOON + 15 * MINUTE)], (), ["permit_used_late"]),
        ([issued(), used(NOON + 14 * MINUTE + 20 * SECOND)], (), []),  # within the leeway of clocks
        ([issued(), used(NOON + 15 * MINUTE, uncertainty_ms=60_000)], (), []),
        ([used()], (), ["permit_unknown"]),
        ([issued()], ("forged",), ["permit_unknown"]),
        ([issued(), issued(NOON, "p2"), used(NOON, "p2")], (), []),
    ],
)
def test_what_speaks_against_the_use_of_permits(
    steps: list[dict[str, Any]], shown: tuple[str, ...], expected: list[str]
) -> None:
    assert use(*steps, shown=shown) == expected


@pytest.mark.requirement("M5.4")
def test_a_finding_is_superseded_by_what_arrives_later() -> None:
    made: list[dict[str, Any]] = []
    for steps in ([], [registered(NOON + MINUTE)], [registered()]):
        found, documents = unapproved.against_start(content(version="4.2.0"), [keep(s) for s in steps], PolicySet().at)
        standing = made[-1] if made else None
        one = unapproved.to_finding(
            "unregistered_deployment", content(version="4.2.0"), found["unregistered_deployment"], documents, standing,
            production=True,
        )  # fmt: skip
        assert one is not None
        encode(RecordType.FINDING, one)
        made.append(in_place_of(standing, one))

    assert [(f["verdict"], f["reason"], f["severity"]) for f in made] == [
        ("violation", "unregistered", "error"),
        ("violation", "late_registration", "error"),
        ("ok", "registered", "info"),
    ]
    assert [f.get("supersedes") for f in made] == [None, made[0]["finding_id"], made[1]["finding_id"]]
    assert made[0]["explanation"].startswith("shop 4.2.0 started without a registration that fits: the deployment")


def test_nothing_is_said_of_what_is_in_order() -> None:
    assert unapproved.to_finding("missing_approval", content(), [], (), None, production=True) is None


def test_a_start_is_judged_half_a_minute_later() -> None:
    assert unapproved.due(content()) == NOON + 30 * SECOND
    assert unapproved.due(content(event("registered"))) is None


def ended(kind: str, *steps: dict[str, Any], **fields: Any) -> dict[str, list[tuple[str, bool]]]:
    """What speaks against a deployment of which only its end, at noon, is known; and whether for certain."""
    whole = content(event(kind, artifact_digest=DIGEST, deployer="dora", **fields))
    found, _ = unapproved.against_start(whole, [keep(s) for s in steps], PolicySet().at)
    return {rule: [(p.reason.value, p.certain) for p in problems] for rule, problems in found.items() if problems}


@pytest.mark.requirement("M5.3", "M5.4")
def test_who_reports_only_the_end_evades_nothing() -> None:
    assert ended("succeeded") == {
        "unregistered_deployment": [("unregistered", True)],
        "missing_approval": [("no_approval", True)],
    }
    assert ended("succeeded", registered(), approved()) == {}
    assert ended("succeeded", registered(), approved(approver="dora")) == {
        "missing_approval": [("self_approval", True), ("not_enough_approvals", True)]
    }
    assert unapproved.due(content(event("succeeded"))) == NOON + 30 * SECOND


@pytest.mark.requirement("M5.3")
def test_what_had_ended_by_the_end_may_have_held_at_a_start_that_nobody_reports() -> None:
    assert ended("succeeded", registered(), approved(valid_until=NOON - MINUTE)) == {
        "missing_approval": [("approval_expired", False), ("not_enough_approvals", False)]
    }


@pytest.mark.parametrize("kind", ["cancelled", "failed", "rolled_back"])
def test_what_failed_or_was_cancelled_before_anybody_saw_it_start_may_never_have(kind: str) -> None:
    assert ended(kind) == {}
    assert unapproved.due(content(event(kind))) is None


def test_of_an_end_alone_it_is_not_said_that_it_started() -> None:
    whole = content(event("succeeded"))
    found, documents = unapproved.against_start(whole, [], PolicySet().at)
    rule = unapproved.UNAPPROVED
    made = unapproved.to_finding(rule, whole, found[rule], documents, None, production=True)

    assert made is not None
    assert "was deployed without the approvals that it needs" in made["explanation"]
    assert made["occurred_at"] == NOON
