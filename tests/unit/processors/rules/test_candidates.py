"""What an alert says of itself counts for and against changes: its cohort, what runs there, the incident it is of."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.candidates import (
    COHORTS,
    MOST_WEIGHTS,
    cohorts_at,
    find_candidates,
    labels_of,
    said_by,
    weights_with,
)
from deploytrail_processors.rules.causes import Fit
from deploytrail_processors.rules.correlation import Past, correlate
from deploytrail_processors.rules.policies import Policies, read_document
from support.values import MINUTE, NOON, event, signal

DEPENDS = Policies((read_document({"kind": "service", "name": "shop", "spec": {"depends_on": ["cart"]}}),))
DIGEST = "sha256:" + "1" * 64


def deploy(name: str, minutes: float, **fields: Any) -> list[dict[str, Any]]:
    """A deployment that began so many minutes before noon and took one."""
    begin = NOON - int(minutes * MINUTE)
    return [event("started", begin, deployment_id=name, **fields),
            event("succeeded", begin + MINUTE, deployment_id=name, **fields)]  # fmt: skip


def content(events: list[dict[str, Any]], at: int = NOON) -> dict[str, Any]:
    facts, weights = lifecycle.new_facts(events[0]["deployment_id"]), []
    for one in events:
        facts, weights = lifecycle.add(facts, one), weights_with(weights, one)
    return lifecycle.derive(facts, NOON, 1440) | {COHORTS: cohorts_at(facts, weights, at)}


def answer(*deployments: list[dict[str, Any]], beside: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    known = [content(events) for events in deployments]
    return {f["deployment_id"]: f for f in correlate(signal(**fields), known, DEPENDS, Past(beside=beside))}


CANARY = [event("started", NOON - 5 * MINUTE, deployment_id="d", cohort="canary", cohort_weight=0.05)]
STABLE = deploy("e", 5)


@pytest.mark.requirement("M4.3")
def test_an_alert_of_a_small_cohort_accuses_what_changed_that_cohort() -> None:
    unsaid, canary, stable = (
        answer(CANARY, STABLE, labels=labels) for labels in ({}, {"cohort": "canary"}, {"cohort": "stable"})
    )

    assert unsaid["d"]["probability"] == pytest.approx(unsaid["e"]["probability"], abs=0.05)
    assert canary["d"]["probability"] > 0.9
    assert "for it: the alert comes from its cohort canary" in canary["d"]["explanation"]
    assert stable["e"]["probability"] > 0.8 > 0.1 > stable["d"]["probability"]
    assert "against it: the alert comes from stable, it had only changed canary" in stable["d"]["explanation"]
    assert stable["d"]["evidence"]["alert_says"].startswith("the alert comes from stable")


def test_the_smaller_the_cohort_the_more_its_alert_says() -> None:
    ratios = [Fit(True, share).ratio for share in (0.0, 0.05, 0.5, 1.0)]

    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == 1.0  # everything is changed: an alert from there says nothing
    assert ratios[0] < 100  # and nothing is certain
    assert Fit(True).ratio == Fit(True, 0.5).ratio
    assert Fit().ratio == 1.0


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize(
    "labels",
    [
        {"deployment_id": "d1"},
        {"artifact_digest": DIGEST},
        {"version": "v1.4.0"},
        {"commit_sha": "0a1b2c3d"},
        {"deployment_id": "d1", "version": "1.4.0", "artifact_digest": DIGEST},
    ],
    ids=lambda labels: "+".join(labels),
)
def test_an_alert_that_names_a_change_accuses_that_one(labels: dict[str, str]) -> None:
    named = deploy("d1", 8, version="1.4.0", artifact_digest=DIGEST, commit_sha="0a1b2c3d" * 5)
    newer = deploy("d2", 4, version="1.5.0", artifact_digest="sha256:" + "2" * 64, commit_sha="9f" * 20)
    unsaid, said = answer(named, newer), answer(named, newer, labels=labels)

    assert unsaid["d2"]["probability"] > unsaid["d1"]["probability"]
    assert said["d1"]["probability"] > 0.8 > 0.2 > said["d2"]["probability"]
    assert "; for it: the alert" in said["d1"]["explanation"]
    assert "; against it: the alert" in said["d2"]["explanation"]


@pytest.mark.parametrize("labels", [{"version": "v1"}, {"deployment_id": "rs-77"}, {"commit_sha": "77777777"}])
def test_a_name_of_another_vocabulary_accuses_and_clears_nobody(labels: dict[str, str]) -> None:
    known = deploy("d", 5, version="2026.11.2", commit_sha="0a1b2c3d" * 5)
    unsaid, said = answer(known), answer(known, labels=labels)

    assert said["d"]["probability"] == unsaid["d"]["probability"]
    assert "alert_says" not in said["d"]["evidence"]


def test_once_everything_runs_a_version_an_alert_of_it_accuses_nobody_more() -> None:
    ended, running = deploy("d", 5, version="1.5.0"), deploy("d", 5, version="1.5.0")[:1]
    unsaid, said = (
        [answer(events, labels=labels)["d"]["probability"] for events in (ended, running)]
        for labels in ({}, {"version": "1.5.0"})
    )

    assert said[0] == unsaid[0]
    assert said[1] > unsaid[1]


def test_an_alert_of_what_ran_before_clears_what_came_then() -> None:
    known = deploy("d", 5, version="1.5.0", previous_version="1.4.0")

    assert answer(known, labels={"version": "1.4.0"})["d"]["probability"] < answer(known)["d"]["probability"]


def test_what_runs_at_the_alerts_service_says_nothing_of_what_it_depends_on() -> None:
    own, dependency = deploy("own", 5, version="1.4.0"), deploy("dep", 5, service="cart", version="9.0.0")
    shares = []
    for labels in ({}, {"version": "1.4.0"}):
        [one] = [c for c in find_candidates(signal(labels=labels), [content(own), content(dependency)], DEPENDS)
                 if c.id == "dep"]  # fmt: skip
        assert one.change is not None
        shares.append((one.change.evidence, one.told))

    assert shares == [(1.0, "")] * 2
    named = answer(own, dependency, labels={"deployment_id": "dep"})
    assert named["dep"]["probability"] > named["own"]["probability"]


@pytest.mark.requirement("M4.3")
def test_a_cohort_counts_as_it_was_when_the_alert_came() -> None:
    steps = [(-30, "canary", 0.05), (-20, "canary", 0.2), (-10, "stable", 0.8)]
    rollout = [
        event("progressed", NOON + m * MINUTE, deployment_id="d", cohort=c, cohort_weight=w) for m, c, w in steps
    ]
    rollout.append(event("succeeded", NOON, deployment_id="d"))

    def begun(minutes: float, events: list[dict[str, Any]] = rollout) -> dict[str, float | None]:
        return content(events, NOON + int(minutes * MINUTE))[COHORTS]

    assert begun(-31) == {}
    assert begun(-25) == {"canary": 0.05}
    assert begun(-15) == {"canary": 0.2}
    assert begun(-5) == {"canary": 0.2, "stable": 0.8}
    assert begun(5) == {"canary": 0.2, "stable": 0.8, "": 1.0}
    for seed in range(5):
        shuffled = [*rollout, rollout[0]]
        Random(seed).shuffle(shuffled)
        assert [begun(m, shuffled) for m in (-25, -15, 5)] == [begun(m) for m in (-25, -15, 5)]


def test_once_the_whole_is_changed_cohorts_say_nothing() -> None:
    promoted = [*CANARY, event("succeeded", NOON - 2 * MINUTE, deployment_id="d")]
    unsaid, said = (answer(promoted, labels=labels) for labels in ({}, {"cohort": "stable"}))

    assert said["d"]["probability"] == unsaid["d"]["probability"]


@pytest.mark.requirement("M4.3")
def test_what_changed_where_the_incident_is_may_be_the_cause_everywhere_in_it() -> None:
    elsewhere = deploy("d", 5, service="ledger")
    alone = answer(elsewhere, incident_id="INC-1")
    together = answer(elsewhere, beside=("ledger",), incident_id="INC-1")

    assert list(alone) == [""]
    assert (together["d"]["reason"], together["d"]["rank"]) == ("changed_where_the_incident_is", 1)
    assert "changed ledger, where another alert of the incident INC-1 is" in together["d"]["explanation"]
    assert together["d"]["evidence"]["incident_id"] == "INC-1"
    own = answer(deploy("own", 5), elsewhere, beside=("ledger",), incident_id="INC-1")
    assert own["own"]["probability"] > own["d"]["probability"]


def test_what_is_kept_of_labels_and_weights_is_bounded() -> None:
    labels = {"version": "9" * 10_000, "cohort": "canary", "pod": "x", "deployment_id": ""}
    weights: list[list[Any]] = []
    for n in range(MOST_WEIGHTS + 40):
        weights = weights_with(weights, event("progressed", NOON + n, cohort="canary", cohort_weight=n / 1000))

    nothing = event("progressed", NOON, cohort="canary", cohort_weight=float("nan"))
    assert weights_with([], nothing) == []
    assert said_by(signal(incident_id="I" * 10_000)) == {"labels": {}, "incident_id": "I" * 256}
    assert labels_of(signal(labels=labels)) == {"version": "9" * 256, "cohort": "canary"}
    assert [weight[0] for weight in weights] == [NOON + n for n in range(MOST_WEIGHTS)]


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize("region", ["global", "ALL", "*"])
def test_what_is_changed_everywhere_is_changed_in_the_alerts_region(region: str) -> None:
    switched = [event("succeeded", NOON - 2 * MINUTE, deployment_id="flag", kind="feature_flag", region=region)]
    found = answer(switched)

    assert (found["flag"]["rank"], found["flag"]["reason"]) == (1, "deployed_shortly_before")
    assert "changed the service itself in every region" in found["flag"]["explanation"]
    assert list(answer([switched[0] | {"environment": "staging"}])) == [""]
    assert list(answer([switched[0] | {"region": "us-east-1"}])) == [""]


def test_a_cohort_that_is_only_announced_has_changed_nothing_yet() -> None:
    announced = event("queued", NOON - 9 * MINUTE, deployment_id="d", cohort="stable", cohort_weight=0.95)
    began = event("started", NOON - MINUTE, deployment_id="d", cohort="stable")

    assert content([announced, *CANARY])[COHORTS] == {"canary": 0.05}
    assert content([announced, *CANARY, began])[COHORTS] == {"canary": 0.05, "stable": 0.95}
    assert answer([announced, *CANARY], STABLE, labels={"cohort": "canary"})["d"]["probability"] > 0.9
