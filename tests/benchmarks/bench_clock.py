"""What the clock rule costs: microseconds a call, on simulated records."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deploytrail_processors.rules import clock
from truth.clocks import Seen, simulate

ROUNDS = 5


def run() -> list[tuple[str, str]]:
    """A row for each call of the intake app."""
    records = [record for record in simulate(1, producers=4) if record.sent_at is not None]
    clocks: dict[str, clock.ClockState] = {}
    before, states = [], []
    for record in records:
        before.append(clocks.get(record.producer, clock.ClockState()))
        clocks[record.producer] = _observe(before[-1], record)
        states.append(clocks[record.producer])
    given = list(zip(states, records, strict=True))
    new = list(zip(before, records, strict=True))
    stored = [state.to_json() for state in states]
    size = sorted(len(str(state)) for state in stored)[len(stored) // 2]
    return [
        ("observe", _micros(lambda: [_observe(s, r) for s, r in new], len(new))),
        ("correct", _micros(lambda: [_correct(s, r) for s, r in given], len(given))),
        ("state from its table", _micros(lambda: [clock.ClockState.from_json(s) for s in stored], len(stored))),
        ("state to its table", _micros(lambda: [s.to_json() for s in states], len(states))),
        ("a producer's state", f"{size} characters, median"),
    ]


def _observe(state: clock.ClockState, record: Seen) -> clock.ClockState:
    assert record.sent_at is not None
    return clock.observe(
        state,
        sent_at=record.sent_at,
        received_at=record.received_at,
        echo=clock.Echo(*record.echo) if record.echo else None,
        told=clock.Told(*record.ntp) if record.ntp else None,
        monotonic=record.sent_monotonic,
    )


def _correct(state: clock.ClockState, record: Seen) -> clock.Corrected:
    return clock.correct(
        state,
        occurred_at=record.occurred_at,
        sent_at=record.sent_at,
        received_at=record.received_at,
        monotonic=record.monotonic,
        sent_monotonic=record.sent_monotonic,
    )


def _micros(calls: Callable[[], Any], count: int) -> str:
    """Processor time, the quickest of ROUNDS: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        calls()
        best = min(best, time.process_time() - began)
    return f"{best / count * 1e6:.1f} µs a call"
