"""The blast radius of a deployment: who stood on it when it began, how much of it, and what is not known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from deploytrail_processors.apps.impact import Impact
from deploytrail_processors.rules.graph import Graph
from deploytrail_processors.rules.impact import MOST_NAMED
from hypothesis import given
from hypothesis import strategies as st
from support.apps import Handled
from support.values import MINUTE, NOON, event

Value = dict[str, Any]
SERVICES = {
    "db": [],
    "shop": ["db"],
    "checkout": ["shop"],
    "web": ["checkout", "shop"],
    "reports": [],
}
TIERS = {"checkout": 1, "web": 1, "shop": 2}


def service(name: str, since: str = "", **spec: Any) -> Value:
    return {"kind": "service", "name": name, "spec": spec} | ({"effective_from": since} if since else {})


def company() -> list[Value]:
    return [
        service(name, depends_on=needs, **({"tier": TIERS[name]} if name in TIERS else {}))
        for name, needs in SERVICES.items()
    ]


def impact(*events: Value, policies: list[Value] | None = None) -> Value:
    [found] = Handled(Impact, company() if policies is None else policies).tell(*events).standing
    return found


@pytest.mark.requirement("M6.5")
def test_everything_that_stands_on_a_service_is_in_its_blast_radius() -> None:
    found = impact(event("started", service="db", version="9"))

    assert (found["verdict"], found["reason"]) == ("ok", "services_depend_on_it")
    assert found["evidence"]["services"] == "3"
    assert found["evidence"]["named"] == (
        "shop (tier 2); checkout (tier 1, by way of shop); web (tier 1, by way of shop)"
    )
    assert found["evidence"]["tiers"] == "1: 2, 2: 1"
    assert found["explanation"] == (
        "db 9 could hurt 3 services: 1 at first hand, 2 by way of others (tiers: 1: 2, 2: 1)"
    )


@pytest.mark.requirement("M6.5")
def test_the_graph_is_that_of_the_time_of_the_deployment() -> None:
    policies = [
        service("shop"),
        service("web"),
        service("web", since="2026-11-02T13:00:00Z", depends_on=["shop"]) | {"version": 2},
    ]
    before = impact(event("started", NOON), policies=policies)
    after = impact(event("started", NOON + 120 * MINUTE), policies=policies)

    assert before["reason"] == "nothing_depends_on_it"
    assert after["evidence"]["named"] == "web"


@pytest.mark.requirement("M6.5")
def test_a_canary_can_hurt_its_share_alone_and_more_as_more_begins() -> None:
    canary = event("started", cohort="canary", cohort_weight=0.05)
    handled = Handled(Impact, company()).tell(canary)
    handled.tell(event("started", NOON + MINUTE, cohort="half", cohort_weight=0.45))

    first, second = handled.findings
    assert (first["evidence"]["share"], first["evidence"]["cohorts"]) == ("0.05", "canary 0.05")
    assert (second["evidence"]["share"], second["evidence"]["cohorts"]) == ("0.5", "canary 0.05, half 0.45")
    assert second["supersedes"] == first["finding_id"]
    assert "at most 5.0% of what is asked of it, since only canary 0.05 began" in first["explanation"]


def test_a_cohort_without_a_weight_counts_as_everything() -> None:
    found = impact(event("started", cohort="canary"))

    assert found["evidence"]["share"] == "1"


def test_what_no_policy_describes_is_inconclusive_and_not_harmless() -> None:
    found = impact(event("started", service="unheard-of"))

    assert (found["verdict"], found["reason"]) == ("inconclusive", "dependencies_unknown")


def test_cycles_end_and_are_named() -> None:
    ring = [service("shop", depends_on=["cart"]), service("cart", depends_on=["shop"])]
    found = impact(event("started"), policies=ring)

    assert (found["evidence"]["services"], found["evidence"]["in_a_cycle"]) == ("1", "yes")


def test_a_late_event_that_changes_the_place_or_takes_it_back_supersedes() -> None:
    handled = Handled(Impact, company()).tell(event("started", service="reports"))
    handled.tell(event("amended", NOON + MINUTE, service="db"))
    handled.tell(event("voided", NOON + 2 * MINUTE, service="db"))
    handled.tell(event("voided", NOON + 2 * MINUTE, service="db"))

    assert [f["reason"] for f in handled.findings] == [
        "nothing_depends_on_it",
        "services_depend_on_it",
        "deployment_voided",
    ]
    assert all(later["supersedes"] == earlier["finding_id"] for earlier, later in pairwise(handled.findings))
    assert len(handled.written) == 4  # a redelivery is written again


def test_several_names_of_a_deployment_have_one_answer() -> None:
    run = {"build_system": "github_actions", "build_id": "77"}
    handled = Handled(Impact, company()).tell(
        event("started", service="db", deployment_id="github:1", source="github", **run),
        event("started", service="db", deployment_id="lib", source="library", **run),
    )

    assert [(one["deployment_id"], one["reason"]) for one in handled.standing] == [
        ("lib", "services_depend_on_it"),
        ("github:1", "another_name_of_one"),
    ]


def test_other_environments_have_no_blast_radius() -> None:
    assert Handled(Impact, company()).tell(event("started", environment="staging")).findings == []


def test_evidence_is_bounded_however_many_stand_on_it() -> None:
    crowd = [service("shop"), *(service(f"s{n:04}", depends_on=["shop"], tier=n) for n in range(2000))]
    found = impact(event("started"), policies=crowd)

    assert found["evidence"]["services"] == "2000"
    assert found["evidence"]["named"].count(";") == MOST_NAMED - 1
    assert sum(map(len, found["evidence"].values())) < 2000


@given(st.permutations([event("started"), event("amended", NOON + 1, service="db"), event("succeeded", NOON + 2),
                        event("started", NOON + 3, cohort="b", cohort_weight=0.5)]))  # fmt: skip
def test_the_answer_is_the_same_for_every_order(events: list[Value]) -> None:
    found = impact(*events)
    same = impact(*sorted(events, key=lambda e: e["corrected_at"]))

    ignored = {"finding_id", "supersedes"}
    found["evidence"].pop("answer", None), same["evidence"].pop("answer", None)
    assert {k: v for k, v in found.items() if k not in ignored} == {k: v for k, v in same.items() if k not in ignored}


names = st.sampled_from("abcdef")


@given(st.dictionaries(names, st.lists(names, max_size=3).map(tuple)), names)
def test_what_stands_on_a_service_is_what_can_reach_it(needs: dict[str, tuple[str, ...]], start: str) -> None:
    graph = Graph(needs)

    def reaches(service: str, seen: frozenset[str]) -> bool:
        return any(
            name == start or (name not in seen and reaches(name, seen | {name})) for name in needs.get(service, ())
        )

    expected = {name for name in needs if name != start and reaches(name, frozenset({name}))}
    found = graph.stand_on(start)
    assert {one.service for one in found} == expected
    assert [one.depth for one in found] == sorted(one.depth for one in found)
    for one in found:
        assert one.depth <= 2 or graph.distance(one.service, start) is None
        assert one.depth > 2 or graph.distance(one.service, start) == one.depth
