"""How right corrected times are, and how honest their ±; what durations and change windows make of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deploytrail_processors.rules import change_window, lifecycle
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.instants import from_micros
from support.values import event, stable_id

from truth.clocks import CLOSES, OPENS, Seen

MS = 1000
GOOD_WITHIN = 25 * MS  # a time this near is right
WORSE = 20 * MS

# A corrected time and its half width, of each record, in order.
Way = Callable[[Sequence[Seen]], list[tuple[int, int]]]

_POLICIES = Policies(
    (
        read_document(
            {
                "kind": "change_window",
                "name": "days",
                "spec": {
                    "effect": "allow",
                    "zone": "UTC",
                    "start": f"2026-01-01T{OPENS:02d}:00",
                    "duration_minutes": (CLOSES - OPENS) * 60,
                    "rrule": "FREQ=DAILY",
                },
            }
        ),
    )
)
_SUBJECT = {"service": "shop", "team": "", "environment": "production", "region": "eu-west-1", "tier": "", "kind": ""}


@dataclass
class Score:
    """Of some events; scores add up. All values are microseconds."""

    held: int = 0
    errors: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)  # errors of the times as reported
    widths: list[int] = field(default_factory=list)
    bound_widths: list[int] = field(default_factory=list)  # of records bound on both sides
    worse: int = 0  # of a good clock: by how much a time was made worse at most
    right: int = 0  # times that were right, and how many of them were made worse than by 20 ms
    spoilt: int = 0

    def add(self, record: Seen, at: int, width: int) -> None:
        error, before = abs(at - record.true_at), abs(record.occurred_at - record.true_at)
        self.held += error <= width
        self.errors.append(error)
        self.before.append(before)
        self.widths.append(width)
        if record.is_bound_on_both_sides:
            self.bound_widths.append(width)
        if before <= GOOD_WITHIN:
            self.right += 1
            self.spoilt += error - before > WORSE
            self.worse = max(self.worse, error - before)

    @property
    def coverage(self) -> float:
        return self.held / len(self.errors) if self.errors else 1.0

    @property
    def error(self) -> float:
        return statistics.median(self.errors) if self.errors else 0.0

    @property
    def worst_error(self) -> float:
        """Of 99 in 100."""
        return sorted(self.errors)[len(self.errors) * 99 // 100] if self.errors else 0.0

    @property
    def width(self) -> float:
        return statistics.median(self.widths) if self.widths else 0.0

    @property
    def bound_width(self) -> float:
        return statistics.median(self.bound_widths) if self.bound_widths else 0.0


@dataclass
class Verdicts:
    """What follows from the times: durations by the lifecycle rule, positions by the change window rule."""

    durations: int = 0
    negative: int = 0
    unknown: int = 0  # an end before its start, beyond what the ± allow
    asked: int = 0
    uncertain: int = 0
    false_outside: int = 0
    false_inside: int = 0


def score(records: Sequence[Seen], corrected: Sequence[tuple[int, int]], by: dict[str, Score]) -> None:
    """Add the scores of each group to `by`."""
    for record, (at, width) in zip(records, corrected, strict=True):
        by.setdefault(record.group, Score()).add(record, at, width)


def total(scores: Iterable[Score]) -> Score:
    """One score of many."""
    whole = Score()
    for found in scores:
        for name in ("held", "right", "spoilt"):
            setattr(whole, name, getattr(whole, name) + getattr(found, name))
        whole.worse = max(whole.worse, found.worse)
        for name in ("errors", "before", "widths", "bound_widths"):
            getattr(whole, name).extend(getattr(found, name))
    return whole


def decide(records: Sequence[Seen], corrected: Sequence[tuple[int, int]], into: Verdicts) -> None:
    """Ask the rules about every deployment."""
    facts: dict[str, lifecycle.Facts] = {}
    for record, (at, width) in zip(records, corrected, strict=True):
        if record.event_type == "progressed":
            continue
        if record.event_type == "started":
            _ask_window(record, at, width, into)
        name = record.deployment
        value = event(
            record.event_type,
            record.occurred_at,
            event_id=stable_id(f"{name}/{record.event_type}"),
            deployment_id=name,
            producer_id=record.producer,
            corrected_at=at,
            uncertainty_ms=-(-width // MS),
            monotonic_ns=None if record.monotonic is None else record.monotonic * 1000,
            boot_id="" if record.monotonic is None else record.producer,
        )
        facts[name] = lifecycle.add(facts.get(name) or lifecycle.new_facts(name), value)
    for known in facts.values():
        content = lifecycle.derive(known, partition_time=1 << 60, lost_after_minutes=None)
        if content["started_at"] is None or content["finished_at"] is None:
            continue
        into.durations += 1
        into.unknown += content["duration_ms"] is None
        into.negative += content["finished_at"] < content["started_at"] or (content["duration_ms"] or 0) < 0


def _ask_window(record: Seen, at: int, width: int, into: Verdicts) -> None:
    true = OPENS <= _hour(record.true_at) < CLOSES
    into.asked += 1
    found = change_window.judge(_SUBJECT, _POLICIES, at=at, uncertainty=width).position
    into.uncertain += found is change_window.Position.UNCERTAIN
    into.false_outside += found is change_window.Position.OUTSIDE and true
    into.false_inside += found is change_window.Position.INSIDE and not true


def _hour(at: int) -> int:
    moment: datetime = from_micros(at).astimezone(UTC)
    return moment.hour
