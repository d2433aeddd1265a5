"""Required fields and regimes: what is missing is a finding, until it is found; nothing is dropped."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.rules import requirements
from deploytrail_processors.rules.findings import Finding
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_processors.rules.requirements import State
from support.values import MINUTE, NOON, approval, event

TICKETED = {
    "kind": "required_fields",
    "name": "business",
    "spec": {
        "fields": ["feature_ticket", "sprint"],
        "tags": ["cost_centre"],
        "heal": {"sprint": ["feature_ticket"]},
        "scope": {"environments": ["production"]},
    },
}
SOX = {
    "kind": "regime",
    "name": "sox",
    "spec": {"fields": ["change_ticket"], "controls": ["registered", "approved", "authenticated_reporter"]},
}
COMPLETE = {"feature_ticket": "SHOP-1", "sprint": "S9", "tags": {"cost_centre": "4711"}}


def policies(*documents: dict[str, Any]) -> Policies:
    return Policies(tuple(map(read_document, documents)))


def service(**spec: Any) -> dict[str, Any]:
    return {"kind": "service", "name": "shop", "spec": spec}


def state_of(*records: dict[str, Any]) -> State:
    state = requirements.new_state("shop-1")
    for record in records:
        learn = requirements.with_event if "event_id" in record else requirements.with_approval
        state = learn(state, record)
    return state


def judged(
    in_force: Policies, *records: dict[str, Any], known: Any = None, standing: dict[str, Finding] | None = None
) -> dict[str, Finding]:
    """Rule and policy → the finding that stands."""
    state = state_of(*records)
    approved = any(record.get("approval_type") == "approved" for record in records)
    found = {
        f"{asked.rule}/{asked.name}": requirements.judge(
            state, asked, known or {}, (standing or {}).get(f"{asked.rule}/{asked.name}"), approved=approved
        )
        for asked in requirements.asked_of(state, in_force)
    }
    return {name: one for name, one in found.items() if one is not None}


@pytest.mark.requirement("M3.6")
def test_a_deployment_without_its_tags_is_quarantined_and_named() -> None:
    [found] = judged(policies(TICKETED), event("started", feature_ticket="SHOP-1")).values()

    assert (found["rule"], found["verdict"], found["reason"]) == ("required_fields", "violation", "fields_missing")
    assert found["evidence"] == {
        "policy": "business",
        "missing": "sprint, tags.cost_centre",
        "quarantined": "true",
        "since": "2026-11-02T12:00:00+00:00",
    }
    assert found["policy_version"] == "required_fields/business/1"
    assert found["explanation"] == (
        "deployment shop-1 of shop lacks sprint, tags.cost_centre, which required_fields business asks for"
    )


def test_one_that_has_everything_is_not_spoken_of() -> None:
    assert judged(policies(TICKETED), event("started", **COMPLETE)) == {}


def test_one_outside_the_scope_is_not_asked() -> None:
    assert judged(policies(TICKETED), event("started", environment="test")) == {}


@pytest.mark.requirement("M3.6")
def test_an_amendment_heals_it() -> None:
    bare, amended = event("started"), event("amended", NOON + MINUTE, **COMPLETE)
    before = judged(policies(TICKETED), bare)
    [after] = judged(policies(TICKETED), bare, amended, standing=before).values()

    assert (after["verdict"], after["reason"]) == ("ok", "healed")
    assert after["supersedes"] == before["required_fields/business"]["finding_id"]
    assert after["evidence"]["quarantined"] == "false"
    # Once healed it stays as it was said.
    again = judged(policies(TICKETED), bare, amended, standing={"required_fields/business": after})
    assert again == {"required_fields/business": after}


@pytest.mark.requirement("M3.6")
def test_another_record_of_the_ticket_heals_its_sprint() -> None:
    bare = event("started", feature_ticket="SHOP-1", tags={"cost_centre": "4711"})
    before = judged(policies(TICKETED), bare)
    told = event("started", deployment_id="cart-7", service="cart", feature_ticket="SHOP-1", sprint="S9")
    [(ticket, number, values)] = requirements.told_of_tickets(told, policies(TICKETED))
    [after] = judged(policies(TICKETED), bare, known={(ticket, number): values}, standing=before).values()

    assert (ticket, number, values) == ("feature_ticket", "SHOP-1", {"sprint": "S9"})
    assert after["reason"] == "healed"
    assert list(requirements.told_of_tickets(bare, policies(TICKETED))) == []


def test_what_is_healed_in_part_is_superseded_by_what_is_left() -> None:
    first = judged(policies(TICKETED), event("started"))
    second = judged(policies(TICKETED), event("started"), event("amended", NOON + MINUTE, sprint="S9"), standing=first)[
        "required_fields/business"
    ]

    assert second["evidence"]["missing"] == "feature_ticket, tags.cost_centre"
    assert second["supersedes"] == first["required_fields/business"]["finding_id"]


def test_a_voided_deployment_owes_nothing() -> None:
    before = judged(policies(TICKETED), event("started"))
    [after] = judged(policies(TICKETED), event("started"), event("voided", NOON + MINUTE), standing=before).values()

    assert after["verdict"] == "ok"


@pytest.mark.requirement("M1.5")
@pytest.mark.parametrize(
    ("records", "reason", "missing"),
    [
        ([event("started", reporter="ci")], "fields_and_controls_missing", "change_ticket, registered, approved"),
        (
            [event("registered", reporter="ci", change_ticket="CHG-1"), approval("approved", deployment_id="shop-1")],
            None,
            "",
        ),
        (
            [event("registered", reporter="ci"), approval("approved", deployment_id="shop-1", change_ticket="CHG-1")],
            None,
            "",  # an approval may tell the ticket
        ),
        (
            [event("registered", reporter="ci", change_ticket="CHG-1"), approval("requested", deployment_id="shop-1")],
            "controls_missing",
            "approved",
        ),
        (
            # One report by nobody is a gap, whatever else was reported: every event is checked.
            [
                event("registered", reporter="ci", change_ticket="CHG-1"),
                event("started", NOON + MINUTE, reporter=""),
                approval("approved", deployment_id="shop-1"),
            ],
            "controls_missing",
            "authenticated_reporter",
        ),
    ],
)
def test_a_regimes_fields_and_controls_are_checked(
    records: list[dict[str, Any]], reason: str | None, missing: str
) -> None:
    found = judged(policies(SOX, service(regimes=["sox"])), *records)

    assert [one["reason"] for one in found.values()] == ([reason] if reason else [])
    if reason:
        assert found["regime/sox"]["evidence"]["missing"] == missing
        assert found["regime/sox"]["severity"] == "error"


@pytest.mark.requirement("M1.5")
def test_each_regime_has_its_own_gaps_and_only_for_its_services() -> None:
    hipaa = {"kind": "regime", "name": "hipaa", "spec": {"fields": ["justification"]}}
    both = judged(policies(SOX, hipaa, service(regimes=["sox", "hipaa"])), event("started", change_ticket="CHG-1"))

    assert {name: one["evidence"]["missing"] for name, one in both.items()} == {
        "regime/sox": "registered, approved, authenticated_reporter",
        "regime/hipaa": "justification",
    }
    assert judged(policies(SOX, hipaa, service()), event("started")) == {}


def test_a_regime_that_no_valid_policy_describes_fails_closed() -> None:
    broken = SOX | {"spec": {"controls": ["prayer"]}}
    unknown = judged(policies(service(regimes=["sox"])), event("started"))
    invalid = judged(policies(broken, service(regimes=["sox"])), event("started"))

    assert unknown["regime/sox"]["reason"] == "regime_unknown"
    assert invalid["regime/sox"]["reason"] == "policy_invalid"


def test_what_is_known_does_not_depend_on_the_order_of_the_reports() -> None:
    records = [
        event("registered", feature_ticket="SHOP-1"),
        event("started", NOON + MINUTE, team="web", tags={"a": "1"}),
        event("amended", NOON + 2 * MINUTE, feature_ticket="SHOP-2", tags={"b": "2"}),
        approval("approved", deployment_id="shop-1", change_ticket="CHG-1"),
    ]
    states = [state_of(*order, *order[:2]) for order in permutations(records)]

    assert all(state == states[0] for state in states)
    assert states[0]["tickets"] == {"feature_ticket": ["SHOP-1", "SHOP-2"], "change_ticket": ["CHG-1"]}


def test_what_approvals_are_judged_by_is_the_start_and_the_latest_word() -> None:
    state = state_of(
        event("queued", NOON - MINUTE, artifact_digest="sha256:a", deployer="dora"),
        event("started", NOON, uncertainty_ms=40),
        event("started", NOON + MINUTE, artifact_digest="sha256:b"),
    )
    asked, moment = requirements.approval_asked(state, policies())

    assert (asked.artifact_digest, asked.deployer, asked.service) == ("sha256:b", "dora", "shop")
    assert (moment.at, moment.uncertainty, moment.is_now) == (NOON, 40_000, False)
    assert requirements.approval_asked(state_of(event("queued")), policies())[1].is_now


def test_what_is_kept_of_an_id_that_every_run_uses_has_bounds_and_does_not_depend_on_their_order() -> None:
    runs = [
        event(
            "started",
            NOON + n,
            change_ticket=f"CHG-{n:04}",
            tags={f"run-{n}": "x"} | {f"tag-{n}-{m}": "x" for m in range(9)},
        )
        for n in range(300)
    ]
    there, back = state_of(*runs), state_of(*reversed(runs))

    assert there == back
    assert len(there["tickets"]["change_ticket"]) == requirements.MOST_TICKETS
    assert len([name for name in there["has"] if name.startswith("tags.")]) == requirements.MOST_NAMED
    assert "change_ticket" in there["has"]
