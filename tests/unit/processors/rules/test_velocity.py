"""Change budget and bursts: decided by partition time, with the counts that led to it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.rules import velocity
from deploytrail_processors.rules.findings import Finding
from deploytrail_processors.rules.policies import Document, Policies, Velocity, read_document
from support.values import MINUTE, NOON, event

PLACE = {"region": "eu-west-1", "environment": "production", "service": "shop", "team": "", "tier": ""}


def policy(**spec: Any) -> Document:
    return read_document({"kind": "velocity", "name": "usual", "spec": spec})


def starts_of(*events: dict[str, Any]) -> velocity.Starts:
    starts: velocity.Starts = {}
    for one in events:
        starts = velocity.with_event(starts, one)
    return starts


def deployed(*minutes: int, **fields: Any) -> list[dict[str, Any]]:
    return [event("started", NOON + minute * MINUTE, deployment_id=f"d{minute}", **fields) for minute in minutes]


def judged(
    events: list[dict[str, Any]], document: Document, now: int, standing: Finding | None = None
) -> Finding | None:
    assert isinstance(document.spec, Velocity)
    [limit] = velocity.limits_of(document.spec)
    return velocity.judge(starts_of(*events), document, standing, limit, PLACE, now=NOON + now * MINUTE)


@pytest.mark.requirement("M1.6")
@pytest.mark.parametrize(
    ("minutes", "now", "over"),
    [
        ((0, 10), 20, False),
        ((0, 10, 20), 20, True),
        ((0, 10, 20), 59, True),
        ((0, 10, 20), 60, False),  # the first has passed out of the hour
        ((0, 10, 20), 15, False),  # the third has not begun yet
        ((0, 70, 140), 140, False),
    ],
)
def test_a_budget_counts_the_time_before_partition_time(minutes: tuple[int, ...], now: int, over: bool) -> None:
    found = judged(deployed(*minutes), policy(budget=2, budget_minutes=60), now)

    assert (found is not None) == over


@pytest.mark.requirement("M1.6")
def test_a_finding_names_the_counts_that_led_to_it_and_is_taken_back_when_they_pass() -> None:
    events, document = deployed(0, 10, 20), policy(burst=3, burst_minutes=30)
    found = judged(events, document, 20)
    assert found is not None

    assert (found["rule"], found["reason"]) == ("change_burst", "burst_of_changes")
    assert found["evidence"] == {
        "count": "3",
        "allowed": "2",
        "minutes": "30",
        "first": "2026-11-02T12:00:00+00:00",
        "last": "2026-11-02T12:20:00+00:00",
        "deployments": "d0, d10, d20",
    }
    assert found["policy_version"] == "velocity/usual/1"
    assert judged(events, document, 25, found) is None  # said already
    due = velocity.next_change(starts_of(*events), document, {"change_burst": found}, NOON + 25 * MINUTE)
    assert due == NOON + 30 * MINUTE
    over = judged(events, document, 30, found)
    assert over is not None
    assert (over["verdict"], over["reason"], over["supersedes"]) == ("ok", "burst_over", found["finding_id"])


def test_a_deployment_counts_once_and_a_voided_one_or_a_child_does_not() -> None:
    document = policy(budget=1, budget_minutes=60)
    cohorts = [event("started", NOON + n * MINUTE, deployment_id="d", cohort=f"c{n}") for n in range(3)]
    child = event("started", deployment_id="e", parent_deployment_id="d")
    other = event("started", deployment_id="f")
    voided = event("voided", NOON + MINUTE, deployment_id="f")

    assert judged([*cohorts, child], document, 5) is None
    assert judged([*cohorts, other], document, 5) is not None
    assert judged([*cohorts, other, voided], document, 5) is None


def test_kinds_of_the_scope_say_what_counts() -> None:
    document = policy(budget=1, budget_minutes=60, scope={"kinds": ["release"]})

    assert judged(deployed(0, 10, kind="configuration_change"), document, 20) is None
    assert judged(deployed(0, 10, kind="release"), document, 20) is not None
    assert velocity.policy_for(PLACE, Policies((document,))) == document


def test_the_narrowest_policy_counts() -> None:
    wide = read_document({"kind": "velocity", "name": "a", "spec": {"budget": 1}})
    spec = {"budget": 9, "scope": {"services": ["shop"], "environments": ["production"]}}
    narrow = read_document({"kind": "velocity", "name": "b", "spec": spec})

    assert velocity.policy_for(PLACE, Policies((wide, narrow))) == narrow
    assert velocity.policy_for(PLACE | {"service": "cart"}, Policies((wide, narrow))) == wide
    assert velocity.policy_for(PLACE | {"service": "cart"}, Policies((narrow,))) is None


def test_starts_do_not_depend_on_the_order_of_the_reports() -> None:
    events = [
        event("started", NOON, deployment_id="d", kind="release"),
        event("succeeded", NOON + MINUTE, deployment_id="d", kind="unknown"),
        event("voided", NOON + 2 * MINUTE, deployment_id="d"),
        event("started", NOON + MINUTE, deployment_id="e"),
    ]
    found = [starts_of(*order, *order[:2]) for order in permutations(events)]

    kept = {"d": [NOON, "release", NOON + 2 * MINUTE], "e": [NOON + MINUTE, "", 0]}
    assert all(starts == kept for starts in found)


def test_state_is_bounded() -> None:
    many = starts_of(*(event("started", NOON + n, deployment_id=str(n)) for n in range(velocity.MOST_STARTS + 5)))

    assert len(many) == velocity.MOST_STARTS
    assert "4" not in many
    assert velocity.without_old(many, NOON + velocity.KEEP + 10_000) == {}


@pytest.mark.requirement("M1.6")
@pytest.mark.parametrize(
    ("minutes", "fullest"),
    [((0, 1, 2, 3, 11, 12), ["d0", "d1", "d2", "d3"]), ((0, 8, 9, 10, 11), ["d10", "d11", "d8", "d9"])],
)
def test_of_bursts_that_touch_the_fullest_is_told(minutes: tuple[int, ...], fullest: list[str]) -> None:
    document = policy(burst=3, burst_minutes=10)
    found, spans = velocity.heard_of_late(
        starts_of(*deployed(*minutes)),
        velocity.BURST,
        lambda _: document,
        PLACE,
        [],
        since=NOON,
        now=NOON + 60 * MINUTE,
    )
    reached, over = found

    assert sorted(reached["evidence"]["deployments"].split(", ")) == fullest
    assert over["supersedes"] == reached["finding_id"]
    assert spans == [[NOON, NOON + minutes[-1] * MINUTE]]
