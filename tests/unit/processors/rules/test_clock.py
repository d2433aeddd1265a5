"""Clocks: proven bounds hold the truth, and good clocks are left alone."""

from __future__ import annotations

import random
import statistics

import pytest
from deploytrail_processors.rules.clock import ClockState, Corrected, Echo, correct, observe
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, SECOND

MS = 1000


def one(offset: int, delay: int = 20 * MS, echo: bool = False) -> tuple[ClockState, Corrected]:
    """A producer whose clock is off by `offset`, seen once or, with `echo`, twice."""
    state = ClockState()
    sent = NOON + offset
    state = observe(state, sent_at=sent, received_at=NOON + delay)
    if echo:
        heard = Echo(sent, NOON + delay, sent + 2 * delay)
        sent += SECOND
        state = observe(state, sent_at=sent, received_at=NOON + SECOND + delay, echo=heard)
    return state, correct(state, occurred_at=sent, sent_at=sent, received_at=NOON + delay)


@pytest.mark.requirement("M8.3")
def test_a_producer_seven_minutes_slow_is_corrected_to_milliseconds_by_its_echo() -> None:
    _, corrected = one(-7 * MINUTE, echo=True)

    assert abs(corrected.at - (NOON + SECOND)) <= 21 * MS
    assert corrected.uncertainty <= 41 * MS


def test_without_an_echo_the_usual_delay_bounds_a_slow_producer() -> None:
    _, corrected = one(-7 * MINUTE)

    assert abs(corrected.at - NOON) <= 100 * MS
    assert 4 * SECOND <= corrected.uncertainty <= 5 * SECOND


def test_a_fast_producer_is_corrected_at_once() -> None:
    _, corrected = one(5 * MINUTE)

    assert abs(corrected.at - NOON) <= 100 * MS


def test_a_good_clock_is_left_alone() -> None:
    _, corrected = one(0, echo=True)

    assert corrected.at == NOON + SECOND
    assert corrected.uncertainty <= 22 * MS


def test_a_late_arrival_is_a_delay_before_it_is_a_slow_clock() -> None:
    state, _ = one(0)
    state = observe(state, sent_at=NOON + MINUTE, received_at=NOON + MINUTE + 40 * SECOND)
    corrected = correct(
        state, occurred_at=NOON + MINUTE, sent_at=NOON + MINUTE, received_at=NOON + MINUTE + 40 * SECOND
    )

    assert corrected.at == NOON + MINUTE
    assert state.steps == 0


def test_an_hour_in_the_spool_is_no_skew() -> None:
    sent = NOON + 60 * MINUTE
    state = observe(ClockState(), sent_at=sent, received_at=sent + 20 * MS)
    corrected = correct(state, occurred_at=NOON, sent_at=sent, received_at=sent + 20 * MS)

    assert corrected.at == NOON
    assert corrected.uncertainty <= 6 * SECOND


def test_a_source_that_does_not_say_when_it_sent_is_taken_at_its_word() -> None:
    corrected = correct(ClockState(), occurred_at=NOON, sent_at=None, received_at=NOON + 3 * SECOND)

    assert (corrected.at, corrected.uncertainty) == (NOON, SECOND)


def test_nothing_happens_after_it_was_received() -> None:
    corrected = correct(ClockState(), occurred_at=NOON + MINUTE, sent_at=None, received_at=NOON)

    assert (corrected.at, corrected.uncertainty) == (NOON, MINUTE + SECOND)


def test_a_clock_set_forward_is_followed() -> None:
    state, _ = one(0, echo=True)
    sent = NOON + 10 * MINUTE + 3 * MINUTE
    state = observe(state, sent_at=sent, received_at=NOON + 10 * MINUTE + 20 * MS)
    corrected = correct(state, occurred_at=sent, sent_at=sent, received_at=NOON + 10 * MINUTE)

    assert state.steps == 1
    assert abs(corrected.at - (NOON + 10 * MINUTE)) <= 100 * MS


def test_a_clock_set_back_is_followed_after_three_late_arrivals() -> None:
    state, _ = one(0, echo=True)
    for minute in (10, 11, 12):
        received = NOON + minute * MINUTE
        state = observe(state, sent_at=received - 5 * MINUTE, received_at=received)
    sent = NOON + 13 * MINUTE - 5 * MINUTE
    corrected = correct(state, occurred_at=sent, sent_at=sent, received_at=NOON + 13 * MINUTE)

    assert state.steps == 1
    assert abs(corrected.at - (NOON + 13 * MINUTE)) <= 5 * SECOND


observations = st.tuples(
    st.integers(-600 * SECOND, 600 * SECOND), st.integers(0, 70 * SECOND), st.integers(0, 3600 * SECOND), st.booleans()
)


@given(st.lists(observations, min_size=1, max_size=6))
def test_seeing_the_same_thing_twice_changes_nothing(seen: list[tuple[int, int, int, bool]]) -> None:
    state = ClockState()
    for offset, delay, later, with_echo in seen:
        sent, received = NOON + later + offset, NOON + later + delay
        echo = Echo(sent - SECOND, received - SECOND, sent - SECOND + delay) if with_echo else None
        state = observe(state, sent_at=sent, received_at=received, echo=echo)

        assert observe(state, sent_at=sent, received_at=received, echo=echo) == state


@given(st.lists(observations, max_size=4))
def test_state_survives_its_table(seen: list[tuple[int, int, int, bool]]) -> None:
    state = ClockState()
    for offset, delay, later, _ in seen:
        state = observe(state, sent_at=NOON + later + offset, received_at=NOON + later + delay)

    assert ClockState.from_json(state.to_json()) == state


def simulate(rng: random.Random, offset: int, drift_ppm: float, events: int) -> list[tuple[int, int, int, bool]]:
    """(true error, uncertainty, error before, had an echo) of each event of one producer."""
    state, echo, results, now = ClockState(), None, [], NOON

    def clock(at: int) -> int:
        return at + offset + int((at - NOON) * drift_ppm / 1e6)

    for _ in range(events):
        now += int(rng.expovariate(1 / (600 * SECOND)))
        out, back = (int(rng.lognormvariate(3.2, 0.8)) * MS for _ in range(2))  # median 25 ms, heavy tail
        occurred = now - int(rng.expovariate(1 / SECOND))
        state = observe(state, sent_at=clock(now), received_at=now + out, echo=echo)
        fixed = correct(state, occurred_at=clock(occurred), sent_at=clock(now), received_at=now + out)
        results.append((fixed.at - occurred, fixed.uncertainty, clock(occurred) - occurred, echo is not None))
        echo = Echo(clock(now), now + out, clock(now + out + back))
    return results


@pytest.mark.requirement("M8.3")
def test_simulated_clocks_are_held_by_their_bounds() -> None:
    rng = random.Random(7)
    skewed = [r for _ in range(120) for r in simulate(rng, rng.choice((-1, 1)) * rng.randint(10, 300) * SECOND,
                                                     rng.uniform(-100, 100), 20)]  # fmt: skip
    good = [r for _ in range(60) for r in simulate(rng, rng.randint(-10, 10) * MS, rng.uniform(-5, 5), 20)]
    held = [abs(error) <= width for error, width, _, _ in skewed + good]
    known = [(abs(error), width) for error, width, _, had_echo in skewed if had_echo]

    assert sum(held) / len(held) >= 0.99
    assert statistics.median(error for error, _ in known) <= 200 * MS
    assert statistics.median(width for _, width in known) <= 250 * MS
    assert max(abs(error) - abs(before) for error, _, before, _ in good) <= 20 * MS
