"""Which deployment took the place of another one? Between deployments of one region and environment.

A deployment that has not ended is superseded by the first newer one of its place that succeeds; one that succeeded
keeps its state, and is followed by the next that ended in success: what is followed by nobody runs now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.states import TERMINAL

# Changes that leave what runs as it is: each takes the place of its own kind only.
_BESIDE = frozenset({"configuration_change", "database_migration", "infrastructure", "feature_flag"})


@dataclass(frozen=True, slots=True)
class Life:
    """What one deployment tells of its place in the order of others, by its own reports. Times in µs."""

    id: str
    names: frozenset[str]
    place: tuple[str, str]
    services: frozenset[str]
    kind: str  # empty for what replaces what runs
    state: str
    begin: int
    end: int | None
    width_ms: int  # ± of the end
    cohorts: frozenset[str]
    instances: frozenset[str]
    runs: frozenset[str]
    parent: str
    undoes: str

    @property
    def succeeded(self) -> bool:
        """Whether it ended in success."""
        return self.state == "succeeded" and self.end is not None


def life_of(facts: lifecycle.Facts, content: Mapping[str, Any]) -> Life:
    """The life of a deployment by its facts and the content that they alone give."""
    kind = content["kind"]
    begins = (content["started_at"], content["queued_at"], content["registered_at"], content["finished_at"])
    builds = lifecycle.claimed(facts, "build_id")
    return Life(
        id=facts["id"],
        names=frozenset(facts.get("names", [facts["id"]])),
        place=(content["region"], content["environment"]),
        services=frozenset(outcome.read(facts).services) | {content["service"]},
        kind=kind if kind in _BESIDE else "",
        state=content["state"],
        begin=next((at for at in begins if at is not None), facts["last"]),
        end=content["finished_at"],
        width_ms=content["finished_at_uncertainty_ms"] or 0,
        cohorts=frozenset(content["cohorts"]),
        instances=frozenset(facts["instances"]),
        runs=frozenset(f"{content['build_system']}/{build}" for build in builds),
        parent=content["parent_deployment_id"],
        undoes=content["rollback_of"],
    )


def follows(newer: Life, older: Life) -> bool:
    """Whether one deployment takes the place of another one once it has succeeded."""
    if not newer.succeeded or newer.id == older.id or older.state in ("voided", "unknown"):
        return False
    if newer.parent in older.names or older.parent in newer.names or (newer.parent and newer.parent == older.parent):
        return False  # parts of one
    if not covers(newer, older):
        return False
    if older.state in TERMINAL:
        return older.succeeded and _ended(newer) > _ended(older)
    return not newer.runs & older.runs and (newer.begin, newer.id) > (older.begin, older.id)


def covers(one: Life, other: Life) -> bool:
    """Whether one changed all that another one did."""
    return (
        one.place == other.place
        and one.kind == other.kind
        and one.services >= other.services
        and (not one.cohorts or (bool(other.cohorts) and one.cohorts >= other.cohorts))
        and (not one.instances or (bool(other.instances) and one.instances >= other.instances))
    )


def follower(older: Life, others: Iterable[Life]) -> Life | None:
    """The first that takes its place."""
    return min((one for one in others if follows(one, older)), key=_ended, default=None)


def _ended(life: Life) -> tuple[int, str]:
    return life.end or 0, life.id
