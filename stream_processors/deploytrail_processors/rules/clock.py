"""Reporters' clocks: bounds on their offset and drift, and the times that follow from them.

In: what a sender's clocks showed when it handed a record over, when the record was received, the echo of an
earlier record, what disciplines the clock. Out: the corrected time with the half width of its interval.

The offset is the reporter's clock minus the common time. A record cannot arrive before it was
sent, so `sent - received` is a lower bound. The same holds for the way back: an acknowledgement
cannot be seen before its record was received, so `acknowledged - received` of an earlier record
is an upper bound (Cristian 1989, "Probabilistic clock synchronization"). Bounds widen with drift
as they age, which is learned from echoes that lie apart. The monotonic clock of the same machine is
never set: where wall minus monotonic time has changed, the wall clock was set by just as much, or the
machine slept. All values are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

SECOND = 1_000_000
# Quartz clocks drift by less than 100 ppm; twice that also covers hosts under thermal stress.
DRIFT_PPM = 200
# What a learned drift may change by: temperature, load.
WANDER_PPM = 15
# A clock that moved by more than its drift is being slewed: adjtime(3) does so by 500 ppm, chrony by more.
SLEWED_PPM = 1000
# Echoes that lie so far apart tell the drift, if they bound the offset to so much.
LEARN_AFTER, LEARN_WITHIN = 600 * SECOND, SECOND // 2
# Without an echo: how long the way of a record is taken to be at most, in 99 of 100 cases ...
USUAL_DELAY = 5 * SECOND
# ... and how long a way still explains a late arrival by itself, so that the clock is not blamed. The library gives
# a record 30 s to arrive, and hands it over anew after that.
PLAUSIBLE_DELAY = 60 * SECOND
# Kafka's append times are cut to the millisecond: a record came up to that much later.
CUT = SECOND // 1000
# Brokers and gateways, which make the common time, differ by so much.
RECEIVERS = 8 * SECOND // 1000
# What the lower bound usually lacks: the way of an undisturbed record.
USUAL_SHORTFALL = SECOND // 20
# Sources that do not say when they sent are taken at their word, to their usual resolution ...
UNKNOWN_CLOCK = SECOND
# ... and reports that come later than this are late; a clock that is wrong by more would be noticed there.
UNKNOWN_LATE = 900 * SECOND
# So many late arrivals in a row are no delays any more: the clock was set back.
SUSPECTS_OF_A_STEP = 3
# Wall and monotonic clock are read one after the other: so much between them is no step, and so much a small one.
READ_APART, SMALL_STEP = SECOND // 200, SECOND // 20
# The word of what disciplines a clock counts where the record arrived within so much of it.
TOLD_WITHIN = SECOND


@dataclass(frozen=True, slots=True)
class Echo:
    """Of an earlier record: sent and acknowledged by the reporter's clock, received by ours."""

    sent: int
    received: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Told:
    """What disciplines the clock (NTP, PTP) says of it.

    The programs that tell it differ in the sign of the offset, so it only adds to the uncertainty.
    """

    offset: int
    uncertainty: int

    @property
    def at_most(self) -> int:
        return abs(self.offset) + self.uncertainty + RECEIVERS


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound on the offset, as it was at `at`. `hard`: proven by an echo or by causality, or told by NTP."""

    offset: int
    at: int
    hard: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """Bounds on the offset at a time past, to learn the drift from."""

    low: int
    high: int
    at: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Wall minus monotonic time before it last changed, and by how much the wall clock was set then.

    0: the machine had slept; None: nobody knows which.
    """

    before: int
    by: int | None


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of one reporter's clock. Observing the same thing twice changes nothing."""

    low: Bound | None = None
    high: Bound | None = None
    drift: tuple[int, int] = (-DRIFT_PPM, DRIFT_PPM)  # ppm, from and to
    reference: Reference | None = None
    heard: int = 0  # when the record of the newest echo was received
    anchor: int | None = None  # wall minus monotonic time
    jump: Jump | None = None
    suspects: tuple[int, ...] = ()  # times of arrivals too late for the bounds
    refuted: bool = False  # an echo has proven NTP's word wrong
    steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 2; what is not known is left out."""
        state: dict[str, Any] = {"v": 2, "steps": self.steps}
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound is not None:
                state[name] = [bound.offset, bound.at, bound.hard]
        if self.drift != (-DRIFT_PPM, DRIFT_PPM):
            state["drift"] = list(self.drift)
        if self.reference is not None:
            state["reference"] = [self.reference.low, self.reference.high, self.reference.at]
        if self.heard:
            state["heard"] = self.heard
        if self.anchor is not None:
            state["anchor"] = self.anchor
        if self.jump is not None:
            state["jump"] = [self.jump.before, self.jump.by]
        if self.suspects:
            state["suspects"] = list(self.suspects)
        if self.refuted:
            state["refuted"] = True
        return state

    @classmethod
    def from_json(cls, state: dict[str, Any] | None) -> ClockState:
        """The state of `to_json`, or of format 1, which knew bounds, suspects and steps; a new one for None."""
        if state is None:
            return cls()
        low, high = (Bound(*state[name]) if name in state else None for name in ("low", "high"))
        return cls(
            low,
            high,
            (state["drift"][0], state["drift"][1]) if "drift" in state else (-DRIFT_PPM, DRIFT_PPM),
            Reference(*state["reference"]) if "reference" in state else None,
            state.get("heard", 0),
            state.get("anchor"),
            Jump(*state["jump"]) if "jump" in state else None,
            tuple(state.get("suspects", ())),
            state.get("refuted", False),
            state["steps"],
        )

    def bounds(self, at: int) -> tuple[int, int] | None:
        """Between what the offset lies at a time, drift included; None where nothing is known."""
        if self.low is None or self.high is None:
            return None
        low = self.low.offset + _drifted(self.drift, at - self.low.at)[0]
        return low, max(self.high.offset + _drifted(self.drift, at - self.high.at)[1], low)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A time on the common scale; the true time lies within `uncertainty` on either side."""

    at: int
    uncertainty: int

    @property
    def uncertainty_ms(self) -> int:
        """Milliseconds, rounded up."""
        return -(-self.uncertainty // 1000)


def observe(
    state: ClockState,
    *,
    sent_at: int,
    received_at: int,
    echo: Echo | None = None,
    told: Told | None = None,
    monotonic: int | None = None,
) -> ClockState:
    """The state after one more record from this clock. `monotonic`: the sender's monotonic clock at `sent_at`."""
    if echo is not None and state.heard < echo.received and echo.sent <= echo.acknowledged:
        state = _hear(state, echo)
        if told is not None:
            low, high = _heard(echo)
            state = replace(state, refuted=low.offset > told.at_most or high.offset < -told.at_most)
    own = Bound(sent_at - received_at - CUT - RECEIVERS, received_at, hard=True)
    if monotonic is not None and state.anchor != sent_at - monotonic:
        state = _follow(state, sent_at - monotonic, own)
    if received_at not in state.suspects:
        state = _receive(state, own, anchored=monotonic is not None)
    if told is not None:
        state = _believe(state, told, own)
    return state


def overhear(state: ClockState, *, occurred_at: int, received_at: int) -> ClockState:
    """The state after one more record whose sender does not say when it sent: it happened before it was received."""
    own = Bound(occurred_at - received_at - CUT - RECEIVERS, received_at, hard=True)
    if state.low is None:
        return replace(state, low=own)
    if received_at in state.suspects:
        return state
    low = state.low.offset + _drifted(state.drift, received_at - state.low.at)[0]
    if own.offset > low + UNKNOWN_CLOCK // 4:  # so that not every record is news
        return replace(state, low=own, suspects=())
    if own.offset >= low - PLAUSIBLE_DELAY or low <= 0:
        return replace(state, suspects=()) if state.suspects else state
    # The clock was ahead, or so it seemed; several late reports in a row say that it is not any more.
    suspects = (*state.suspects, received_at)
    if len(suspects) < SUSPECTS_OF_A_STEP:
        return replace(state, suspects=suspects)
    return replace(state, low=own, suspects=(), steps=state.steps + 1)


def _drifted(drift: tuple[int, int], elapsed: int) -> tuple[int, int]:
    """What drift makes of an offset in a time: at least, at most."""
    ends = (drift[0] * elapsed // 1_000_000, drift[1] * elapsed // 1_000_000)
    return ends if elapsed >= 0 else (min(ends), max(ends))


def _heard(echo: Echo) -> tuple[Bound, Bound]:
    return (
        Bound(echo.sent - echo.received - CUT - RECEIVERS, echo.received, hard=True),
        Bound(echo.acknowledged - echo.received + RECEIVERS, echo.received, hard=True),
    )


def _hear(state: ClockState, echo: Echo) -> ClockState:
    """The state with what an echo proves of the time when its record was received."""
    at = echo.received
    low, high = _heard(echo)
    known = state.bounds(at)
    if known is None:
        return replace(_learn(state, low, high), low=low, high=high, heard=at, suspects=())
    if high.offset < known[0] or low.offset > known[1]:
        # All that was thought possible is refuted: the clock was set or slewed, or only an assumption was wrong.
        was_proven = state.high is not None and state.high.hard
        return replace(
            state,
            low=low,
            high=high,
            drift=(-SLEWED_PPM, SLEWED_PPM) if was_proven else state.drift,
            reference=Reference(low.offset, high.offset, at),
            heard=at,
            suspects=(),
            steps=state.steps + was_proven,
        )
    return replace(
        _learn(state, low, high),
        low=state.low if known[0] >= low.offset else low,
        high=state.high if state.high is not None and state.high.hard and known[1] <= high.offset else high,
        heard=at,
        suspects=(),
    )


def _learn(state: ClockState, low: Bound, high: Bound) -> ClockState:
    """The state with what two echoes that lie apart tell of the drift."""
    if high.offset - low.offset > LEARN_WITHIN:
        return state
    now = Reference(low.offset, high.offset, low.at)
    before = state.reference
    if before is None or now.at <= before.at:
        return replace(state, reference=now) if before is None else state
    elapsed = now.at - before.at
    if elapsed < LEARN_AFTER:
        return state
    least = max((now.low - before.high) * 1_000_000 // elapsed - WANDER_PPM, -DRIFT_PPM - WANDER_PPM)
    most = min((now.high - before.low) * 1_000_000 // elapsed + WANDER_PPM, DRIFT_PPM + WANDER_PPM)
    if least > most:
        return replace(state, drift=(-SLEWED_PPM, SLEWED_PPM), reference=now)
    narrowed = most - least < state.drift[1] - state.drift[0]
    # What was learned long ago is learned anew.
    renewed = elapsed > 100 * LEARN_AFTER
    return replace(
        state,
        drift=(least, most) if narrowed or renewed else state.drift,
        reference=now if renewed else before,
    )


def _follow(state: ClockState, anchor: int, own: Bound) -> ClockState:
    """The state after wall minus monotonic time has become `anchor`: set by the difference, or slept through it."""
    low, high = state.low, state.high
    if state.anchor is None or low is None or high is None:
        return replace(state, anchor=anchor)
    by = anchor - state.anchor
    if abs(by) <= READ_APART:
        return state
    set_low, set_high = replace(low, offset=low.offset + by), replace(high, offset=high.offset + by)
    moved = replace(state, low=set_low, high=set_high, anchor=anchor, reference=None, suspects=())
    if abs(by) <= SMALL_STEP:
        return replace(moved, low=min(low, set_low, key=_offset), high=max(high, set_high, key=_offset))
    was_set = replace(moved, jump=Jump(state.anchor, by), steps=state.steps + 1)
    if by < 0:
        return was_set
    slept = replace(state, anchor=anchor, jump=Jump(state.anchor, 0), suspects=())
    can_be_set, can_have_slept = (_explains(s, own) for s in (was_set, slept))
    if can_be_set != can_have_slept:
        return was_set if can_be_set else slept
    if can_be_set:
        return replace(was_set, low=low, jump=Jump(state.anchor, None))
    return ClockState(drift=state.drift, heard=state.heard, anchor=anchor, jump=Jump(state.anchor, None),
                      steps=state.steps + 1)  # fmt: skip


def _offset(bound: Bound) -> int:
    return bound.offset


def _explains(state: ClockState, own: Bound) -> bool:
    """Whether a record can have come so with these bounds."""
    known = state.bounds(own.at)
    return known is None or known[0] - PLAUSIBLE_DELAY <= own.offset <= known[1]


def _receive(state: ClockState, own: Bound, *, anchored: bool) -> ClockState:
    """The state with what the arrival of a record says by itself."""
    known = state.bounds(own.at)
    claim = Bound(own.offset + CUT + RECEIVERS + USUAL_DELAY, own.at, hard=False)
    if known is None or state.high is None:
        return _begin(state, own, claim)
    low, high = known
    if own.offset > high:
        # Proven to be ahead of all that was thought possible: set forward, or only an assumption was wrong.
        return replace(
            _begin(state, own, claim), reference=None, steps=state.steps + (state.high.hard or own.offset > 0)
        )
    if low - own.offset > PLAUSIBLE_DELAY:
        # No way takes so long: set back, or both clocks stood still. The next record says whether it stays so.
        return replace(
            state,
            low=own,
            high=Bound(high, own.at, hard=False),
            reference=None,
            suspects=(own.at,),
            steps=state.steps + 1,
        )
    blames_the_clock = claim.offset < 0 <= high
    if blames_the_clock or (claim.offset < low and not anchored):
        suspects = (*state.suspects, own.at)
        if len(suspects) < SUSPECTS_OF_A_STEP:
            return replace(state, suspects=suspects)
        was_set = claim.offset < low
        return replace(state, low=own if was_set else state.low, high=claim, suspects=(), steps=state.steps + was_set)
    teaches = own.offset > low, low <= claim.offset < high
    if not any(teaches) and not state.suspects:
        return state
    return replace(state, low=own if teaches[0] else state.low, high=claim if teaches[1] else state.high, suspects=())


def _begin(state: ClockState, own: Bound, claim: Bound) -> ClockState:
    """The bounds that one record gives by itself. A way of up to a minute is blamed before the clock is."""
    if claim.offset < 0 and claim.offset + PLAUSIBLE_DELAY >= USUAL_DELAY:
        return replace(state, low=own, high=replace(claim, offset=0), suspects=(own.at,))
    return replace(state, low=own, high=claim, suspects=())


def _believe(state: ClockState, told: Told, own: Bound) -> ClockState:
    """The state with the word of NTP, where nothing that is known speaks against it."""
    known = state.bounds(own.at)
    if known is None or own.offset < -told.at_most - TOLD_WITHIN:
        return state
    low, high = max(known[0], -told.at_most), min(known[1], told.at_most)
    if low > high or state.refuted:
        return state
    return replace(
        state,
        low=Bound(low, own.at, hard=True) if low > known[0] else state.low,
        high=Bound(high, own.at, hard=True) if high < known[1] else state.high,
    )


def correct(
    state: ClockState,
    *,
    occurred_at: int,
    sent_at: int | None,
    received_at: int,
    monotonic: int | None = None,
    sent_monotonic: int | None = None,
) -> Corrected:
    """The corrected time of an event, after its record was observed.

    `monotonic` and `sent_monotonic`: the sender's monotonic clock at the event and at the sending. Inside the bounds
    the smallest correction is taken, so that a good clock is left alone.
    """
    known = state.bounds(received_at)
    if sent_at is None or known is None or state.low is None or state.high is None:
        return _unsent(state, occurred_at, received_at)
    low, high = known
    offset = _estimate(low, high, proven=state.high.hard)
    if high - low > PLAUSIBLE_DELAY and low < 0 and sent_monotonic is not None and not state.high.hard:
        # The library hands nothing over that it would still send after a minute: rather the clock stood still.
        offset = low + USUAL_SHORTFALL
    # Late by a slow way, or set back just before: without a monotonic clock nobody knows. With one it may still have
    # been slewed, which both clocks follow.
    own = sent_at - received_at - CUT - RECEIVERS
    slewed = low - abs(received_at - state.low.at) * SLEWED_PPM // 1_000_000
    low = min(low, own if sent_monotonic is None else max(own, slewed))
    earliest, latest, waited = occurred_at, occurred_at, sent_at - occurred_at
    if monotonic is not None and sent_monotonic is not None:
        earliest, latest = _as_now(state, occurred_at, monotonic, sent_at - sent_monotonic)
        waited = sent_monotonic - monotonic
    # The event may be much older than its sending; the clock drifted meanwhile.
    least, most = _drifted(state.drift, waited)
    at = latest - offset + ((least + most) // 2 if offset else 0)
    earliest, latest = earliest - high + least, latest - low + most
    # Nothing happens after it was received.
    latest = min(latest, received_at + CUT + RECEIVERS)
    earliest = min(earliest, latest)
    at = min(max(at, earliest), latest)
    return Corrected(at, max(at - earliest, latest - at))


def _as_now(state: ClockState, occurred_at: int, monotonic: int, anchor: int) -> tuple[int, int]:
    """What the wall clock, as it is set at the sending, would have shown at the event: at the earliest, the latest."""
    before = occurred_at - monotonic
    by = anchor - before
    if abs(by) <= READ_APART:
        return occurred_at, occurred_at
    if by < 0:
        return occurred_at + by, occurred_at + by
    jump = state.jump
    if jump is not None and jump.by is not None and abs(jump.before - before) <= READ_APART:
        return occurred_at + jump.by, occurred_at + jump.by
    return occurred_at, occurred_at + by


def _unsent(state: ClockState, occurred_at: int, received_at: int) -> Corrected:
    """The time of an event whose sender does not say when it sent."""
    low = state.low.offset + _drifted(state.drift, received_at - state.low.at)[0] if state.low is not None else None
    if low is not None and low > 0:
        return Corrected(occurred_at - low - UNKNOWN_CLOCK, USUAL_DELAY)
    ahead = max(occurred_at - received_at, 0)
    late = -low if low is not None else 0
    doubt = late if USUAL_DELAY < late <= UNKNOWN_LATE else 0
    return Corrected(occurred_at - ahead, max(UNKNOWN_CLOCK + ahead, doubt))


def _estimate(low: int, high: int, *, proven: bool) -> int:
    """The offset to take from an interval."""
    if low <= 0 <= high:
        return 0
    middle = (low + high) // 2
    nearest = low if low > 0 else high
    if (not proven and low < 0) or (abs(nearest) > SECOND and high - low > SECOND):
        # An assumed or an old upper bound is far off: the truth lies close to the lower end.
        return min(low + USUAL_SHORTFALL, middle)
    if abs(nearest) > SECOND:
        return middle
    # Nearly right: a step beyond what is proven could make a good clock worse.
    step = min(USUAL_SHORTFALL, abs(nearest), (high - low) // 2)
    return low + step if low > 0 else high - step
