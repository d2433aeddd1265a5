"""Emergencies while a window is closed: let through by a sound approval, and every part that may lack."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import break_glass, change_window
from deploytrail_processors.rules.break_glass import Emergency
from deploytrail_processors.rules.change_window import Judgement, Position
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.reasons import Reason
from deploytrail_schemas.records import RecordType
from support.values import MINUTE, NOON, SECOND, approval, event

SUBJECT = {"service": "shop", "team": "web", "environment": "production", "region": "eu-west-1", "tier": "1",
           "kind": "hotfix"}  # fmt: skip
DEPLOYMENT = {
    "deployment_id": "shop-1", "region": "eu-west-1", "environment": "production", "service": "shop",
    "deployer": "ada", "change_ticket": "CHG-7", "artifact_digest": "", "emergency": False,
}  # fmt: skip
OUTSIDE = Judgement(Position.OUTSIDE, Reason.INSIDE_DENIED_WINDOW, ("change_window/freeze/1",))


def policy(name: str = "hotfixes", **spec: Any) -> dict[str, Any]:
    return {"kind": "break_glass", "name": name, "spec": {"scope": {"kinds": ["hotfix"]}} | spec}


def sound(**fields: Any) -> dict[str, Any]:
    """An approval that lacks nothing, given ten minutes before noon."""
    usual = {
        "deployment_id": "shop-1", "approver": "grace", "approver_role": "incident-commander", "emergency": True,
        "justification": "checkout is down", "valid_until": NOON + 60 * MINUTE,
    }  # fmt: skip
    return approval(fields.pop("approval_type", "approved"), fields.pop("at", NOON - 10 * MINUTE), **usual | fields)


def judged(*approvals: dict[str, Any], policies: tuple[dict[str, Any], ...] = (policy(),), uncertainty: int = 0,
           **deployment: Any) -> Emergency | None:  # fmt: skip
    in_force = Policies(tuple(map(read_document, policies)))
    given = DEPLOYMENT | deployment
    return break_glass.judge(given, SUBJECT, in_force, approvals, at=NOON, uncertainty=uncertainty)


@pytest.mark.requirement("M4.2")
def test_a_sound_approval_lets_an_emergency_pass() -> None:
    found = judged(sound())

    assert found is not None
    assert (found.reason, found.documents, found.missing) == (Reason.BREAK_GLASS, ("break_glass/hotfixes/1",), ())
    assert found.evidence == {
        "approval_steps": "1",
        "approval_id": sound()["approval_id"],
        "approver": "grace",
        "approval_expires": "2026-11-02T13:00:00+00:00",
    }


def test_an_approval_of_the_change_ticket_is_of_its_deployments() -> None:
    by_ticket = sound(deployment_id="", change_ticket="CHG-7")
    found = judged(by_ticket)

    assert found is not None and found.reason is Reason.BREAK_GLASS
    assert judged(by_ticket, change_ticket="CHG-8") is None
    assert judged(by_ticket | {"service": "cart"}) is None
    assert judged(sound(deployment_id="shop-2", change_ticket="CHG-7")) is None


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ({"approver": " "}, "approver_unknown"),
        ({"approver": "Ada "}, "self_approval"),
        ({"approver": "ada@shop.example"}, "self_approval"),
        ({"approver_role": "intern"}, "approver_lacks_role"),
        ({"justification": ""}, "no_justification"),
        ({"valid_until": None}, "no_expiry"),
        ({"valid_until": NOON + 24 * 60 * MINUTE}, "approval_too_long"),
        ({"valid_until": NOON}, "approval_expired"),
        ({"valid_from": NOON + 1}, "approval_not_yet_valid"),
        ({"at": NOON + 1}, "late_approval"),
        ({"artifact_digest": "sha256:b"}, "approved_other_artifact"),
    ],
)
def test_the_missing_part_is_named(lacking: dict[str, Any], reason: str) -> None:
    strict = policy(approver_roles=["incident-commander"], max_minutes=120)
    found = judged(sound(**lacking), policies=(strict,), artifact_digest="sha256:a")

    assert found is not None
    assert found.missing == (reason,)
    assert found.reason == reason


def test_every_missing_part_is_named_at_once() -> None:
    found = judged(sound(approver="ada", justification="", valid_until=None))

    assert found is not None
    assert found.evidence["emergency_missing"] == ("self_approval, no_justification, no_expiry")


def test_whose_hands_it_is_in_the_registrations_tell_too() -> None:
    told = approval("registered", NOON - 60 * MINUTE, tags={"deployer": "linus", "commit_authors": "grace,alan"})
    found = judged(sound(), told)

    assert judged(sound(approver="linus"), told).missing == ("self_approval",)  # type: ignore[union-attr]
    assert found is not None
    assert found.missing == ("approved_by_commit_author",)


def test_a_deployer_whom_nobody_knows_cannot_be_told_from_the_approver() -> None:
    found = judged(sound(), deployer="")

    assert found is not None and found.reason is Reason.DEPLOYER_UNKNOWN


def test_an_emergency_that_nobody_approved_is_said_to_be_one() -> None:
    found = judged(emergency=True)

    assert found is not None and found.reason is Reason.NO_APPROVAL
    assert judged(sound() | {"emergency": False}, emergency=False) is None


def test_without_a_policy_no_emergency_passes() -> None:
    assert judged(sound(), policies=()) is None
    assert judged(sound(), policies=(policy(scope={"kinds": ["release"]}),)) is None


def test_the_narrowest_policy_counts_and_an_invalid_one_lets_nothing_pass() -> None:
    narrow = policy("payments", scope={"kinds": ["hotfix"], "services": ["shop"]}, approver_roles=["cto"])
    broken = policy("broken", max_minutes="soon")
    by_narrow, by_broken = judged(sound(), policies=(policy(), narrow)), judged(sound(), policies=(policy(), broken))

    assert by_narrow is not None and by_narrow.reason is Reason.APPROVER_LACKS_ROLE
    assert by_narrow.documents == ("break_glass/payments/1",)
    assert by_broken is not None and by_broken.reason is Reason.POLICY_INVALID


@pytest.mark.requirement("M4.2")
def test_policy_may_let_an_approval_follow_the_start() -> None:
    grace = policy(approve_within_minutes=30)
    soon, late = (judged(sound(at=NOON + n * MINUTE), policies=(grace,)) for n in (30, 31))

    assert soon is not None and soon.reason is Reason.BREAK_GLASS
    assert late is not None and late.reason is Reason.LATE_APPROVAL


@pytest.mark.parametrize("step", ["revoked", "rejected", "expired"])
def test_what_was_withdrawn_before_the_start_counts_no_more(step: str) -> None:
    before, after = (sound(approval_type=step, at=NOON + n * MINUTE, emergency=False) for n in (-5, 5))
    again = sound(at=NOON - MINUTE, approver="linus")
    withdrawn, kept, renewed = judged(sound(), before), judged(sound(), after), judged(sound(), before, again)

    assert withdrawn is not None and withdrawn.reason is Reason.APPROVAL_REVOKED
    assert kept is not None and kept.reason is Reason.BREAK_GLASS
    assert renewed is not None and renewed.reason is Reason.BREAK_GLASS


@pytest.mark.parametrize("source", ["kubernetes_admission", "aws_hook"])
def test_a_machine_that_refused_a_permit_withdraws_nobodys_approval(source: str) -> None:
    found = judged(sound(), sound(approval_type="rejected", at=NOON - MINUTE, approver="", source=source))

    assert found is not None and found.reason is Reason.BREAK_GLASS


@pytest.mark.requirement("M4.2", "M8.3")
@pytest.mark.parametrize(
    "close", [{"at": NOON + SECOND}, {"valid_until": NOON + SECOND}, {"valid_from": NOON - SECOND}]
)
def test_a_clock_that_cannot_tell_gives_no_verdict(close: dict[str, Any]) -> None:
    found = judged(sound(**close), uncertainty=2 * SECOND)

    assert found is not None and found.reason is Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY


@pytest.mark.parametrize(
    ("judgement", "emergency", "expected"),
    [
        (OUTSIDE, None, ("violation", "inside_denied_window")),
        (OUTSIDE, Reason.BREAK_GLASS, ("ok", "break_glass")),
        (OUTSIDE, Reason.NO_JUSTIFICATION, ("violation", "no_justification")),
        (OUTSIDE, Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY, ("inconclusive", "approval_time_within_uncertainty")),
        (Judgement(Position.UNCERTAIN, Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY, ()), Reason.BREAK_GLASS,
         ("ok", "break_glass")),
        (Judgement(Position.UNCERTAIN, Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY, ()), Reason.NO_APPROVAL,
         ("inconclusive", "window_boundary_within_uncertainty")),
        (Judgement(Position.OUTSIDE, Reason.POLICY_INVALID, ()), Reason.BREAK_GLASS, ("violation", "policy_invalid")),
        (Judgement(Position.INSIDE, Reason.INSIDE_ALLOWED_WINDOW, ()), Reason.NO_APPROVAL,
         ("ok", "inside_allowed_window")),
    ],
)  # fmt: skip
def test_the_window_and_the_emergency_give_one_verdict(
    judgement: Judgement, emergency: Reason | None, expected: tuple[str, str]
) -> None:
    told = Emergency(emergency, ("break_glass/hotfixes/1",)) if emergency else None
    found = change_window.to_finding(
        event("started", kind="hotfix"), SUBJECT, judgement, production=True, emergency=told
    )

    assert (found["verdict"], found["reason"]) == expected
    encode(RecordType.FINDING, found)


def test_every_answer_has_words() -> None:
    answers = {Reason.BREAK_GLASS, Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY, Reason.NO_APPROVAL, Reason.POLICY_INVALID,
               *break_glass.LACKS}  # fmt: skip
    for reason in answers:
        found = change_window.to_finding(
            event("started"), SUBJECT, OUTSIDE, production=True, emergency=Emergency(reason, ())
        )
        assert found["explanation"].startswith("shop started")
        assert found["evidence"]["window_reason"] == "inside_denied_window"
