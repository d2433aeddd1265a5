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
    derive,
    due,
    is_open,
    new_facts,
    undo,
    undoes,
)
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, SECOND, event

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
    assert record["conflicts"] == {"version": "library=4.2.0"}


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


@given(reported(), st.randoms(use_true_random=False))
def test_random_orders_with_repetitions_give_equal_content(events: list[dict[str, Any]], rng: random.Random) -> None:
    # A second delivery of one event may carry another correction of its clock.
    repeated = events + [
        e | {"corrected_at": e["corrected_at"] + rng.choice((0, 0, 7))} for e in events if rng.random() < 0.4
    ]
    shuffled = repeated[:]
    rng.shuffle(shuffled)

    assert facts_of(*shuffled) == facts_of(*repeated)


@given(reported())
def test_what_was_missing_converges_when_it_comes(events: list[dict[str, Any]]) -> None:
    partial = facts_of(*events[1:])
    derive(partial, NOON + MINUTE, DAY)

    assert derive(add(partial, events[0]), NOON + MINUTE, DAY) == record_of(*events, now=NOON + MINUTE)
