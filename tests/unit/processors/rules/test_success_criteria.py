"""What makes a deployment a success: each criterion holds, does not, or cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.policies import Policies, SuccessCriteria, read_document, success_criteria_for
from deploytrail_processors.rules.policies.success import NoIncident, RollbackRate
from deploytrail_processors.rules.success_criteria import Change, Incident, Known, due, judge
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, event

YEARS_LATER = NOON + 7 * 365 * 24 * 60 * MINUTE
PLACE = {
    "service": "shop",
    "environment": "production",
    "region": "eu-west-1",
    "kind": "release",
    "team": "",
    "tier": "",
}


def content(minutes: float = 10, what: str = "succeeded", **fields: Any) -> dict[str, Any]:
    facts = lifecycle.new_facts("shop-1")
    for kind, at in (("started", NOON), (what, NOON + int(minutes * MINUTE))):
        facts = lifecycle.add(facts, event(kind, at, **fields))
    return lifecycle.derive(facts, 0, None)


def verdict(criteria: SuccessCriteria | None, record: dict[str, Any] | None = None, **known: Any) -> tuple[str, str]:
    found = judge(record or content(), Known(**known), criteria, ("success_criteria/a/1",), now=YEARS_LATER)
    assert found is not None
    return found["verdict"], found["reason"]


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("succeeded", ("ok", "criteria_met")),
        ("failed", ("violation", "deployment_failed")),
        ("rolled_back", ("violation", "deployment_rolled_back")),
        ("cancelled", ("inconclusive", "deployment_cancelled")),
    ],
)
def test_without_a_policy_its_own_outcome_is_the_verdict(what: str, expected: tuple[str, str]) -> None:
    assert verdict(SuccessCriteria(), content(what=what)) == expected


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize(
    ("minutes", "uncertainty_ms", "expected"),
    [
        (10, 0, ("ok", "criteria_met")),
        (10.01, 0, ("violation", "took_too_long")),
        (9.99, 1_000, ("inconclusive", "duration_within_uncertainty")),
        (10.01, 1_000, ("inconclusive", "duration_within_uncertainty")),
        (11, 1_000, ("violation", "took_too_long")),
    ],
)
def test_a_deployment_may_take_so_long(minutes: float, uncertainty_ms: int, expected: tuple[str, str]) -> None:
    record = content(minutes, uncertainty_ms=uncertainty_ms)

    assert verdict(SuccessCriteria(max_duration_minutes=10), record) == expected


def test_a_duration_that_nobody_knows_is_not_ok() -> None:
    facts = lifecycle.add(lifecycle.new_facts("shop-1"), event("succeeded", NOON))
    record = lifecycle.derive(facts, 0, None)

    assert verdict(SuccessCriteria(max_duration_minutes=10), record) == ("inconclusive", "duration_unknown")
    assert verdict(SuccessCriteria(incident=NoIncident()), record) == ("inconclusive", "start_unknown")


def changes(undone: int, of: int, *, undone_after: float = 1) -> list[Change]:
    """Changes before the one that is judged, and that one; the first of them were undone so soon after its end."""
    end = NOON + 10 * MINUTE
    at = end + int(undone_after * MINUTE)
    before = [Change(end - (n + 1) * 60 * MINUTE, f"old-{n}", at if n < undone else None) for n in range(of - 1)]
    return [*before, Change(end, "shop-1")]


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize(
    ("undone", "of", "expected"),
    [
        (1, 10, ("ok", "criteria_met")),
        (2, 10, ("violation", "too_many_rollbacks")),
        (2, 9, ("inconclusive", "too_few_deployments")),
        (0, 9, ("inconclusive", "too_few_deployments")),
    ],
)
def test_of_the_changes_of_its_service_so_many_may_be_undone(undone: int, of: int, expected: tuple[str, str]) -> None:
    criteria = SuccessCriteria(rollback_rate=RollbackRate(10, deployments=20), incident=NoIncident())

    assert verdict(criteria, changes=changes(undone, of)) == expected


def test_what_is_undone_after_the_observation_and_what_ended_later_does_not_count() -> None:
    criteria = SuccessCriteria(rollback_rate=RollbackRate(10, deployments=20, minimum=5), incident=NoIncident())
    later = [Change(NOON + n * 60 * MINUTE, f"later-{n}", NOON + n * 61 * MINUTE) for n in range(1, 30)]

    assert verdict(criteria, changes=changes(5, 10, undone_after=61)) == ("ok", "criteria_met")
    assert verdict(criteria, changes=[*changes(0, 10), *later]) == ("ok", "criteria_met")
    assert verdict(criteria, changes=changes(5, 10, undone_after=60)) == ("violation", "too_many_rollbacks")


def test_a_rate_looks_at_the_last_changes_or_days_alone() -> None:
    # The oldest 5 of 20 were undone; each lies an hour before the next.
    old_ones = [Change(c.ended_at, c.id, NOON if n >= 14 else None) for n, c in enumerate(changes(0, 20))]
    ten, all_of_them = RollbackRate(10, deployments=10), RollbackRate(10, deployments=20)
    day = RollbackRate(10, days=1)

    assert verdict(SuccessCriteria(rollback_rate=ten), changes=old_ones) == ("ok", "criteria_met")
    assert verdict(SuccessCriteria(rollback_rate=all_of_them), changes=old_ones)[0] == "violation"
    assert verdict(SuccessCriteria(rollback_rate=day), changes=old_ones)[0] == "violation"
    long_ago = [Change(c.ended_at - 24 * 60 * MINUTE, c.id, c.undone_at) for c in old_ones[:-1]]
    assert verdict(SuccessCriteria(rollback_rate=day), changes=long_ago) == ("inconclusive", "too_few_deployments")


def incident(minutes: float, probability: float = 0.9, severity: str = "error", width: int = 0) -> Incident:
    return Incident("f-1", NOON + int((10 + minutes) * MINUTE), width, severity, probability, "HighErrorRate")


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (incident(30), ("violation", "incident_correlated")),
        (incident(30, severity="critical"), ("violation", "incident_correlated")),
        (incident(30, severity="warning"), ("ok", "criteria_met")),
        (incident(-5), ("violation", "incident_correlated")),
        (incident(61), ("ok", "criteria_met")),
        (incident(30, 0.49), ("inconclusive", "incident_possibly_correlated")),
        (incident(30, 0.2), ("ok", "criteria_met")),
        (incident(59.99, width=2_000_000), ("inconclusive", "incident_possibly_correlated")),
    ],
)
def test_no_incident_that_it_has_likely_caused_may_follow(found: Incident, expected: tuple[str, str]) -> None:
    assert verdict(SuccessCriteria(incident=NoIncident()), incidents=[found]) == expected


@pytest.mark.requirement("M1.4")
def test_every_criterion_is_told_and_the_incident_cited() -> None:
    criteria = SuccessCriteria(10, RollbackRate(10, deployments=20), NoIncident())
    found = judge(content(), Known(changes=changes(0, 3), incidents=[incident(3)]), criteria, ("a",), now=YEARS_LATER)

    assert found is not None
    assert found["evidence"] == {
        "criteria": "outcome,duration,rollback_rate,incident",
        "ended_at": "2026-11-02T12:10:00+00:00",
        "decided_at": "2026-11-02T13:10:00+00:00",
        "outcome": "met: it succeeded",
        "duration": "met: 10.0 of at most 10 minutes",
        "rollback_rate": "cannot be told: 0 of 3 changes (the last 20) rolled back, at most 10 %; "
        "10 changes are needed to tell",
        "incident": "missed: error HighErrorRate 3.0 minutes after its end, 90% likely caused by it",
        "incident_finding": "f-1",
    }
    assert (found["verdict"], found["policy_version"]) == ("violation", "a")


def test_nothing_is_said_before_it_was_observed_but_for_a_standing_verdict_that_has_become_wrong() -> None:
    criteria, known = SuccessCriteria(incident=NoIncident()), Known()
    when = due(content(), criteria)
    rolled_back = Known(undone_at=NOON + 20 * MINUTE)

    assert when == NOON + 70 * MINUTE
    assert judge(content(), known, criteria, (), now=when - 1) is None
    assert judge(content(), rolled_back, criteria, (), now=when - 1) is None
    assert judge(content(), known, criteria, (), now=when - 1, stands=True) is None
    early = judge(content(), rolled_back, criteria, (), now=when - 1, stands=True)
    assert early is not None
    assert early["reason"] == "deployment_rolled_back"


def test_the_narrowest_policy_counts_and_an_invalid_one_lets_nobody_tell() -> None:
    general = {"kind": "success_criteria", "name": "a", "spec": {"max_duration_minutes": 30}}
    narrow = {
        "kind": "success_criteria",
        "name": "b",
        "spec": {"max_duration_minutes": 60, "scope": {"services": ["shop"]}},
    }
    invalid = {"kind": "success_criteria", "name": "c", "spec": {"rollback_rate": {"max_percent": 200}}}
    chosen, asked = success_criteria_for(PLACE, Policies(tuple(read_document(d) for d in (general, narrow))))
    broken, nothing = success_criteria_for(PLACE, Policies(tuple(read_document(d) for d in (general, invalid))))

    assert ([d.name for d in chosen], asked and asked.max_duration_minutes) == (["b"], 60)
    assert ([d.name for d in broken], nothing) == (["c"], None)
    assert verdict(None) == ("inconclusive", "policy_invalid")
    assert verdict(None, content(what="failed")) == ("violation", "deployment_failed")


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({}, "max_duration_minutes"),
        ({"rollback_rate": {"deployments": 5}}, "rollback_rate.max_percent"),
        ({"rollback_rate": {"max_percent": 5}}, "rollback_rate.deployments"),
        ({"rollback_rate": {"max_percent": 5, "deployments": 5, "days": 5}}, "rollback_rate.deployments"),
        ({"rollback_rate": {"max_percent": 5, "deployments": 5, "minimum": 6}}, "rollback_rate.minimum"),
        ({"incident": {"severity": "bad"}}, "incident.severity"),
        ({"incident": {"within_minutes": 361}}, "incident.within_minutes"),
        ({"health": {"within_minutes": 241}}, "health.within_minutes"),
        ({"health": {"until": 3}}, "health.until"),
    ],
)
def test_what_a_policy_may_not_say(spec: dict[str, Any], wrong: str) -> None:
    document = read_document({"kind": "success_criteria", "name": "a", "spec": spec})

    assert [problem.path for problem in document.problems] == [f"spec.{wrong}"]


@given(
    st.lists(
        st.builds(Change, st.integers(NOON - 10**10, NOON + 10**10), st.uuids().map(str), st.none() | st.just(NOON)),
        max_size=30,
    ),
    st.randoms(),
)
def test_the_order_in_which_changes_and_incidents_are_known_does_not_matter(known: list[Change], random: Any) -> None:
    incidents = [incident(n, n / 20) for n in range(20)]
    criteria = SuccessCriteria(10, RollbackRate(10, deployments=20, minimum=3), NoIncident())
    first = judge(content(), Known(changes=known, incidents=incidents), criteria, (), now=YEARS_LATER)
    random.shuffle(known)
    random.shuffle(incidents)

    assert judge(content(), Known(changes=known, incidents=incidents), criteria, (), now=YEARS_LATER) == first
