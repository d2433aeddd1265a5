"""Correlation: candidates by intervals, probabilities that sum to one, and the answer none."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.correlation import concerns, correlate, supersede
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, event, signal

DEPENDS = Policies((read_document({"kind": "service", "name": "shop", "spec": {"depends_on": ["cart"]}}),))
ALERT = signal()


def deployment(
    name: str, minutes_before: float, lasting: float = 1, uncertainty_ms: int = 0, **fields: Any
) -> dict[str, Any]:
    """A deployment that ended so many minutes before the alert."""
    end = NOON - int(minutes_before * MINUTE)
    facts = lifecycle.new_facts(name)
    for kind, at in (("started", end - int(lasting * MINUTE)), ("succeeded", end)):
        facts = lifecycle.add(facts, event(kind, at, deployment_id=name, uncertainty_ms=uncertainty_ms, **fields))
    return lifecycle.derive(facts, NOON, 1440)


def answer(*deployments: dict[str, Any], policies: Policies = DEPENDS) -> dict[str, dict[str, Any]]:
    return {found["deployment_id"]: found for found in correlate(ALERT, deployments, policies)}


@pytest.mark.requirement("M4.3", "M6.2")
def test_the_nearer_change_of_the_service_itself_ranks_first() -> None:
    found = answer(deployment("near", 2), deployment("far", 12), deployment("dependency", 2, service="cart"))

    assert [found[name]["rank"] for name in ("near", "dependency", "far", "")] == [1, 2, 3, 4]
    assert found["near"]["probability"] > 0.5
    assert found["near"]["verdict"] == "violation"
    assert found["dependency"]["reason"] == "dependency_deployed_shortly_before"


def test_with_no_candidate_the_answer_is_none() -> None:
    found = answer()

    assert list(found) == [""]
    assert (found[""]["probability"], found[""]["verdict"], found[""]["rank"]) == (1.0, "ok", 1)


@pytest.mark.parametrize(
    "other",
    [
        deployment("elsewhere", 2, region="us-east-1"),
        deployment("staging", 2, environment="staging"),
        deployment("unrelated", 2, service="search"),
        deployment("long-ago", 16),
        deployment("afterwards", -3),
    ],
    ids=lambda content: content["deployment_id"],
)
def test_what_cannot_be_the_cause_is_no_candidate(other: dict[str, Any]) -> None:
    assert list(answer(other)) == [""]


@pytest.mark.requirement("M6.2")
def test_clocks_that_cannot_tell_make_it_possible_only() -> None:
    certain, possible = answer(deployment("d", 14.5))["d"], answer(deployment("d", 15.5, uncertainty_ms=60_000))["d"]

    assert certain["evidence"]["timing"] == "certain"
    assert (possible["evidence"]["timing"], possible["reason"]) == ("possible", "deployed_possibly_before")
    assert possible["probability"] < certain["probability"]


def test_a_deployment_that_still_runs_is_a_candidate() -> None:
    facts = lifecycle.add(lifecycle.new_facts("running"), event("started", NOON - 40 * MINUTE, deployment_id="running"))
    found = answer(lifecycle.derive(facts, NOON, 1440))

    assert found["running"]["evidence"]["lag_minutes"] == "0.00"


def test_policy_changes_the_window() -> None:
    hour = {"kind": "thresholds", "name": "default", "spec": {"correlation_window_minutes": 60}}

    assert "old" in answer(deployment("old", 40), policies=Policies((read_document(hour),)))


def test_our_own_pages_ask_for_no_cause() -> None:
    assert concerns(ALERT)
    assert not concerns(signal(source="deploytrail"))
    assert not concerns(signal("alert_resolved"))


@given(st.lists(st.tuples(st.floats(-2, 20), st.floats(0, 30), st.integers(0, 90_000)), max_size=6))
def test_probabilities_sum_to_one(given_ones: list[tuple[float, float, int]]) -> None:
    found = correlate(ALERT, [deployment(str(i), *one) for i, one in enumerate(given_ones)], DEPENDS)

    assert sum(f["probability"] for f in found) == pytest.approx(1, abs=1e-5)
    assert sorted(f["rank"] for f in found) == list(range(1, len(found) + 1))
    for one in found:
        encode(RecordType.FINDING, one)


def test_a_late_deployment_supersedes_the_answer() -> None:
    first = answer(deployment("d", 2))
    written = supersede(first, correlate(ALERT, [deployment("d", 2), deployment("late", 1)], DEPENDS))
    by_id = {f["deployment_id"]: f for f in written}

    assert by_id["d"]["supersedes"] == first["d"]["finding_id"]
    assert by_id[""]["supersedes"] == first[""]["finding_id"]
    assert by_id["late"].get("supersedes", "") == ""


def test_the_same_answer_is_not_written_again() -> None:
    found = correlate(ALERT, [deployment("d", 2)], DEPENDS)

    assert supersede({f["deployment_id"]: f for f in found}, found) == []


def test_a_candidate_that_turns_out_impossible_is_taken_back() -> None:
    first = answer(deployment("d", 2))
    written = {f["deployment_id"]: f for f in supersede(first, correlate(ALERT, [], DEPENDS))}

    assert (written["d"]["probability"], written["d"]["reason"]) == (0.0, "no_longer_a_candidate")
    assert written[""]["probability"] == 1.0


def test_seconds_are_enough_to_be_excluded() -> None:
    assert list(answer(deployment("d", 15 + 1 / 60))) == [""]
    assert "d" in answer(deployment("d", 15 - 1 / 60))
