"""Which deployments a place may run at an instant: the one in force, those under way, and what these replace.

In: what is known of a place's deployments, in any order. Uncertain times widen what is allowed, they never narrow it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules.artefacts import Artefact, artefact_of

FOREVER = 1 << 62
# Who says only that it ended, may have begun so long before.
_LONGEST_UNTOLD = 60 * 60_000_000
_BEGAN = frozenset({"running", "degraded", "succeeded", "failed", "cancelled", "rolled_back", "lost"})
_OPEN = frozenset({"running", "degraded", "lost"})


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment that has begun: `since` when, at the earliest, by its own word, and by when it had ended. µs.

    `until` is None while it is open; then `lost_at` says until when it counts as being under way. `told`: whether it
    says when it began; else `since` is its end.
    """

    id: str
    artefact: Artefact
    state: str
    since: int
    until: int | None
    lost_at: int
    told: bool = True
    inferred: bool = False

    @property
    def earliest(self) -> int:
        """From when on it may have changed what runs."""
        return self.since if self.told else self.since - _LONGEST_UNTOLD

    @property
    def succeeded(self) -> bool:
        """Whether it is in force from its end on."""
        return self.state == "succeeded" and self.until is not None

    def ends(self) -> int:
        """When it no longer is under way."""
        return self.until if self.until is not None else self.lost_at


def deployed_of(content: Mapping[str, Any], lost_at: int) -> Deployed | None:
    """A deployment's record as it matters here; None for one that has changed nothing (yet)."""
    if content["state"] not in _BEGAN:
        return None
    began, ended = content["started_at"], content["finished_at"]
    if began is None and ended is None:
        return None
    began_width = (content["started_at_uncertainty_ms"] or 0) * 1000
    ended_width = (content["finished_at_uncertainty_ms"] or 0) * 1000
    since = began - began_width if began is not None else ended - ended_width
    until = ended + ended_width if ended is not None and content["state"] not in _OPEN else None
    name, artefact, state = content["deployment_id"], artefact_of(content), content["state"]
    return Deployed(name, artefact, state, since, until, lost_at, told=began is not None)


def to_row(one: Deployed) -> list[Any]:
    """Plain JSON."""
    artefact = [one.artefact.digest, one.artefact.version, one.artefact.commit]
    return [one.id, artefact, one.state, one.since, one.until, one.lost_at, one.told]


def from_row(row: list[Any]) -> Deployed:
    """The deployment of `to_row`."""
    name, artefact, state, since, until, lost_at, told = row
    return Deployed(name, Artefact(*artefact), state, since, until, lost_at, told)


def in_force(deployments: Iterable[Deployed], at: int) -> Deployed | None:
    """The last one that had succeeded by then; of those that ended together the one that began last."""
    done = [one for one in deployments if one.succeeded and one.ends() <= at]
    return max(done, key=lambda one: (one.ends(), one.since, one.id), default=None)


def allowed(deployments: Iterable[Deployed], earliest: int, latest: int, settle: int) -> list[Deployed]:
    """Whose artefacts may begin to run between two instants.

    The one in force; every one that is under way, or ended no longer than `settle` before, with what was in force when
    it began; those that ran at the same time as the one in force, since nobody knows which of them came last; and what
    has failed, until something succeeds.
    """
    known = list(deployments)
    found: dict[str, Deployed] = {}

    def allow(one: Deployed | None) -> None:
        if one is not None:
            found[one.id] = one

    current = in_force(known, earliest)
    allow(current)
    for one in known:
        if one.earliest - settle > latest:  # a start may be told a moment after what it started
            continue
        if one.ends() + settle >= earliest:
            allow(one)
            allow(in_force((other for other in known if other.id != one.id), one.since))
        beside = current is not None and current.told and one.succeeded and one.ends() >= current.since
        left = one.state in ("failed", "cancelled") and (current is None or current.ends() <= one.ends())
        if beside or left:
            allow(one)
    return sorted(found.values(), key=lambda one: (one.since, one.id))


class Timeline:
    """What is allowed at any instant, worked out once between two changes: many instances start together."""

    def __init__(self, deployments: Iterable[Deployed], settle: int) -> None:
        self.deployments = list(deployments)
        self._settle = settle
        self._changes = sorted(
            {t for d in self.deployments for t in (d.earliest - settle, d.ends(), d.ends() + settle)}
        )
        self._known: dict[tuple[int, int, int], list[Deployed]] = {}

    def allowed(self, earliest: int, latest: int) -> list[Deployed]:
        """See `allowed`."""
        changes = self._changes
        key = bisect_left(changes, earliest), bisect_right(changes, earliest), bisect_right(changes, latest)
        if key not in self._known:
            self._known[key] = allowed(self.deployments, earliest, latest, self._settle)
        return self._known[key]


def is_under_way(deployments: Iterable[Deployed], at: int) -> bool:
    """Whether one is being deployed."""
    return any(one.until is None and one.since <= at < one.lost_at for one in deployments)
