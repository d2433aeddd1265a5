"""Approvals: one good one allows, and everything else is a reason, all of them at once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from deploytrail_processors.rules.approval import Judgement, judge
from deploytrail_processors.rules.approval_required import required
from deploytrail_processors.rules.approval_steps import Asked, Moment, keep
from deploytrail_processors.rules.policies import Policies, PolicySet, read_document
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, SECOND, approval

DIGEST, OTHER = "sha256:" + "1b" * 32, "sha256:" + "2c" * 32
ASKED = Asked("shop-1", "shop", "production", "eu-west-1", DIGEST, kind="release")
NOW = Moment(NOON, is_now=True)
# A deployment that began at noon, judged afterwards.
BEGAN = Moment(NOON)


def registered(at: int = NOON - 60 * MINUTE, **fields: Any) -> dict[str, Any]:
    tags = {"deployer": "dora", "commit_authors": "carl,cleo@example.com"} | fields.pop("tags", {})
    usual = {"artifact_digest": DIGEST, "change_ticket": "CHG1", "source": "library", "tags": tags}
    return approval("registered", at, **(usual | fields))


def approved(who: str = "ada", at: int = NOON - 30 * MINUTE, **fields: Any) -> dict[str, Any]:
    return approval("approved", at, approver=who, **fields)


def policy(**spec: Any) -> dict[str, Any]:
    return {"kind": "approval", "name": spec.pop("name", "production"), "spec": spec}


def window(**spec: Any) -> dict[str, Any]:
    usual = {"effect": "allow", "zone": "UTC", "start": "2026-01-05T09:00", "rrule": "FREQ=DAILY"}
    return {"kind": "change_window", "name": spec.pop("name", "days"), "spec": usual | spec}


def verdict(
    *steps: dict[str, Any], policies: list[dict[str, Any]] | None = None, moment: Moment = NOW, **asked: Any
) -> Judgement:
    in_force = PolicySet().with_documents(read_document(d) for d in policies or [])
    return judge(replace(ASKED, **asked), [keep(step) for step in steps], in_force.at, moment)


def reasons(*steps: dict[str, Any], **more: Any) -> list[str]:
    found = verdict(*steps, **more)
    assert (found.position == "allowed") == (not found.problems)
    return [reason.value for reason in found.reasons]


@pytest.mark.requirement("M5.3", "M5.4")
def test_a_registered_deployment_with_one_approval_is_allowed() -> None:
    found = verdict(registered(), approved())

    assert (found.position, found.reason, found.approvers) == ("allowed", "approved", ("ada",))
    assert found.until == NOON - 30 * MINUTE + 24 * 60 * MINUTE


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], ["unregistered", "no_approval"]),
        ([approved()], ["unregistered", "approval_not_bound", "not_enough_approvals"]),
        ([registered(deployment_id="shop-2"), approved(artifact_digest=DIGEST)], ["unregistered"]),
        ([registered(artifact_digest=OTHER), approved(artifact_digest=DIGEST)], ["registered_for_other_artifact"]),
        ([registered(artifact_digest=""), approved(artifact_digest=DIGEST)], ["registered_for_other_artifact"]),
        ([registered(service="cart"), approved()], ["registered_for_other_place"]),
        ([registered(environment="staging"), approved()], ["registered_for_other_place"]),
        ([registered(region="us-east-1"), approved()], ["registered_for_other_place"]),
        ([registered(valid_until=NOON), approved()], ["registered_for_other_time"]),
        ([registered(valid_from=NOON + SECOND), approved()], ["registered_for_other_time"]),
        ([registered(change_ticket=""), approved()], ["no_change_ticket"]),
        ([registered(tags={"deployer": ""}), approved()], ["deployer_unknown"]),
    ],
)
def test_what_is_wrong_with_a_registration(steps: list[dict[str, Any]], expected: list[str]) -> None:
    assert reasons(*steps) == expected


LACKING = "not_enough_approvals"


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (approved("dora"), ["self_approval", LACKING]),
        (approved(" Dora "), ["self_approval", LACKING]),
        (approved("dora@example.com"), ["self_approval", LACKING]),
        (approved("Dora D. <dora@example.com>"), ["self_approval", LACKING]),
        (approved("4711+dora@users.noreply.github.com"), ["self_approval", LACKING]),
        (approved("merge-queue[bot]"), ["approver_is_a_bot", LACKING]),
        (approved("49699333+merge-queue[bot]@users.noreply.github.com"), ["approver_is_a_bot", LACKING]),
        (approved("carl"), ["approved_by_commit_author", LACKING]),
        (approved("cleo"), ["approved_by_commit_author", LACKING]),
        (approved(""), ["approver_unknown", LACKING]),
        (approved(artifact_digest=OTHER), ["approved_other_artifact", LACKING]),
        (approved(at=NOON - 90 * MINUTE), ["approval_not_bound", LACKING]),
        (approved(at=NOON - 90 * MINUTE, artifact_digest=DIGEST), []),
        (approved(valid_until=NOON), ["approval_expired", LACKING]),
        (approved(valid_from=NOON + SECOND), ["approval_not_yet_valid", LACKING]),
        (approved(at=NOON - 1441 * MINUTE, artifact_digest=DIGEST), ["approval_expired", LACKING]),
        (approved(environment="staging"), ["no_approval"]),
        (approved(service="cart"), ["no_approval"]),
        (approved(deployment_id="shop-2"), ["no_approval"]),
        (approved(deployment_id="", change_ticket="CHG2"), ["no_approval"]),
        (approved(deployment_id="", change_ticket="CHG1"), []),
        (approved(deployment_id="", change_ticket="CHG1", environment="", service=""), []),
        (approval("requested", NOON - MINUTE, approver="ada"), ["no_approval"]),
        (approval("unknown", NOON - MINUTE, approver="ada"), ["no_approval"]),
    ],
)
def test_what_keeps_an_approval_from_counting(step: dict[str, Any], expected: list[str]) -> None:
    assert reasons(registered(), step) == expected


@pytest.mark.requirement("M5.3")
def test_authors_are_known_by_whatever_their_commits_name() -> None:
    authors = {"commit_authors": "Ada L. <ada@example.com>,812-eve@users.noreply.gitlab.com"}

    assert reasons(registered(tags=authors), approved("ada")) == ["approved_by_commit_author", LACKING]
    assert reasons(registered(tags=authors), approved("eve@example.com")) == ["approved_by_commit_author", LACKING]
    assert reasons(registered(tags=authors), approved("bob@example.com")) == []


@pytest.mark.requirement("M5.3")
def test_two_names_of_one_person_are_one_approval() -> None:
    two = [policy(count=2)]
    found = verdict(registered(), approved("ada"), approved("Ada@example.com", NOON - 20 * MINUTE), policies=two)

    assert [p.reason.value for p in found.problems] == [LACKING]
    assert "1 of 2 approvals count, since these may be names of one person: Ada@example.com and ada" in str(found)
    assert reasons(registered(), approved("ada"), approved("bob@example.com"), policies=two) == []
    # Two mailboxes are two people, unless a login may be of either.
    pair = [approved("ada@example.com"), approved("ada@example.org")]
    assert reasons(registered(), *pair, policies=two) == []
    assert reasons(registered(), *pair, approved("ada"), policies=two) == [LACKING]


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(("kind", "expected"), [("rejected", "rejected"), ("revoked", "approval_revoked")])
def test_who_takes_an_approval_back_need_not_use_the_same_name(kind: str, expected: str) -> None:
    back = approval(kind, NOON - 10 * MINUTE, approver="ada@example.com")

    found = reasons(registered(), approved("ada"), approved("bob"), back, policies=[policy(count=2)])
    assert expected in found
    assert LACKING in found


@pytest.mark.requirement("M5.3")
def test_without_a_registration_to_ask_for_four_eyes_still_need_a_deployer() -> None:
    loose = [policy(registration=False, unbound=True)]

    assert reasons(approved(), policies=loose) == ["deployer_unknown"]
    assert reasons(approved(), policies=loose, deployer="dora") == []
    assert reasons(approved(), policies=[policy(registration=False, unbound=True, four_eyes=False)]) == []


@pytest.mark.requirement("M5.3")
def test_every_reason_is_told_at_once() -> None:
    found = reasons(
        registered(change_ticket="", artifact_digest=OTHER),
        approved("dora", valid_until=NOON, artifact_digest=OTHER),
        policies=[policy(roles=["release manager"]), window(duration_minutes=60)],
    )

    assert found == [
        "registered_for_other_artifact",
        "no_change_ticket",
        "self_approval",
        "approver_lacks_role",
        "approved_other_artifact",
        "approval_expired",
        "not_enough_approvals",
        "outside_allowed_windows",
    ]


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ([approval("revoked", NOON - MINUTE, approver="ada")], ["approval_revoked", LACKING]),
        ([approval("revoked", NOON - MINUTE, approver="boss")], ["approval_revoked", LACKING]),
        ([approval("revoked", NOON - MINUTE)], ["approval_revoked", LACKING]),
        ([approval("expired", NOON - MINUTE)], ["approval_expired", LACKING]),
        ([approval("rejected", NOON - MINUTE, approver="ada")], ["rejected", "no_approval"]),
        ([approval("rejected", NOON - MINUTE, approver="bob")], ["rejected"]),
        ([approval("rejected", NOON - MINUTE, source="kubernetes_admission")], []),
        ([approval("rejected", NOON - MINUTE, source="aws_hook")], []),
        ([approval("permit_refused", NOON - MINUTE, source="gate")], []),
        ([approval("revoked", NOON - MINUTE), approved("ada", NOON - SECOND)], []),
        ([approval("rejected", NOON - MINUTE, approver="bob"), approved("bob", NOON - SECOND)], []),
    ],
)
def test_of_each_person_the_latest_word_counts(later: list[dict[str, Any]], expected: list[str]) -> None:
    assert reasons(registered(), approved(), *later) == expected


def test_an_approval_of_a_ticket_speaks_of_what_was_registered_when_it_was_given() -> None:
    again = registered(NOON - 10 * MINUTE, artifact_digest=OTHER)

    assert reasons(registered(), approved(), again, artifact_digest=OTHER) == ["approved_other_artifact", LACKING]
    assert reasons(registered(), again, approved("ada", NOON - MINUTE), artifact_digest=OTHER) == []


def test_a_later_registration_takes_nobodys_hands_off() -> None:
    again = registered(NOON - 10 * MINUTE, tags={"deployer": "bob", "commit_authors": ""})

    assert reasons(registered(), again, approved("dora", NOON - MINUTE)) == ["self_approval", LACKING]
    assert reasons(registered(), again, approved("carl", NOON - MINUTE)) == ["approved_by_commit_author", LACKING]


@pytest.mark.requirement("M5.3")
def test_an_approval_before_any_registration_counts_where_policy_says_so() -> None:
    early = approved(at=NOON - 90 * MINUTE)

    assert reasons(registered(), early) == ["approval_not_bound", LACKING]
    assert reasons(registered(), early, policies=[policy(unbound=True)]) == []


PLANNED = {"valid_from": NOON - 10 * MINUTE, "valid_until": NOON + 10 * MINUTE}


@pytest.mark.requirement("M5.3", "M5.4")
def test_it_is_allowed_in_the_time_that_it_is_registered_for_and_no_longer() -> None:
    found = verdict(registered(**PLANNED), approved())

    assert (found.position, found.until) == ("allowed", NOON + 10 * MINUTE)
    for minutes, expected in (
        (-11, ["registered_for_other_time"]),
        (-10, []),
        (9, []),
        (10, ["registered_for_other_time"]),
    ):
        for moment in (Moment(NOON + minutes * MINUTE, is_now=True), Moment(NOON + minutes * MINUTE)):
            assert reasons(registered(**PLANNED), approved(), moment=moment) == expected
    edge = verdict(registered(**PLANNED), approved(), moment=Moment(NOON + 10 * MINUTE, 2 * SECOND))
    assert (edge.position, edge.reasons) == ("uncertain", ("registered_for_other_time",))


@pytest.mark.requirement("M5.3")
def test_an_approval_is_bound_to_the_time_that_was_registered_when_it_was_given() -> None:
    tonight = registered(valid_from=NOON + 60 * MINUTE, valid_until=NOON + 90 * MINUTE)
    anew = registered(NOON - 5 * MINUTE, **PLANNED)

    assert reasons(tonight, approved(), anew) == ["approved_other_time", LACKING]
    assert reasons(tonight, approved(), anew, approved(at=NOON - MINUTE)) == []
    assert reasons(tonight, approved(valid_until=NOON + MINUTE), anew) == []  # its own word of the time stands above


@pytest.mark.requirement("M5.3")
def test_as_many_people_as_policy_says() -> None:
    two = [policy(count=2)]

    assert reasons(registered(), approved(), policies=two) == [LACKING]
    assert reasons(registered(), approved(), approved("ada", NOON - MINUTE), policies=two) == [LACKING]
    assert reasons(registered(), approved(), approved("bob"), policies=two) == []
    # One that does not count is no reason where enough others do.
    assert reasons(registered(), approved(), approved("bob"), approved("dora"), policies=two) == []


def test_a_role_is_held_at_the_time_of_the_approval() -> None:
    holders = [
        policy(roles=["manager"], holders={"manager": ["ada"]}) | {"effective_from": "2026-01-01T00:00:00Z"},
        policy(roles=["manager"], holders={"manager": ["bob"]})
        | {"version": 2, "effective_from": "2026-11-02T11:45:00Z"},
    ]

    assert reasons(registered(), approved("ada"), policies=holders) == []
    assert reasons(registered(), approved("bob"), policies=holders) == ["approver_lacks_role", LACKING]
    assert reasons(registered(), approved("bob", NOON - MINUTE), policies=holders) == []
    assert reasons(registered(), approved("ada", NOON - MINUTE), policies=holders) == ["approver_lacks_role", LACKING]


def test_a_role_that_no_policy_lists_is_believed_as_it_is_named() -> None:
    roles = [policy(roles=["manager", "sre"])]

    assert reasons(registered(), approved(approver_role="sre"), policies=roles) == []
    assert reasons(registered(), approved(approver_role="guest"), policies=roles) == ["approver_lacks_role", LACKING]
    assert reasons(registered(), approved(), policies=roles) == ["approver_lacks_role", LACKING]


@pytest.mark.requirement("M5.3")
def test_what_came_after_the_start_is_late() -> None:
    late = [registered(NOON + MINUTE), approved("ada", NOON + 2 * MINUTE)]

    assert reasons(*late, moment=BEGAN) == ["late_registration", "late_approval", LACKING]
    assert reasons(registered(), approved(), approval("revoked", NOON + MINUTE), moment=BEGAN) == []
    assert reasons(registered(), approved(), approved("ada", NOON + MINUTE), moment=BEGAN) == []


def around_the_start(kind: str, **fields: Any) -> dict[str, Any]:
    """A step that may have been taken after the start."""
    return approval(kind, NOON + fields.pop("later", 0), uncertainty_ms=2_000, **fields)


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (approval("revoked", NOON - 5 * MINUTE, approver="ada"), "revoked"),
        (approval("rejected", NOON - 5 * MINUTE, approver="bob"), "rejected"),
    ],
)
def test_a_refusal_that_is_said_again_at_the_start_is_no_less_certain(first: dict[str, Any], kind: str) -> None:
    once = verdict(registered(), approved(), first, moment=BEGAN)
    again = around_the_start(kind, approver=first["approver"])

    assert once.position == "refused"
    assert verdict(registered(), approved(), first, again, moment=BEGAN) == once


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize("kind", ["revoked", "expired"])
def test_a_withdrawal_that_may_have_come_too_late_hides_none_that_came_in_time(kind: str) -> None:
    maybe = approval(kind, NOON - 2 * SECOND, approver="ada", uncertainty_ms=5_000)
    surely = approval(kind, NOON - SECOND, approver="ada")

    assert verdict(registered(), approved(), maybe, moment=BEGAN).position == "uncertain"
    found = verdict(registered(), approved(), maybe, surely, moment=BEGAN)
    assert (found.position, found.reason) == ("refused", f"approval_{kind}")


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("before", "around", "position"),
    [
        ([OTHER], [DIGEST], "uncertain"),  # what is registered for certain is another artifact
        ([DIGEST], [OTHER], "uncertain"),
        ([DIGEST], [DIGEST], "allowed"),
        ([OTHER], [OTHER], "refused"),
        ([], [DIGEST], "uncertain"),
        ([], [DIGEST, DIGEST], "uncertain"),
        ([OTHER, DIGEST], [DIGEST, DIGEST], "allowed"),
        ([DIGEST], [OTHER, DIGEST], "uncertain"),  # any of those around the start may have been the last before it
        ([OTHER], [DIGEST, OTHER], "uncertain"),
        ([], [DIGEST, OTHER], "uncertain"),
        ([], [OTHER, DIGEST], "uncertain"),
        ([], [OTHER, OTHER], "refused"),
    ],
)
def test_a_registration_that_may_have_come_after_the_start_hides_none_that_came_before(
    before: list[str], around: list[str], position: str
) -> None:
    tags = {"deployer": "dora"}
    fields = {"change_ticket": "CHG1", "tags": tags}
    steps = [registered(NOON - (60 - n) * MINUTE, artifact_digest=one) for n, one in enumerate(before)]
    steps += [around_the_start("registered", later=n, artifact_digest=one, **fields) for n, one in enumerate(around)]

    found = verdict(*steps, approved(artifact_digest=DIGEST), moment=BEGAN)
    assert found.position == position


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("before", "around", "position"),
    [
        ([OTHER], [DIGEST], "uncertain"),
        ([DIGEST], [OTHER], "uncertain"),
        ([], [OTHER], "uncertain"),  # without any it would be allowed
        ([], [DIGEST], "allowed"),
        ([OTHER], [OTHER], "refused"),
    ],
)
def test_a_registration_that_nobody_asks_for_may_have_come_after_the_start_too(
    before: list[str], around: list[str], position: str
) -> None:
    steps = [registered(artifact_digest=one) for one in before]
    steps += [registered(NOON, uncertainty_ms=2_000, artifact_digest=one) for one in around]

    found = verdict(
        *steps, approved(artifact_digest=DIGEST), moment=BEGAN, policies=[policy(registration=False, count=1)]
    )
    assert found.position == position


def test_one_that_may_fit_hides_one_that_may_not() -> None:
    within = registered(NOON, uncertainty_ms=2_000, valid_until=NOON + SECOND)  # nobody can tell whether it began in it
    other = registered(NOON + 1, uncertainty_ms=2_000, artifact_digest=OTHER)
    moment = Moment(NOON, SECOND)
    steps = (within, other, approved(artifact_digest=DIGEST))

    assert verdict(registered(artifact_digest=OTHER), *steps, moment=moment).position == "uncertain"


def test_clocks_that_cannot_tell_make_it_uncertain() -> None:
    around = approved("ada", NOON - 2 * SECOND, uncertainty_ms=5_000)
    found = verdict(registered(), around, moment=BEGAN)

    assert (found.position, found.reasons) == ("uncertain", ("approval_time_within_uncertainty",))
    # The gate has read it: it was given before, whatever the clock says.
    assert verdict(registered(), around).position == "allowed"
    # And whatever is certain decides.
    assert verdict(registered(service="cart"), around, moment=BEGAN).position == "refused"
    assert verdict(registered(), approved(valid_until=NOON + 1), moment=Moment(NOON, SECOND)).position == "uncertain"


@pytest.mark.requirement("M4.2", "M5.3")
def test_a_closed_window_refuses_and_says_when_it_opens() -> None:
    closed = [window(start="2026-01-05T13:00", duration_minutes=60)]
    found = verdict(registered(), approved(), policies=closed)

    assert (found.position, found.reason) == ("refused", "outside_allowed_windows")
    assert found.next_open == NOON + 60 * MINUTE
    assert "the next one opens at 2026-11-02T13:00:00.000000Z" in found.problems[0].detail


def test_it_is_allowed_no_longer_than_the_window_is_open() -> None:
    found = verdict(registered(), approved(), policies=[window(duration_minutes=185)])

    assert (found.position, found.until) == ("allowed", NOON + 5 * MINUTE)


LACKING_GLASS: list[tuple[dict[str, Any], list[str]]] = [
    ({"approver_role": "guest"}, ["approver_lacks_role"]),
    ({"emergency": False}, []),
    ({"justification": ""}, ["no_justification"]),
    ({"valid_until": None}, ["no_expiry"]),
    ({"valid_until": NOON + 91 * MINUTE}, ["approval_too_long"]),
]


@pytest.mark.requirement("M1.2", "M5.3")
def test_an_emergency_approval_passes_a_freeze_only_with_role_reason_and_expiry() -> None:
    glass = {"approver_roles": ["incident commander"], "max_minutes": 120}
    freeze = [
        window(effect="deny", duration_minutes=600),
        {"kind": "break_glass", "name": "incidents", "spec": glass},
    ]
    whole = {
        "approver_role": "incident commander",
        "emergency": True,
        "justification": "checkout is down",
        "valid_until": NOON + 60 * MINUTE,
    }
    found = verdict(registered(), approved(**whole), policies=freeze)

    assert (found.position, found.reason) == ("allowed", "emergency_approved")
    assert found.until == NOON + 60 * MINUTE
    for lacking, named in LACKING_GLASS:
        steps = registered(), approved(**whole | lacking)
        assert reasons(*steps, policies=freeze) == ["inside_denied_window", *named]
    assert reasons(registered(), approved(**whole), policies=freeze[:1]) == ["inside_denied_window"]


@pytest.mark.requirement("M4.2", "M5.3")
def test_an_emergency_may_be_approved_as_long_after_its_start_as_policy_says() -> None:
    freeze = [
        window(effect="deny", duration_minutes=600),
        {"kind": "break_glass", "name": "incidents", "spec": {"approve_within_minutes": 30}},
    ]
    whole = {"emergency": True, "justification": "checkout is down", "valid_until": NOON + 60 * MINUTE}
    in_time, late = (approved(at=NOON + n * MINUTE, **whole) for n in (29, 31))

    assert reasons(registered(), in_time, policies=freeze, moment=BEGAN) == []
    found = reasons(registered(), late, policies=freeze, moment=BEGAN)
    assert found == ["late_approval", LACKING, "inside_denied_window"]
    assert reasons(registered(), in_time, policies=freeze[:1], moment=BEGAN)[0] == "late_approval"


def test_what_needs_no_approval_may_break_the_glass_too() -> None:
    freeze = [
        window(effect="deny", duration_minutes=600),
        {"kind": "break_glass", "name": "incidents", "spec": {}},
    ]
    whole = {"emergency": True, "justification": "down", "valid_until": NOON + 60 * MINUTE, "environment": "staging"}
    staging = {"environment": "staging", "deployer": "dora"}

    assert reasons(policies=freeze, **staging) == ["inside_denied_window"]
    assert verdict(approved(**whole), policies=freeze, **staging).reason == "emergency_approved"
    assert reasons(approved("dora", **whole), policies=freeze, **staging) == ["inside_denied_window", "self_approval"]


def test_a_clock_that_cannot_tell_of_an_emergency_makes_it_uncertain_but_at_the_gate() -> None:
    freeze = [window(effect="deny", duration_minutes=600), {"kind": "break_glass", "name": "incidents", "spec": {}}]
    whole = {"emergency": True, "justification": "down", "valid_until": NOON + 60 * MINUTE}
    just_now = approved(at=NOON - SECOND, uncertainty_ms=2_000, **whole)

    assert verdict(registered(), just_now, policies=freeze, moment=BEGAN).position == "uncertain"
    assert verdict(registered(), just_now, policies=freeze).position == "allowed"


def test_an_invalid_policy_refuses() -> None:
    assert reasons(registered(), approved(), policies=[policy(count="many")]) == ["policy_invalid"]
    assert reasons(registered(), approved(), policies=[window(zone="Mars/Olympus")]) == ["policy_invalid"]


def test_where_no_policy_covers_it_only_production_needs_an_approval() -> None:
    flagged = [{"kind": "environment", "name": "live", "spec": {"production": True}}]

    assert reasons(environment="staging") == []
    assert verdict(environment="staging").reason == "nothing_required"
    assert reasons(environment="live") == []
    assert reasons(environment="live", policies=flagged) == ["unregistered", "no_approval"]


def test_the_narrowest_policy_counts_and_equal_ones_count_together() -> None:
    documents = [
        policy(count=3),
        policy(name="shop", count=2, scope={"services": ["shop"]}),
        policy(name="web", roles=["sre"], scope={"environments": ["production"]}),
    ]
    found, keys = required(ASKED, Policies(tuple(read_document(d) for d in documents)))

    assert found is not None
    assert (found.count, found.roles, keys) == (2, ("sre",), ("approval/shop/1", "approval/web/1"))


@given(st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(dice: random.Random) -> None:
    steps = [
        registered(),
        registered(NOON - 20 * MINUTE),
        approved(),
        approved("bob"),
        approved("dora"),
        approval("revoked", NOON - 5 * MINUTE, approver="bob"),
        approval("rejected", NOON - 4 * MINUTE, approver="eve"),
        approved("eve", NOON - 3 * MINUTE),
    ]
    expected = verdict(*steps, policies=[policy(count=3)])
    shuffled = steps + dice.choices(steps, k=4)
    dice.shuffle(shuffled)

    assert verdict(*shuffled, policies=[policy(count=3)]) == expected
