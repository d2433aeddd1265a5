"""Reporters' clocks: bounds on their offset, and the times that follow from them.

In: what a sender's clock showed when it handed a record over, when the record was received, and
the echo of an earlier record. Out: the corrected time with the half width of its interval.

The offset is the reporter's clock minus the common time. A record cannot arrive before it was
sent, so `sent - received` is a lower bound. The same holds for the way back: an acknowledgement
cannot be seen before its record was received, so `acknowledged - received` of an earlier record
is an upper bound (Cristian 1989, "Probabilistic clock synchronization"). Bounds widen with drift
as they age. All values are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

SECOND = 1_000_000
# Quartz clocks drift by less than 100 ppm; twice that also covers hosts under thermal stress.
DRIFT_PPM = 200
# Without an echo: how long the way of a record is taken to be at most, in 99 of 100 cases ...
USUAL_DELAY = 5 * SECOND
# ... and how long a way still explains a late arrival by itself, so that the clock is not blamed.
PLAUSIBLE_DELAY = 60 * SECOND
# Kafka's append times are cut to the millisecond: a record came up to that much later.
CUT = SECOND // 1000
# What the lower bound usually lacks: the way of an undisturbed record.
USUAL_SHORTFALL = SECOND // 20
# Sources that do not say when they sent are taken at their word, to their usual resolution.
UNKNOWN_CLOCK = SECOND
# So many late arrivals in a row are no delays any more: the clock was set back.
SUSPECTS_OF_A_STEP = 3


@dataclass(frozen=True, slots=True)
class Echo:
    """Of an earlier record: sent and acknowledged by the reporter's clock, received by ours."""

    sent: int
    received: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound on the offset, as it was at `at`. `hard`: proven by an echo or by causality."""

    offset: int
    at: int
    hard: bool

    def widened(self, now: int) -> int:
        """How far drift may have moved it until `now`."""
        return abs(now - self.at) * DRIFT_PPM // 1_000_000


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of one reporter's clock. Observing the same thing twice changes nothing."""

    low: Bound | None = None
    high: Bound | None = None
    suspects: tuple[int, ...] = ()  # times of arrivals too late for the bounds
    steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 1."""
        bounds = {
            name: [b.offset, b.at, b.hard] for name, b in (("low", self.low), ("high", self.high)) if b is not None
        }
        return {"v": 1, **bounds, "suspects": list(self.suspects), "steps": self.steps}

    @classmethod
    def from_json(cls, state: dict[str, Any] | None) -> ClockState:
        """The state of `to_json`; a new one for None."""
        if state is None:
            return cls()
        low, high = (Bound(*state[name]) if name in state else None for name in ("low", "high"))
        return cls(low, high, tuple(state["suspects"]), state["steps"])


@dataclass(frozen=True, slots=True)
class Corrected:
    """A time on the common scale; the true time lies within `uncertainty` on either side."""

    at: int
    uncertainty: int

    @property
    def uncertainty_ms(self) -> int:
        """Milliseconds, rounded up."""
        return -(-self.uncertainty // 1000)


def observe(state: ClockState, *, sent_at: int, received_at: int, echo: Echo | None = None) -> ClockState:
    """The state after one more record from this clock."""
    low, high = _bounds(sent_at, received_at, echo)
    if state.low is None or state.high is None:
        return replace(state, low=low, high=high)
    if low.offset > state.high.offset + state.high.widened(received_at):
        # Proven to be ahead of all that was thought possible: set forward, or only an assumption was wrong.
        return ClockState(low, high, steps=state.steps + (state.high.hard or low.offset > 0))
    if high.offset < state.low.offset - state.low.widened(received_at):
        return _late(state, low, high, received_at)
    return ClockState(
        state.low if state.low.offset - state.low.widened(low.at) >= low.offset else low,
        state.high if state.high.offset + state.high.widened(high.at) <= high.offset else high,
        steps=state.steps,
    )


def _bounds(sent_at: int, received_at: int, echo: Echo | None) -> tuple[Bound, Bound]:
    """The bounds that one record gives by itself."""
    late = received_at - sent_at
    usual = USUAL_DELAY - late
    low = Bound(-late - CUT, received_at, hard=True)
    high = Bound(max(usual, 0) if late <= PLAUSIBLE_DELAY else usual, received_at, hard=False)
    if echo is None or echo.sent > echo.acknowledged:
        return low, high
    drift = low.widened(echo.received)
    heard_low = Bound(echo.sent - echo.received - CUT - drift, received_at, hard=True)
    heard_high = Bound(echo.acknowledged - echo.received + drift, received_at, hard=True)
    if heard_high.offset < low.offset or heard_low.offset > high.offset:
        return low, high  # the clock was set since: what is heard now counts
    return max(low, heard_low, key=lambda b: b.offset), min(high, heard_high, key=lambda b: b.offset)


def _late(state: ClockState, low: Bound, high: Bound, received_at: int) -> ClockState:
    """A record later than the bounds allow: a delay, or a clock that was set back."""
    if high.hard:
        return ClockState(low, high, steps=state.steps + 1)
    if received_at in state.suspects:
        return state
    suspects = (*state.suspects, received_at)
    if len(suspects) < SUSPECTS_OF_A_STEP:
        return replace(state, suspects=suspects)
    return ClockState(low, high, steps=state.steps + 1)


def correct(state: ClockState, *, occurred_at: int, sent_at: int | None, received_at: int) -> Corrected:
    """The corrected time of an event, after its record was observed.

    Inside the bounds the smallest correction is taken, so that a good clock is left alone.
    """
    if sent_at is None or state.low is None or state.high is None:
        ahead = max(occurred_at - received_at, 0)
        return Corrected(occurred_at - ahead, UNKNOWN_CLOCK + ahead)
    low = state.low.offset - state.low.widened(received_at)
    high = max(state.high.offset + state.high.widened(received_at), low)
    offset = _estimate(low, high, proven=state.high.hard)
    # The event may be much older than its sending; the clock drifted meanwhile.
    drifted = abs(sent_at - occurred_at) * DRIFT_PPM // 1_000_000
    return Corrected(occurred_at - offset, max(offset - low, high - offset) + drifted)


def _estimate(low: int, high: int, *, proven: bool) -> int:
    """The offset to take from an interval."""
    if low <= 0 <= high:
        return 0
    nearest = low if low > 0 else high
    if not proven and low < 0:
        # An assumed upper bound is mostly unlikely delay: the truth lies close to the lower end.
        return min(low + USUAL_SHORTFALL, high)
    if abs(nearest) > SECOND and high - low <= SECOND:
        return (low + high) // 2
    # Nearly right: a step beyond what is proven could make a good clock worse.
    return nearest + (min(USUAL_SHORTFALL, nearest) if low > 0 else max(-USUAL_SHORTFALL, nearest))
