"""Correlation: candidates by intervals, probabilities that sum to one, and the answer none."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.causes import Habit, Link
from deploytrail_processors.rules.correlation import Past, concerns, correlate, link, past_of, supersede
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

    assert [found[name]["rank"] for name in ("near", "far", "dependency", "")] == [1, 2, 3, 4]
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
        deployment("long-ago", 25 * 60),
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


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize("kind", ["feature_flag", "configuration_change"])
def test_a_switch_of_which_only_its_end_is_reported_is_a_candidate(kind: str) -> None:
    at = NOON - 2 * MINUTE
    switched = lifecycle.add(
        lifecycle.new_facts("flag"), event("succeeded", at, deployment_id="flag", kind=kind, uncertainty_ms=1_000)
    )
    found = answer(lifecycle.derive(switched, NOON, 1440))

    assert found["flag"]["reason"] == "deployed_shortly_before"
    assert found["flag"]["probability"] > 0.5
    later = lifecycle.add(lifecycle.new_facts("flag"), event("succeeded", NOON + MINUTE, deployment_id="flag"))
    assert "flag" not in answer(lifecycle.derive(later, NOON, 1440))


def test_policy_changes_the_window() -> None:
    hour = {"kind": "thresholds", "name": "default", "spec": {"correlation_window_minutes": 60}}

    assert "old" in answer(deployment("old", 40), policies=Policies((read_document(hour),)))


@pytest.mark.requirement("M4.2")
def test_each_answer_names_the_policies_that_it_was_judged_by() -> None:
    documents = tuple(
        read_document({"kind": kind, "name": name, "spec": spec} | {"version": version})
        for kind, name, version, spec in (
            ("thresholds", "default", 3, {"correlation_window_minutes": 30}),
            ("service", "shop", 7, {"team": "retail", "depends_on": ["cart"]}),
            ("service", "cart", 2, {"team": "retail"}),
        )
    )
    found = answer(deployment("own", 2), deployment("theirs", 2, service="cart"), policies=Policies(documents))

    assert found["own"]["policy_version"] == found[""]["policy_version"] == "thresholds/default/3, service/shop/7"
    assert found["theirs"]["policy_version"] == "thresholds/default/3, service/shop/7, service/cart/2"
    assert {f["policy_version"] for f in answer(deployment("own", 2), policies=Policies()).values()} == {""}


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


def test_an_answer_that_comes_back_is_another_finding_than_at_first() -> None:
    alone, both = [deployment("d", 2)], [deployment("d", 2), deployment("late", 1)]
    standing: dict[str, dict[str, Any]] = {}
    written = []
    for known in (alone, both, alone, both, alone, alone):
        changed = supersede(standing, correlate(ALERT, known, DEPENDS))
        standing |= {f["deployment_id"]: f for f in changed}
        written.append(changed)
    ids = [f["finding_id"] for changed in written for f in changed]

    assert [len(changed) for changed in written] == [2, 3, 3, 3, 3, 0]
    assert len(ids) == len(set(ids))
    assert standing["d"]["evidence"]["answer"] == "5"
    assert standing["d"]["probability"] == written[0][0]["probability"]


def test_a_candidate_that_turns_out_impossible_is_taken_back() -> None:
    first = answer(deployment("d", 2))
    written = {f["deployment_id"]: f for f in supersede(first, correlate(ALERT, [], DEPENDS))}

    assert (written["d"]["probability"], written["d"]["reason"]) == (0.0, "no_longer_a_candidate")
    assert written[""]["probability"] == 1.0


@pytest.mark.requirement("M6.2")
def test_seconds_decide_whether_it_lies_in_the_window_and_hardly_change_how_likely_it_is() -> None:
    outside, inside = (answer(deployment("d", 15 + s / 60))["d"] for s in (1, -1))

    assert (outside["evidence"]["timing"], outside["reason"]) == ("excluded", "deployed_longer_before")
    assert (inside["evidence"]["timing"], inside["reason"]) == ("certain", "deployed_shortly_before")
    assert outside["probability"] == pytest.approx(inside["probability"], abs=0.01)


def earlier(minutes: float, causes: dict[str, float], at: int = NOON, **fields: Any) -> tuple[dict[str, Any], Any]:
    """A signal so many minutes before, with the probabilities of its causes."""
    return signal(at=at - int(minutes * MINUTE), **fields), causes


def answered(
    *deployments: dict[str, Any],
    before: tuple[tuple[dict[str, Any], Any], ...] = (),
    fired: int = 0,
    days: int = 30,
    of: dict[str, Any] = ALERT,
) -> dict[str, dict[str, Any]]:
    """The answer where this alert fired so often at each hour of the day, in so many days."""
    hours = (fired,) * 24
    habit, everyone = Habit(hours, NOON - days * 1440 * MINUTE), Habit((50,) * 24, NOON - days * 1440 * MINUTE)
    past = past_of(of, before, habit, everyone, DEPENDS)
    return {found["deployment_id"]: found for found in correlate(of, deployments, DEPENDS, past)}


@pytest.mark.requirement("M4.3")
def test_an_alert_that_fires_every_day_blames_a_change_less_than_one_that_never_did() -> None:
    often, never = answered(deployment("d", 5), fired=4)["d"], answered(deployment("d", 5))["d"]

    assert never["probability"] > 0.9 > 0.6 > often["probability"]
    assert "the alert never fired in the 30 days before" in never["explanation"]
    assert "fires by itself about 3.2 times a day" in often["explanation"]


@pytest.mark.requirement("M4.3")
def test_an_alert_that_fires_at_the_same_hour_every_night_is_that_nights_alert() -> None:
    night = signal(at=NOON - 10 * 60 * MINUTE)  # 02:00
    hours = (0, 0, 25, *(0,) * 21)
    habit, everyone = Habit(hours, NOON - 30 * 1440 * MINUTE), Habit((50,) * 24, NOON - 30 * 1440 * MINUTE)
    facts = lifecycle.new_facts("d")
    for kind, minutes in (("started", 20), ("succeeded", 15)):
        facts = lifecycle.add(facts, event(kind, night["corrected_at"] - minutes * MINUTE, deployment_id="d"))
    found = correlate(night, [lifecycle.derive(facts, NOON, 1440)], DEPENDS, Past(habit, everyone))

    assert (found[0]["deployment_id"], found[0]["rank"]) == ("", 1)


@pytest.mark.requirement("M4.3")
def test_a_hotfix_that_comes_after_an_incident_is_not_its_cause() -> None:
    first = earlier(30, {"culprit": 0.95, "": 0.05})
    found = answered(deployment("culprit", 32), deployment("fix", 3, kind="hotfix"), before=(first,))

    assert found["culprit"]["rank"] == 1
    assert found["culprit"]["probability"] > 0.6 > found["fix"]["probability"]
    assert "it likely caused the same alert, 30 minutes before" in found["culprit"]["explanation"]
    assert "it rather answers an incident than causes one" in found["fix"]["explanation"]


def test_a_storm_that_nothing_caused_blames_nobody_for_its_later_alerts() -> None:
    storm = tuple(earlier(1, {"": 1.0}, fingerprint="f1", title=f"t{n}") for n in range(3))

    assert answered(deployment("bystander", 40), before=storm)[""]["rank"] == 1


def test_a_cause_by_way_of_an_earlier_alert_is_named_though_it_changed_something_else() -> None:
    upstream = earlier(2, {"d": 0.99, "": 0.01}, service="cart", fingerprint="f9")
    found = answered(deployment("d", 4, service="ledger"), before=(upstream,))

    assert (found["d"]["reason"], found["d"]["evidence"]["follows_signal"]) == (
        "caused_an_earlier_alert",
        upstream[0]["signal_id"],
    )


def test_what_comes_later_or_is_the_signal_itself_is_no_past() -> None:
    itself, later = earlier(0, {"d": 1.0}), earlier(-1, {"d": 1.0})

    assert past_of(ALERT, (itself, later), Habit(), Habit(), DEPENDS).earlier == ()


@pytest.mark.parametrize(
    ("service", "fingerprint", "expected"),
    [
        ("shop", "f1", Link.SAME_ALERT),
        ("shop", "f2", Link.SAME_SERVICE),
        ("cart", "f1", Link.DEPENDENCY),
        ("search", "f1", Link.ELSEWHERE),
    ],
)
def test_alerts_are_related_by_fingerprint_and_by_dependencies(service: str, fingerprint: str, expected: Link) -> None:
    one = signal(service=service, fingerprint=fingerprint)

    assert link(ALERT, one, DEPENDS) is expected
    assert link(signal(region="us-east-1"), one, DEPENDS) is None
    assert (link(one, ALERT, DEPENDS) is Link.DEPENDENT) == (expected is Link.DEPENDENCY)


@pytest.mark.requirement("M4.3")
def test_a_large_change_and_one_that_failed_are_likelier_causes() -> None:
    small, large = deployment("small", 5), deployment("large", 5) | {"lines_changed": 3000.0}
    failed = deployment("failed", 5) | {"state": "failed"}
    found = answered(small, large, failed)

    assert found["failed"]["probability"] > found["large"]["probability"] > found["small"]["probability"]
    assert "it says itself that it failed" in found["failed"]["explanation"]
