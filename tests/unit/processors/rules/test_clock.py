"""Clocks: proven bounds hold the truth, and good clocks are left alone."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import dataclass, field
from typing import Any

import pytest
from deploytrail_processors.rules.clock import ClockState, Corrected, Echo, Told, correct, observe, overhear
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, SECOND

MS = 1000


def one(offset: int, delay: int = 20 * MS, echo: bool = False) -> tuple[ClockState, Corrected]:
    """A producer whose clock is off by `offset`, seen once or, with `echo`, twice."""
    state = ClockState()
    sent, received = NOON + offset, NOON + delay
    state = observe(state, sent_at=sent, received_at=received)
    if echo:
        heard = Echo(sent, received, sent + 2 * delay)
        sent, received = sent + SECOND, received + SECOND
        state = observe(state, sent_at=sent, received_at=received, echo=heard)
    return state, correct(state, occurred_at=sent, sent_at=sent, received_at=received)


@dataclass
class Host:
    """A machine on a way of 20 ms each way: its wall clock is off, its monotonic clock began at noon."""

    off: int  # what its wall clock was set to be off by
    drifted: int = 0  # what both clocks have drifted or been slewed by
    asleep: int = 0  # how long its monotonic clock stood still
    state: ClockState = field(default_factory=ClockState)
    echo: Echo | None = None

    def wall(self, at: int) -> int:
        return at + self.off + self.drifted

    def monotonic(self, at: int) -> int:
        return at - NOON + self.drifted - self.asleep

    def report(
        self, at: int, *, delay: int = 20 * MS, echoes: bool = True, told: Told | None = None, monotonic: bool = True
    ) -> Corrected:
        """What becomes of an event that is handed over as it happens."""
        return self.hand_over(self.wall(at), self.monotonic(at) if monotonic else None, at, delay, echoes, told)

    def hand_over(
        self,
        occurred_at: int,
        monotonic: int | None,
        at: int,
        delay: int = 20 * MS,
        echoes: bool = True,
        told: Told | None = None,
    ) -> Corrected:
        """What becomes of an event that happened at these times of its clocks, handed over at `at`."""
        sent, received = self.wall(at), at + delay
        sent_monotonic = None if monotonic is None else self.monotonic(at)
        self.state = observe(
            self.state,
            sent_at=sent,
            received_at=received,
            echo=self.echo if echoes else None,
            told=told,
            monotonic=sent_monotonic,
        )
        self.echo = Echo(sent, received, sent + 2 * delay)
        return correct(
            self.state,
            occurred_at=occurred_at,
            sent_at=sent,
            received_at=received,
            monotonic=monotonic,
            sent_monotonic=sent_monotonic,
        )


def settled(off: int = -7 * MINUTE) -> Host:
    """A host whose offset is known."""
    host = Host(off)
    for second in (0, 1, 2):
        host.report(NOON + second * SECOND)
    return host


def holds(corrected: Corrected, true_at: int) -> bool:
    return abs(corrected.at - true_at) <= corrected.uncertainty


@pytest.mark.requirement("M8.3")
def test_a_producer_seven_minutes_slow_is_corrected_to_milliseconds_by_its_echo() -> None:
    _, corrected = one(-7 * MINUTE, echo=True)

    assert abs(corrected.at - (NOON + SECOND)) <= 21 * MS
    assert corrected.uncertainty <= 50 * MS


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
    assert corrected.uncertainty <= 30 * MS


def test_a_late_arrival_is_a_delay_before_it_is_a_slow_clock() -> None:
    state, _ = one(0)
    state = observe(state, sent_at=NOON + MINUTE, received_at=NOON + MINUTE + 40 * SECOND)
    corrected = correct(
        state, occurred_at=NOON + MINUTE, sent_at=NOON + MINUTE, received_at=NOON + MINUTE + 40 * SECOND
    )

    assert corrected.at == NOON + MINUTE
    assert corrected.uncertainty >= 40 * SECOND  # without a monotonic clock it might have been set back just now
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


def test_the_monotonic_clock_tells_a_late_arrival_from_a_clock_set_back() -> None:
    host = settled(0)
    late = host.report(NOON + 10 * SECOND, delay=40 * SECOND)

    assert late.at == NOON + 10 * SECOND
    assert late.uncertainty <= 100 * MS


@pytest.mark.parametrize("by", [-40 * SECOND, -3 * SECOND, 7 * MINUTE])
def test_a_step_is_followed_by_just_as_much_at_once(by: int) -> None:
    host = settled()
    host.off += by
    fixed = host.report(NOON + MINUTE)

    assert host.state.steps == 1
    assert holds(fixed, NOON + MINUTE)
    assert abs(fixed.at - (NOON + MINUTE)) <= 40 * MS
    assert fixed.uncertainty <= 80 * MS


def test_sleep_is_no_step() -> None:
    host = settled()
    host.asleep = 60 * MINUTE
    fixed = host.report(NOON + 61 * MINUTE)

    assert host.state.steps == 0
    assert holds(fixed, NOON + 61 * MINUTE)
    assert abs(fixed.at - (NOON + 61 * MINUTE)) <= SECOND


def test_a_paused_machine_is_held_while_its_clock_is_stale_and_once_it_is_set() -> None:
    host = settled(0)
    host.off = -20 * MINUTE  # both clocks stood still
    host.asleep = 20 * MINUTE
    stale = host.report(NOON + 21 * MINUTE)
    host.off = 0
    corrected = host.report(NOON + 25 * MINUTE)

    assert holds(stale, NOON + 21 * MINUTE)
    assert abs(stale.at - (NOON + 21 * MINUTE)) <= 100 * MS
    assert holds(corrected, NOON + 25 * MINUTE)
    assert corrected.at == NOON + 25 * MINUTE


def test_what_waited_in_the_spool_while_the_clock_was_set_back_is_seen_by_the_clock_of_its_sending() -> None:
    host = settled(5 * MINUTE)
    occurred_at, monotonic = host.wall(NOON + MINUTE), MINUTE
    host.off = 0
    fixed = host.hand_over(occurred_at, monotonic, NOON + 2 * 60 * MINUTE)

    assert holds(fixed, NOON + MINUTE)
    assert abs(fixed.at - (NOON + MINUTE)) <= 2 * SECOND  # two hours of drift


def test_the_word_of_ntp_bounds_a_clock_without_echoes() -> None:
    host = Host(4 * MS)
    fixed = host.report(NOON, echoes=False, told=Told(2 * MS, 10 * MS))

    assert fixed.at == NOON + 4 * MS
    assert holds(fixed, NOON)
    assert fixed.uncertainty <= 30 * MS


def test_the_word_of_ntp_does_not_count_against_an_echo() -> None:
    host = Host(-400 * MS)
    for minute in (0, 1, 2):
        fixed = host.report(NOON + minute * MINUTE, told=Told(0, 10 * MS))

    assert host.state.refuted
    assert holds(fixed, NOON + 2 * MINUTE)
    assert abs(fixed.at - (NOON + 2 * MINUTE)) <= 50 * MS


def test_drift_is_learned_from_echoes_that_lie_apart() -> None:
    host = Host(10 * SECOND)
    for hour in range(0, 25, 2):
        host.drifted = hour * 3600 * 150  # 150 ppm
        host.report(NOON + hour * 60 * MINUTE)
        fixed = host.report(NOON + hour * 60 * MINUTE + SECOND)
    least, most = host.state.drift

    assert 100 <= least <= 150 <= most <= 200
    assert holds(fixed, NOON + 24 * 60 * MINUTE + SECOND)


def test_a_clock_that_is_slewed_is_given_room() -> None:
    host = settled(8 * SECOND)
    for minute in range(1, 60):
        host.drifted = -minute * 60 * 500  # adjtime(3)
        fixed = host.report(NOON + minute * MINUTE)

        assert minute < 3 or holds(fixed, NOON + minute * MINUTE)


def test_a_source_that_does_not_say_when_it_sent_is_known_to_be_fast_by_what_it_said() -> None:
    state = ClockState()
    for minute, delay in ((0, 2 * SECOND), (1, SECOND), (2, 30 * SECOND)):
        at = NOON + minute * MINUTE
        state = overhear(state, occurred_at=at + 5 * MINUTE, received_at=at + delay)
        fixed = correct(state, occurred_at=at + 5 * MINUTE, sent_at=None, received_at=at + delay)

        assert holds(fixed, at)
        assert fixed.uncertainty <= 6 * SECOND


def test_a_source_that_does_not_say_when_it_sent_and_is_always_late_may_be_slow() -> None:
    state = overhear(ClockState(), occurred_at=NOON - 3 * MINUTE, received_at=NOON + SECOND)
    fixed = correct(state, occurred_at=NOON - 3 * MINUTE, sent_at=None, received_at=NOON + SECOND)
    state = overhear(state, occurred_at=NOON, received_at=NOON + SECOND)
    later = correct(state, occurred_at=NOON, sent_at=None, received_at=NOON + SECOND)

    assert holds(fixed, NOON)
    assert later == Corrected(NOON, SECOND)  # it was on time once: what is late is late


OBSERVATION = st.fixed_dictionaries(
    {
        "offset": st.integers(-600 * SECOND, 600 * SECOND),
        "delay": st.integers(0, 70 * SECOND),
        "later": st.integers(0, 3600 * SECOND),
        "echo": st.booleans(),
        "told": st.none() | st.builds(Told, st.integers(-SECOND, SECOND), st.integers(0, SECOND)),
        "monotonic": st.none() | st.integers(-600 * SECOND, 600 * SECOND),
        "sent": st.booleans(),
    }
)


def seen(state: ClockState, given: dict[str, Any]) -> ClockState:
    sent, received = NOON + given["later"] + given["offset"], NOON + given["later"] + given["delay"]
    if not given["sent"]:
        return overhear(state, occurred_at=sent, received_at=received)
    echo = Echo(sent - SECOND, received - SECOND, sent - SECOND + given["delay"]) if given["echo"] else None
    monotonic = given["monotonic"]
    return observe(
        state,
        sent_at=sent,
        received_at=received,
        echo=echo,
        told=given["told"],
        monotonic=None if monotonic is None else given["later"] + monotonic,
    )


@given(st.lists(OBSERVATION, min_size=1, max_size=6))
def test_seeing_the_same_thing_twice_changes_nothing(observations: list[dict[str, Any]]) -> None:
    state = ClockState()
    for one_of_them in observations:
        state = seen(state, one_of_them)

        assert seen(state, one_of_them) == state


@given(st.lists(OBSERVATION, max_size=4))
def test_state_survives_its_table(observations: list[dict[str, Any]]) -> None:
    state = ClockState()
    for one_of_them in observations:
        state = seen(state, one_of_them)

    assert ClockState.from_json(json.loads(json.dumps(state.to_json()))) == state


@given(st.lists(OBSERVATION, min_size=1, max_size=6))
def test_nothing_happens_after_it_was_received_nor_is_it_refused(observations: list[dict[str, Any]]) -> None:
    state = ClockState()
    for one_of_them in observations:
        state = seen(state, one_of_them)
        at, received = NOON + one_of_them["later"], NOON + one_of_them["later"] + one_of_them["delay"]
        fixed = correct(
            state,
            occurred_at=at + one_of_them["offset"],
            sent_at=at + one_of_them["offset"] if one_of_them["sent"] else None,
            received_at=received,
        )

        assert fixed.at - fixed.uncertainty <= received + SECOND
        assert fixed.uncertainty >= 0


def test_state_of_format_1_is_read() -> None:
    stored = {"v": 1, "low": [-420_020_000, NOON, True], "high": [-419_960_000, NOON, True], "suspects": [], "steps": 2}
    host = Host(-7 * MINUTE, state=ClockState.from_json(stored))
    fixed = host.report(NOON + MINUTE)

    assert host.state.to_json()["v"] == 2
    assert host.state.steps == 2
    assert holds(fixed, NOON + MINUTE)
    assert fixed.uncertainty <= 100 * MS


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
