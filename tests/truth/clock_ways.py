"""Ways to tell when something happened: as reported, when it was received, and by the clock rule."""

from __future__ import annotations

from collections.abc import Sequence

from deploytrail_processors.rules import clock

from truth.clock_score import Way
from truth.clocks import SECOND, Seen


def as_reported(records: Sequence[Seen]) -> list[tuple[int, int]]:
    """The producer's word, to a second."""
    return [(record.occurred_at, SECOND) for record in records]


def when_received(records: Sequence[Seen]) -> list[tuple[int, int]]:
    """The broker's time, to a second."""
    return [(record.received_at, SECOND) for record in records]


def by_the_rule(records: Sequence[Seen]) -> list[tuple[int, int]]:
    """Each record once, in the order of arrival, as the intake app does."""
    clocks: dict[str, clock.ClockState] = {}
    found = []
    for record in records:
        state = clocks.get(record.producer, clock.ClockState())
        if record.sent_at is None:
            state = clock.overhear(state, occurred_at=record.occurred_at, received_at=record.received_at)
        else:
            state = clock.observe(
                state,
                sent_at=record.sent_at,
                received_at=record.received_at,
                echo=clock.Echo(*record.echo) if record.echo else None,
                told=clock.Told(*record.ntp) if record.ntp else None,
                monotonic=record.sent_monotonic,
            )
        clocks[record.producer] = state
        fixed = clock.correct(
            state,
            occurred_at=record.occurred_at,
            sent_at=record.sent_at,
            received_at=record.received_at,
            monotonic=record.monotonic,
            sent_monotonic=record.sent_monotonic,
        )
        found.append((fixed.at, fixed.uncertainty_ms * 1000))
    return found


WAYS: dict[str, Way] = {"as reported": as_reported, "when received": when_received, "deploytrail": by_the_rule}
