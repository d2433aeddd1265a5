"""What truly happened on the simulated day, in true time.

Instants are microseconds since the epoch. Sets hold deployment ids unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from deploytrail_local.simulation.world import CORRELATION_WINDOW_MINUTES, HOUR, LOST_AFTER_MINUTES, MINUTE, SECOND

# Nearer to a boundary than this, corrected times may lie on either side of it.
MARGIN = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment as it truly was. `finished_at` None: it had not ended when the day closed,
    or nobody ever said so; of one that is superseded, when a newer one took its place. `outcome` is
    the state of its record when the day closes."""

    id: str
    service: str
    region: str
    environment: str
    producer: str
    deployer: str
    started_at: int
    finished_at: int | None
    outcome: str
    undone_at: int | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing alert. `guilty` is the deployment that caused it, "" for none. `clear`: whether
    nothing else that is related changed near it, so that time alone gives the answer."""

    signal_id: str
    at: int
    region: str
    environment: str
    service: str
    guilty: str
    clear: bool


class Expected(NamedTuple):
    """What a question about time must answer: all of `certain`, and nothing beyond `possible`."""

    certain: frozenset[str]
    possible: frozenset[str]

    def holds(self, found: set[str]) -> bool:
        """Whether an answer is right."""
        return self.certain <= found <= self.possible


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The day's truth. `closes_at` is its end, when the closing tick is due."""

    seed: int
    opens_at: int
    closes_at: int
    deployments: dict[str, Deployment]
    alerts: dict[str, Alert]
    outside_window: frozenset[str]
    uncertain_window: frozenset[str]
    overdue: frozenset[str]
    overdue_taken_back: frozenset[str]
    slow: frozenset[str]
    canaries: frozenset[str]
    rollbacks: frozenset[str]
    looks_outside: str  # by the slow clock; truly inside
    looks_inside: str  # by the slow clock; truly outside
    ids: dict[str, frozenset[str]] = field(repr=False)  # kind of line → distinct ids
    lines: int = 0
    duplicates: int = 0
    disordered: frozenset[str] = frozenset()

    def with_outcome(self, outcome: str) -> frozenset[str]:
        """Deployments whose record has this state when the day closes."""
        return frozenset(d.id for d in self.deployments.values() if d.outcome == outcome)

    def running_at(self, at: int) -> Expected:
        """What runs at an instant."""
        return self._touching(at, at)

    def changed_before(self, signal_id: str, minutes: float = CORRELATION_WINDOW_MINUTES) -> Expected:
        """What changed in an alert's place in the minutes before it: what ran at any time of these."""
        alert = self.alerts[signal_id]
        expected = self._touching(alert.at - int(minutes * MINUTE), alert.at)
        here = {
            d.id for d in self.deployments.values() if (d.region, d.environment) == (alert.region, alert.environment)
        }
        return Expected(expected.certain & here, expected.possible & here)

    def _touching(self, since: int, until: int) -> Expected:
        certain = {
            d.id
            for d in self.deployments.values()
            # Of what was lost only its start is known, and that it was given up.
            if _touches(d, since, until, -MARGIN, d.started_at if d.outcome == "lost" else d.finished_at)
        }
        possible = {
            d.id
            for d in self.deployments.values()
            # A record ends when it was undone, which lies behind the end of its own run.
            if _touches(d, since, until, MARGIN, _given_up_at(d) or d.undone_at or d.finished_at)
        }
        return Expected(frozenset(certain), frozenset(possible))


def _given_up_at(deployment: Deployment) -> int | None:
    """When a lost one is no longer waited for, at the latest."""
    return deployment.started_at + LOST_AFTER_MINUTES * MINUTE + HOUR if deployment.outcome == "lost" else None


def _touches(deployment: Deployment, since: int, until: int, margin: int, end: int | None) -> bool:
    begins = deployment.started_at <= until + margin
    return begins and (end is None or end >= since - margin)
