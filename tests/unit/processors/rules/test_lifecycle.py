"""A deployment's record is the same for every order and repetition of what was reported."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from deploytrail_processors.rules.lifecycle import (
    TERMINAL,
    TRANSITIONS,
    Facts,
    add,
    add_approval,
    derive,
    due,
    into,
    is_open,
    merge,
    new_facts,
    overtake,
    undo,
    undoes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.values import MINUTE, NOON, SECOND, approval, event

DAY = 24 * 60.0


def facts_of(*events: dict[str, Any]) -> Facts:
    facts = new_facts("shop-1")
    for one in events:
        facts = add(facts, one)
    return facts


def record_of(*events: dict[str, Any], now: int = NOON + 10 * MINUTE) -> dict[str, Any]:
    return derive(facts_of(*events), now, DAY)


STARTED = event("started", NOON, version="4.2.0", deployer="ann", monotonic_ns=1_000_000_000, boot_id="b1")
PROGRESSED = event("progressed", NOON + 30 * SECOND)
SUCCEEDED = event("succeeded", NOON + 90 * SECOND, monotonic_ns=92_500_000_000, boot_id="b1", exit_code=0)
FAILED = event("failed", NOON + 60 * SECOND, error="probe failed", exit_code=3)


def test_a_deployment_runs_from_start_to_end() -> None:
    record = record_of(STARTED, PROGRESSED, SUCCEEDED)

    assert record["state"] == "succeeded"
    assert record["started_at"] == NOON
    assert record["finished_at"] == NOON + 90 * SECOND
    assert record["version"] == "4.2.0"
    assert record["deployer"] == "ann"
    assert record["exit_code"] == 0
    assert record["event_count"] == 2


def test_duration_prefers_the_monotonic_clock_of_one_boot() -> None:
    assert record_of(STARTED, SUCCEEDED)["duration_ms"] == 91_500
    assert record_of(STARTED, SUCCEEDED | {"boot_id": "b2"})["duration_ms"] == 90_000


@pytest.mark.requirement("M8.3")
def test_an_end_before_its_start_is_no_negative_duration() -> None:
    record = record_of(STARTED | {"monotonic_ns": None}, event("failed", NOON - SECOND))

    assert record["state"] == "failed"
    assert record["duration_ms"] is None
    assert record["finished_at"] >= record["started_at"]


@pytest.mark.requirement("M8.3")
def test_what_began_ended_later_so_uncertain_times_are_cut_to_what_this_allows() -> None:
    start = event("started", NOON, uncertainty_ms=2000, producer_id="runner")
    record = record_of(start, event("succeeded", NOON - SECOND, uncertainty_ms=3000, producer_id="agent"))

    # Within 11:59:58 and 12:00:02, both of them; the end may still be as late as it was.
    assert (record["started_at"], record["started_at_uncertainty_ms"]) == (NOON, 2000)
    assert (record["finished_at"], record["finished_at_uncertainty_ms"]) == (NOON, 2000)
    assert (record["duration_ms"], record["duration_uncertainty_ms"]) == (0, 4000)


@pytest.mark.requirement("M8.3")
def test_the_monotonic_clock_tells_how_uncertain_times_lie_to_each_other() -> None:
    start = event("started", NOON, uncertainty_ms=2000, monotonic_ns=1_000_000_000, boot_id="b1")
    end = event("succeeded", NOON - SECOND, uncertainty_ms=100, monotonic_ns=1_500_000_000, boot_id="b1")
    record = record_of(start, end)

    assert record["duration_ms"] == 500
    assert record["finished_at"] - record["started_at"] == 500_000
    assert record["finished_at"] == NOON - SECOND


@pytest.mark.requirement("M8.3")
def test_where_two_clocks_contradict_each_other_the_less_certain_gives_way_and_says_so() -> None:
    start = event("started", NOON + MINUTE, uncertainty_ms=1000, producer_id="webhook")
    record = record_of(start, event("succeeded", NOON, uncertainty_ms=100))

    assert record["started_at"] == record["finished_at"] == NOON
    assert record["started_at_uncertainty_ms"] == 61_000
    assert record["finished_at_uncertainty_ms"] == 100
    assert record["duration_ms"] is None


TIMES = st.tuples(st.integers(-10 * MINUTE, 10 * MINUTE), st.integers(0, 600_000), st.none() | st.integers(0, 10**12))


@pytest.mark.requirement("M8.3")
@given(TIMES, TIMES)
def test_no_record_ends_before_it_began(start: tuple[int, int, int | None], end: tuple[int, int, int | None]) -> None:
    begun, ended = (
        event(kind, NOON + at, uncertainty_ms=width, monotonic_ns=monotonic, boot_id="b1")
        for kind, (at, width, monotonic) in (("started", start), ("succeeded", end))
    )
    record = record_of(begun, ended)

    assert record == record_of(ended, begun)
    assert record["finished_at"] >= record["started_at"]
    assert record["duration_ms"] is None or record["duration_ms"] >= 0
    assert min(record["started_at_uncertainty_ms"], record["finished_at_uncertainty_ms"]) >= 0


def test_a_failure_says_what_went_wrong() -> None:
    record = record_of(STARTED, FAILED)

    assert (record["state"], record["error"], record["exit_code"]) == ("failed", "probe failed", 3)


def test_a_later_end_corrects_an_earlier_one() -> None:
    assert record_of(STARTED, FAILED, SUCCEEDED)["state"] == "succeeded"


def test_of_two_ends_at_one_time_the_worse_stays() -> None:
    assert record_of(event("succeeded", NOON, source="a"), event("failed", NOON, source="b"))["state"] == "failed"


@pytest.mark.requirement("M2.2")
def test_a_deployment_whose_end_never_comes_is_lost_by_partition_time() -> None:
    facts = facts_of(STARTED)

    assert derive(facts, NOON + 24 * 60 * MINUTE - 1, DAY)["state"] == "running"
    assert derive(facts, due(facts, DAY), DAY)["state"] == "lost"
    assert derive(facts, due(facts, DAY), DAY)["outcome_reason"] == "no_end_reported"


def test_a_late_end_reopens_what_was_lost() -> None:
    late = event("succeeded", NOON + 48 * 60 * MINUTE)

    assert record_of(STARTED, late, now=NOON + 72 * 60 * MINUTE)["state"] == "succeeded"


def test_failed_deployment_can_be_rolled_back() -> None:
    rollback = record_of(
        event("started", NOON, deployment_id="shop-2", kind="rollback", rollback_of="shop-1"),
        event("succeeded", NOON + MINUTE, deployment_id="shop-2"),
    )
    facts = undo(facts_of(STARTED, FAILED), "shop-2", NOON + MINUTE, 5)
    record = derive(facts, NOON + 2 * MINUTE, DAY)

    assert undoes(rollback) == "shop-1"
    assert (record["state"], record["rolled_back_by"]) == ("rolled_back", "shop-2")
    assert record["finished_at"] == NOON + MINUTE


def test_a_rollback_that_has_not_succeeded_undoes_nothing() -> None:
    assert undoes(record_of(event("started", kind="rollback", rollback_of="shop-1"))) is None


def test_voided_wins_over_everything() -> None:
    assert record_of(event("voided"), STARTED, SUCCEEDED)["state"] == "voided"


def test_an_amendment_corrects_a_field_whenever_it_arrives() -> None:
    amended = event("amended", NOON - MINUTE, version="4.2.1")

    assert record_of(amended, STARTED)["version"] == "4.2.1"
    assert record_of(STARTED, amended)["version"] == "4.2.1"


def test_sources_that_disagree_are_shown() -> None:
    webhook = event("started", NOON + SECOND, source="github", version="4.2.0-rc1")
    record = record_of(STARTED, webhook)

    assert record["sources"] == ["github", "library"]
    # Whoever ran it knows best, whoever spoke last.
    assert record["version"] == "4.2.0"
    assert record["conflicts"] == {"version": "github=4.2.0-rc1"}


@pytest.mark.requirement("M2.5")
def test_cohorts_give_one_outcome() -> None:
    canary = [event(k, NOON + i, cohort="canary", cohort_weight=0.1) for i, k in enumerate(("started", "succeeded"))]
    rest = [event(k, NOON + 5 + i, cohort="rest", cohort_weight=0.9) for i, k in enumerate(("started", "succeeded"))]

    assert record_of(*canary)["state"] == "running"
    assert record_of(*canary, rest[0])["state"] == "running"
    assert record_of(*canary, *rest)["state"] == "succeeded"
    assert record_of(*canary, *rest)["outcome_reason"] == "every_cohort_succeeded"
    assert record_of(*canary, *rest)["cohorts"] == {"canary": "succeeded", "rest": "succeeded"}


def test_a_cohort_that_is_a_deployment_of_its_own_ends_by_itself() -> None:
    canary = {"cohort": "canary", "cohort_weight": 0.1, "parent_deployment_id": "shop-0"}

    assert record_of(event("started", **canary), event("succeeded", NOON + 1, **canary))["state"] == "succeeded"


def test_a_failed_cohort_degrades_and_then_fails_the_whole() -> None:
    failed = event("failed", NOON + SECOND, cohort="canary")
    running = event("started", NOON, cohort="rest")

    assert record_of(failed, running)["state"] == "degraded"
    assert record_of(failed, running, event("cancelled", NOON + 2 * SECOND, cohort="rest"))["state"] == "failed"


def test_terminal_states_are_left_only_to_other_ends() -> None:
    for state in TERMINAL:
        assert set(TRANSITIONS[state].values()) <= TERMINAL


def test_only_open_deployments_can_become_lost() -> None:
    assert is_open(facts_of(STARTED))
    assert not is_open(facts_of(STARTED, SUCCEEDED))
    assert not is_open(facts_of(event("registered")))


SIX = [
    event("queued", NOON - SECOND),
    STARTED,
    event("started", NOON + SECOND, source="github", version="9"),
    PROGRESSED,
    FAILED,
    SUCCEEDED,
]


@pytest.mark.requirement("M3.4")
def test_every_permutation_gives_equal_content() -> None:
    expected = record_of(*SIX)

    assert all(record_of(*order) == expected for order in itertools.permutations(SIX))


types = st.sampled_from(["registered", "queued", "started", "progressed", "succeeded", "failed", "cancelled",
                         "rolled_back", "amended"])  # fmt: skip


@st.composite
def reported(draw: st.DrawFn) -> list[dict[str, Any]]:
    events = []
    for number in range(draw(st.integers(1, 8))):
        at = NOON + draw(st.integers(0, 5)) * SECOND
        events.append(
            event(
                draw(types),
                at,
                cohort=draw(st.sampled_from(["", "canary"])),
                source=draw(st.sampled_from("ab")),
                version=str(number),
                uncertainty_ms=draw(st.integers(0, 3)),
            )
        )
    return events


@settings(deadline=None)
@given(reported(), st.randoms(use_true_random=False))
def test_random_orders_with_repetitions_give_equal_content(events: list[dict[str, Any]], rng: random.Random) -> None:
    # A second delivery of one event may carry another correction of its clock.
    repeated = events + [
        e | {"corrected_at": e["corrected_at"] + rng.choice((0, 0, 7))} for e in events if rng.random() < 0.4
    ]
    shuffled = repeated[:]
    rng.shuffle(shuffled)

    assert facts_of(*shuffled) == facts_of(*repeated)


@settings(deadline=None)
@given(reported())
def test_what_was_missing_converges_when_it_comes(events: list[dict[str, Any]]) -> None:
    partial = facts_of(*events[1:])
    derive(partial, NOON + MINUTE, DAY)

    assert derive(add(partial, events[0]), NOON + MINUTE, DAY) == record_of(*events, now=NOON + MINUTE)


# Terminal times


def test_an_end_that_is_said_again_does_not_move_it() -> None:
    again = event("succeeded", NOON + 5 * MINUTE)
    record = record_of(STARTED, SUCCEEDED, again)

    assert record["finished_at"] == record["first_ended_at"] == NOON + 90 * SECOND
    assert record["other_ends"] == ["2026-11-02T12:05:00.000000Z succeeded library"]


def test_a_later_end_corrects_the_outcome_and_leaves_the_first_time_beside_it() -> None:
    record = record_of(STARTED, FAILED, SUCCEEDED)

    assert (record["state"], record["finished_at"]) == ("succeeded", NOON + 90 * SECOND)
    assert record["first_ended_at"] == NOON + 60 * SECOND
    assert record["other_ends"] == ["2026-11-02T12:01:00.000000Z failed library"]


def test_the_library_knows_best_when_what_it_ran_has_ended() -> None:
    webhook = event("failed", NOON + 2 * MINUTE, source="github")

    assert record_of(STARTED, webhook)["state"] == "failed"
    assert record_of(STARTED, webhook, SUCCEEDED)["state"] == "succeeded"
    assert record_of(STARTED, webhook, SUCCEEDED)["finished_at"] == NOON + 90 * SECOND


def test_of_absurdly_many_ends_the_earliest_are_kept() -> None:
    many = [event("failed", NOON + i * SECOND) for i in range(100)]

    assert len(record_of(*reversed(many))["other_ends"]) == 63
    assert record_of(*many) == record_of(*reversed(many)) | {"event_count": 100}


# Several components in one deployment


BEGIN_AND_END = ((0, "started"), (1, "succeeded"))


@pytest.mark.requirement("M2.5")
def test_several_services_in_one_deployment_are_components_of_one_record() -> None:
    shop = [event("started"), event("succeeded", NOON + MINUTE)]
    cart = [event("started", NOON + 1, service="cart"), event("failed", NOON + 2 * MINUTE, service="cart")]

    assert record_of(*shop)["components"] == {}
    assert record_of(*shop, cart[0])["components"] == {"cart": "running", "shop": "succeeded"}
    assert (record_of(*shop, cart[0])["state"], record_of(*shop, cart[0])["service"]) == ("running", "shop")
    assert record_of(*shop, *cart)["state"] == "failed"
    assert record_of(*shop, *cart)["outcome_reason"] == "component_failed"
    assert record_of(*shop, *cart)["conflicts"] == {}


def test_every_component_makes_the_whole() -> None:
    both = [
        event(kind, at + i, service=s) for s, at in (("cart", NOON), ("shop", NOON + 5)) for i, kind in BEGIN_AND_END
    ]

    assert record_of(*both)["state"] == "succeeded"
    assert record_of(*both)["outcome_reason"] == "every_component_succeeded"


def test_another_sources_name_for_the_service_is_no_component() -> None:
    record = record_of(STARTED, SUCCEEDED, event("started", NOON + 1, source="github", service="shop-api"))

    assert record["components"] == {}
    assert record["state"] == "succeeded"
    assert record["conflicts"] == {"service": "github=shop-api"}


def test_an_amended_service_is_a_correction_and_no_component() -> None:
    record = record_of(event("started", service="shpo"), event("amended", NOON + SECOND, service="shop"))

    assert (record["service"], record["components"]) == ("shop", {})


# Waiting, superseded, merged


def test_it_waits_for_an_approval_until_that_is_given() -> None:
    facts = add_approval(facts_of(event("registered")), approval("requested", NOON + SECOND))
    approved = add_approval(facts, approval("approved", NOON + MINUTE))

    assert derive(facts, NOON, DAY)["state"] == "waiting_approval"
    assert derive(approved, NOON, DAY)["state"] == "registered"
    assert derive(add(facts, event("started", NOON + MINUTE)), NOON, DAY)["state"] == "running"
    assert not is_open(facts)


def test_what_has_not_ended_is_superseded_by_a_newer_one_until_its_end_comes() -> None:
    facts = overtake(facts_of(STARTED), "shop-2", NOON + 5 * MINUTE, 3)
    record = derive(facts, NOON + 3 * 24 * 60 * MINUTE, DAY)

    assert (record["state"], record["outcome_reason"]) == ("superseded", "superseded_by_newer")
    assert (record["superseded_by"], record["finished_at"]) == ("shop-2", NOON + 5 * MINUTE)
    assert record["duration_ms"] is None
    assert derive(add(facts, FAILED), NOON, DAY)["state"] == "failed"


@pytest.mark.requirement("M2.2")
def test_what_was_lost_when_a_newer_one_succeeded_stays_lost() -> None:
    hour = 60 * MINUTE
    facts = facts_of(STARTED)
    before, after = overtake(facts, "b", NOON + DAY * MINUTE - SECOND, 0), overtake(facts, "b", NOON + 25 * hour, 0)
    lost = derive(after, NOON + 26 * hour, DAY)

    assert derive(facts, NOON + 24 * hour, DAY)["state"] == "lost"
    assert (lost["state"], lost["outcome_reason"]) == ("lost", "no_end_reported")
    assert (lost["superseded_by"], lost["finished_at"]) == ("b", None)
    assert derive(before, NOON + 26 * hour, DAY)["state"] == "superseded"
    assert derive(after, NOON + 26 * hour, None)["state"] == "superseded"
    assert derive(add(after, FAILED), NOON + 26 * hour, DAY)["state"] == "failed"


def test_what_had_succeeded_keeps_its_state_and_names_who_followed() -> None:
    record = derive(overtake(facts_of(STARTED, SUCCEEDED), "shop-2", NOON + 5 * MINUTE, 0), NOON, DAY)

    assert (record["state"], record["superseded_by"]) == ("succeeded", "shop-2")
    assert record["finished_at"] == NOON + 90 * SECOND


def test_another_name_keeps_its_own_claims_and_counts_no_more() -> None:
    webhook = event("started", NOON + SECOND, deployment_id="github:1", source="github", version="main")
    record = derive(into(facts_of(webhook), "shop-1"), NOON, DAY)

    assert (record["state"], record["merged_into"], record["part_of"]) == ("merged", "shop-1", "shop-1")
    assert record["outcome_reason"] == "same_deployment"
    assert record["version"] == "main"


def test_what_one_source_reported_is_not_inferred_because_another_one_inferred_it() -> None:
    seen = event("started", NOON, deployment_id="k", source="kubernetes", provenance="inferred", confidence=0.9)
    one = add(new_facts("k"), seen)
    both = derive(merge([one, facts_of(STARTED)], "shop-1"), NOON, DAY)

    assert (derive(one, NOON, DAY)["provenance"], both["provenance"]) == ("inferred", "reported")
    assert both["confidence"] == 1.0


def test_merging_is_the_same_in_every_order() -> None:
    parts = [
        add(new_facts(name), event(kind, at, deployment_id=name, source=name, version=name))
        for name, kind, at in (("a", "started", NOON), ("b", "failed", NOON + 2), ("c", "succeeded", NOON + 1))
    ]
    expected = derive(merge(parts, "a"), NOON, DAY)

    assert all(derive(merge(order, "a"), NOON, DAY) == expected for order in itertools.permutations(parts))


# Every order, with repetitions and losses


SETS = {
    "corrections": SIX,
    "cohorts": [
        event("started", NOON, cohort="canary", cohort_weight=0.1),
        event("succeeded", NOON + 3, cohort="canary", cohort_weight=0.1),
        event("started", NOON + 2, cohort="rest", cohort_weight=0.4),
        event("progressed", NOON + 4, cohort="rest", cohort_weight=0.9),
        event("failed", NOON + 5, cohort="rest"),
        event("succeeded", NOON + 6, cohort="rest"),
    ],
    "components": [
        event("started", NOON),
        event("started", NOON + 1, service="cart", cohort="canary"),
        event("succeeded", NOON + 2),
        event("failed", NOON + 3, service="cart", cohort="canary"),
        event("amended", NOON - 1, service="cart", version="2"),
        event("succeeded", NOON + 3, source="github", service="shop-api"),
    ],
    "a voided one with approvals": [
        event("registered", NOON),
        event("queued", NOON - 1),
        event("cancelled", NOON + 1, source="github"),
        event("rolled_back", NOON + 1),
        event("voided", NOON + 2),
        event("started", NOON, provenance="inferred", source="kubernetes", confidence=0.5),
    ],
    "one time": [event(kind, NOON, source=s) for s in "ab" for kind in ("started", "succeeded", "failed")],
}


@pytest.mark.requirement("M3.4")
@pytest.mark.parametrize("name", SETS)
def test_facts_follow_from_which_events_are_known_in_whatever_order_they_came_and_how_often(name: str) -> None:
    """Every path through the subsets of six events: all 720 orders, with every loss, and each event again anywhere."""
    events = SETS[name]
    known: dict[frozenset[int], Facts] = {frozenset(): new_facts("shop-1")}
    for size in range(len(events) + 1):
        for subset in map(frozenset, itertools.combinations(range(len(events)), size)):
            facts = known[subset]
            derive(facts, NOON + MINUTE, DAY)
            for number, one in enumerate(events):
                more = add(facts, one)

                assert known.setdefault(subset | {number}, more) == more
    assert len(known) == 64


@pytest.mark.requirement("M2.5")
@pytest.mark.parametrize("weight", [5.0, 100.0, -1.0, 1e308])
def test_a_share_that_cannot_be_makes_no_canary_a_whole(weight: float) -> None:
    canary = [
        event(kind, NOON + n, cohort="canary", cohort_weight=weight) for n, kind in enumerate(("started", "succeeded"))
    ]

    assert record_of(*canary)["state"] == "running"
    assert record_of(*canary, event("succeeded", NOON + 9))["state"] == "succeeded"
