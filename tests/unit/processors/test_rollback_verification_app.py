"""Rollbacks are verified by what runs, by health, and by the alert that asked for them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from deploytrail_processors.apps.rollback_verification import Verification
from hypothesis import given, settings
from hypothesis import strategies as st
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, observation, signal

Value = dict[str, Any]
GOOD, BAD = "sha256:good", "sha256:bad"


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def deploy(name: str, begin: float, end: float, **fields: Any) -> list[Value]:
    return [
        event(what, at(when), deployment_id=name, **fields) for what, when in (("started", begin), ("succeeded", end))
    ]


def health(minutes: float, healthy: bool | None = True, value: float | None = None, **fields: Any) -> Value:
    return signal("health_check", at(minutes), fingerprint="latency", healthy=healthy, value=value, **fields)


def running(minutes: float, digest: str = GOOD, **fields: Any) -> Value:
    return observation(at(minutes), artifact_digest=digest, **fields)


BEFORE = deploy("shop-1", -200, -190, version="1", artifact_digest=GOOD)
BROKEN = deploy("shop-2", 0, 5, version="2", artifact_digest=BAD)
ROLLBACK = [
    event(what, at(when), deployment_id="undo", kind="rollback", rollback_of="shop-2", artifact_digest=GOOD)
    for what, when in (("started", 10), ("succeeded", 12))
]
USUAL = [health(-minute, value=100 + minute % 5) for minute in range(1, 13)]
ALERT = signal(at=at(4), fingerprint="errors")
RESOLVED = signal("alert_resolved", at(14), fingerprint="errors")
WELL = [running(13), *(health(minute, value=103) for minute in (15, 18, 21)), RESOLVED]
DEADLINE = tick(at(28))


def told(*records: Value, policies: tuple[Value, ...] = ()) -> Handled:
    return Handled(Verification, policies).tell(*BEFORE, *USUAL, *BROKEN, ALERT, *ROLLBACK, *records)


def policy(**spec: Any) -> Value:
    return {"kind": "rollback_verification", "name": "default", "spec": spec}


def verdict(handled: Handled) -> tuple[str, str, str]:
    [found] = handled.standing
    return found["verdict"], found["reason"], found["evidence"]["outcome"]


@pytest.mark.requirement("M4.6")
def test_a_rollback_that_helped_is_verified_at_its_deadline() -> None:
    handled = told(*WELL, tick(at(26)))
    assert handled.findings == []
    [found] = handled.tell(DEADLINE).findings

    assert (found["rule"], found["verdict"], found["reason"]) == ("rollback_verification", "ok", "rollback_verified")
    assert (found["deployment_id"], found["occurred_at"]) == ("undo", at(27))
    assert found["evidence"]["target"] == GOOD
    assert found["evidence"]["digest"] == "1 of 1 seen run the target"
    assert found["evidence"]["alert"] == "1 resolved"


@pytest.mark.requirement("M4.6")
@pytest.mark.parametrize(
    ("instead", "reason", "outcome"),
    [
        ([running(20, BAD)], "other_artifact_runs", "failed"),
        ([running(20, BAD, instance="b")], "other_artifact_runs", "failed"),
        ([health(minute, value=180) for minute in (22, 24, 26)], "health_out_of_band", "failed"),
        ([health(26, healthy=False, source="probe")], "health_out_of_band", "failed"),
        ([signal(at=at(20), fingerprint="errors")], "alert_still_fires", "failed"),
        ([running(20, BAD, instance="b"), running(24, GOOD, instance="b")], "rollback_verified", "verified"),
        ([running(20, BAD, instance="b"), running(24, BAD, instance="b", observation_type="removed")],
         "rollback_verified", "verified"),
        ([health(22, value=180)], "rollback_verified", "verified"),
        ([health(minute, value=math.nan) for minute in (22, 24, 26)], "rollback_verified", "verified"),
        ([health(minute, healthy=False, value=math.inf) for minute in (22, 24, 26)], "health_out_of_band", "failed"),
        ([signal(at=at(20), fingerprint="another")], "rollback_verified", "verified"),
        ([running(27.5, BAD), health(27.5, healthy=False, value=500)], "rollback_verified", "verified"),
    ],
)  # fmt: skip
def test_what_is_seen_until_the_deadline_decides(instead: list[Value], reason: str, outcome: str) -> None:
    assert verdict(told(*WELL, *instead, DEADLINE))[1:] == (reason, outcome)


@pytest.mark.requirement("M4.6")
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ([one for one in WELL if "observation_id" not in one], "not_seen_running"),
        ([*WELL[1:], running(11)], "not_seen_running"),
        ([*WELL[1:], running(13, uncertainty_ms=120_000)], "not_seen_running"),
        ([WELL[0], RESOLVED], "no_health_seen"),
    ],
)
def test_what_nobody_saw_is_inconclusive(seen: list[Value], reason: str) -> None:
    assert verdict(told(*seen, DEADLINE)) == ("inconclusive", reason, "inconclusive")


def test_an_alert_that_never_resolved_fails_it() -> None:
    assert verdict(told(*WELL[:-1], DEADLINE))[:2] == ("violation", "alert_still_fires")


@pytest.mark.requirement("M4.6")
def test_the_policy_says_what_is_required_and_by_when() -> None:
    alone = policy(required=["alert"], deadline_minutes=5)

    assert verdict(told(RESOLVED, tick(at(18)), policies=(alone,)))[1] == "rollback_verified"
    assert told(*WELL, tick(at(18))).findings == []


@pytest.mark.requirement("M4.6")
def test_what_comes_late_supersedes() -> None:
    handled = told(*WELL[1:], DEADLINE, tick(at(40)))
    assert verdict(handled)[2] == "inconclusive"
    handled.tell(running(13))

    assert verdict(handled)[2] == "verified"
    assert handled.standing[0]["supersedes"] == handled.findings[0]["finding_id"]


def test_the_target_is_what_ran_before_where_the_rollback_names_none() -> None:
    unnamed = [one | {"artifact_digest": ""} for one in ROLLBACK]
    handled = Handled(Verification).tell(*BEFORE, *USUAL, *BROKEN, ALERT, *unnamed, *WELL, DEADLINE)

    assert handled.standing[0]["evidence"]["target"] == GOOD
    nothing = Handled(Verification).tell(*BROKEN, *unnamed, *WELL, DEADLINE)
    assert verdict(nothing)[1] == "rollback_target_unknown"


def test_a_rollback_that_failed_is_no_rollback() -> None:
    failed = [ROLLBACK[0], ROLLBACK[1] | {"event_type": "failed"}]

    assert Handled(Verification).tell(*BROKEN, *failed, DEADLINE).findings == []


def test_a_service_that_was_sick_before_need_not_be_better() -> None:
    sick = [health(-minute, healthy=False) for minute in range(1, 20)]
    seen = [running(13), *(health(minute, healthy=False) for minute in (15, 18)), RESOLVED]

    assert verdict(Handled(Verification).tell(*BEFORE, *sick, *BROKEN, *ROLLBACK, *seen, DEADLINE))[2] == "verified"


@pytest.mark.requirement("M4.6")
@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_any_order_with_repetitions_gives_the_same_verdict(chance: random.Random, when: int) -> None:
    records = [*BEFORE, *USUAL, *BROKEN, ALERT, *ROLLBACK, *WELL, running(20, BAD, instance="b")]
    shuffled = [*records, *chance.choices(records, k=6)]
    chance.shuffle(shuffled)
    # The deadline may come between them: what is behind it supersedes.
    found = Handled(Verification).tell(*shuffled[:when], DEADLINE, *shuffled[when:], tick(at(30)))

    assert verdict(found) == ("violation", "other_artifact_runs", "failed")
    [standing], [expected] = found.standing, Handled(Verification).tell(*records, DEADLINE).standing
    assert {**standing["evidence"], "given_times": "1"} == {**expected["evidence"], "given_times": "1"}


@pytest.mark.requirement("M4.6")
def test_what_is_seen_of_a_service_with_a_longer_name_is_not_evidence() -> None:
    handled = told(*WELL, running(14, BAD, service="shop/api", instance="pod-9"), DEADLINE)

    assert verdict(handled) == ("ok", "rollback_verified", "verified")


VOIDED = event("voided", at(60), deployment_id="undo")
FAILED = event("failed", at(50), deployment_id="undo")


@pytest.mark.requirement("M2.5", "M4.6")
@pytest.mark.parametrize(
    ("later", "reason"), [(VOIDED, "deployment_voided"), (FAILED, "no_rollback_after_all")], ids=["voided", "failed"]
)
@pytest.mark.parametrize("seen", [WELL, []], ids=["verified", "inconclusive"])
def test_the_verification_of_what_turns_out_to_be_no_rollback_is_taken_back(
    later: Value, reason: str, seen: list[Value]
) -> None:
    handled = told(*seen, DEADLINE, later)
    [gone] = handled.standing
    before = len(handled.written)
    handled.tell(later, tick(at(90)))

    assert (gone["verdict"], gone["reason"], gone["deployment_id"]) == ("ok", reason, "undo")
    assert {f["finding_id"] for f in handled.written[before:]} == {gone["finding_id"]}


@pytest.mark.requirement("M2.5", "M4.6")
def test_a_rollback_that_is_voided_before_its_deadline_is_not_verified() -> None:
    assert told(*WELL, VOIDED, DEADLINE, tick(at(90))).findings == []


@pytest.mark.requirement("M2.5", "M4.6")
def test_a_rollback_that_did_succeed_after_all_is_verified_anew() -> None:
    succeeded = event("succeeded", at(55), deployment_id="undo", kind="rollback", rollback_of="shop-2")
    handled = told(*WELL, DEADLINE, FAILED, succeeded, tick(at(120)))

    assert [f["reason"] for f in handled.findings] == ["rollback_verified", "no_rollback_after_all", "not_seen_running"]
    assert verdict(handled)[1] == "not_seen_running"
