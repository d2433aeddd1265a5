"""Which deployments could have caused an alert at all, and what the alert says of itself for or against each.

In: a signal, deployments of its region, the policies of its time, the services where other alerts of its incident are.
Out: candidates, each with the change that may be the cause.

An alert may say where it comes from: its label `cohort`, and labels that name a deployment or what runs there
(`deployment_id`, `artifact_digest`, `commit_sha`, `version`). Such words speak of what runs at the alert's own service,
so they are held against changes of that one alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.policies.scope import EVERYWHERE

from deploytrail_processors.rules import causes, lifecycle
from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules.artefacts import Artefact, artefact_of
from deploytrail_processors.rules.causes import Change, Fit
from deploytrail_processors.rules.deployment_times import began
from deploytrail_processors.rules.policies import Policies

MINUTE = 60_000_000
# Not yet begun, or taken back: these changed nothing.
CHANGED_NOTHING = frozenset({"registered", "queued", "waiting_approval", "voided", "unknown"})
WENT_WRONG = frozenset({"failed", "rolled_back", "degraded"})
# How long before a signal a change may have been made to be looked at.
OLDEST = 24 * 60 * MINUTE
LINES_CHANGED = "lines_changed"  # the tag that tells how large a change is
# A larger change raises no more alerts: whoever writes tags must not outweigh everything else.
MOST_LINES = 1e7
COHORTS = "cohorts_begun"  # in a deployment's content: cohort → [since when, µs; its share then, or None]
# Labels by which an alert says where it comes from, and so many characters of each.
_NAMES = ("deployment_id", "artifact_digest", "commit_sha", "version", "cohort")
_LONGEST = 256
# Weights that a deployment's cohorts had one after the other: the first of them are kept.
MOST_WEIGHTS = 64
_NO_WORD = ("", "unknown")
_BEGUN = frozenset({"started", "progressed", "succeeded", "failed", "rolled_back"})
_ALL = 0.999
_LATER = 1 << 62


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may have caused the signal. `change` None: only by way of an earlier alert. `near`: the other
    service of the signal's incident that it changed, or what that needs; empty where it is the signal's own.
    `told`: what the alert says of itself for or against it, in words."""

    content: Mapping[str, Any]
    change: Change | None
    timing: str  # certain, possible or excluded: in the minutes before the signal
    lag_minutes: float
    near: str = ""
    told: str = ""

    @property
    def id(self) -> str:
        """The deployment's id."""
        return str(self.content["deployment_id"])


def labels_of(signal: Mapping[str, Any]) -> dict[str, str]:
    """The labels by which an alert says where it comes from."""
    given = signal["labels"]
    return {name: given[name][:_LONGEST] for name in _NAMES if given.get(name)}


def said_by(signal: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an alert to know where it comes from and what it is a part of."""
    return {"labels": labels_of(signal), "incident_id": signal["incident_id"][:_LONGEST]}


def size_of(text: str | None) -> float:
    """How many lines a change has by its tag; 0 where that says nothing, or no number that can be one."""
    try:
        lines = float(text or 0)
    except ValueError:
        return 0.0
    return min(max(lines, 0.0), MOST_LINES) if math.isfinite(lines) else 0.0


def weights_with(known: Iterable[list[Any]], event: Mapping[str, Any]) -> list[list[Any]]:
    """The weights of cohorts one after the other, [at, event id, cohort, weight], with what an event says of one. What
    is said of one that is still to begin has no time of its own."""
    kept = [list(one) for one in known]
    if (share := lifecycle.share_in(event)) is not None:
        at = event["corrected_at"] if event["event_type"] in _BEGUN else _LATER
        kept.append([at, event["event_id"], event["cohort"], share])
    return [list(one) for one in sorted({tuple(one) for one in kept})[:MOST_WEIGHTS]]


def cohorts_at(facts: Mapping[str, Any], weights: Iterable[list[Any]], at: int) -> dict[str, float | None]:
    """The cohorts of a deployment that had begun by `at` (µs), with the share of the work that each had then, where it
    is known; the empty one once the whole had succeeded. What began later could not cause an alert yet."""
    begun: dict[str, float | None] = {}
    whole = False
    for _, cohort, kind, mark in outcome.read(facts).marks:
        if kind in _BEGUN and mark[0] - mark[1] * 1000 <= at:
            whole = whole or (not cohort and kind == "succeeded")
            begun |= {cohort: None} if cohort else {}
    for since, _, cohort, weight in weights:
        if since <= at or begun.get(cohort, 0.0) is None:
            begun[cohort] = float(weight)
    return begun | {"": 1.0} if begun and whole else begun


def latest(signal: Mapping[str, Any]) -> int:
    """When a signal happened at the latest."""
    return int(signal["corrected_at"] + (signal["uncertainty_ms"] or 0) * 1000)


def distance(signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies, service: str = "") -> int | None:
    """How a change at a place can reach a signal (or another `service` beside it): 0 as its service, 1 as one that it
    depends on, 2 as one that those depend on; None: not at all. What is changed everywhere is changed in its region."""
    if place["environment"] != signal["environment"]:
        return None
    if place["region"] != signal["region"] and place["region"].lower() not in EVERYWHERE:
        return None
    return policies.graph.distance(service or signal["service"], place["service"])


def is_related(
    signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies, beside: Iterable[str] = ()
) -> bool:
    """Whether a change at a place can reach a signal, or one of the services `beside`, where others of its incident
    are."""
    return any(distance(signal, place, policies, service) is not None for service in ("", *beside))


def find_candidates(
    signal: Mapping[str, Any],
    deployments: Iterable[Mapping[str, Any]],
    policies: Policies,
    beside: Collection[str] = (),
) -> list[Candidate]:
    """Deployments that could have caused it, in order of their ids."""
    window = policies.thresholds.correlation_window_minutes * MINUTE
    labels, found = labels_of(signal), []
    possible = [one for one in deployments if one["state"] not in CHANGED_NOTHING and began(one) is not None]
    named = _Named(labels, possible, latest(signal))
    for content in possible:
        near, of, reached = _nearest(signal, content, policies, beside)
        fit, told = (Fit(), "") if of else named.fit(content, near)
        candidate = _judge(signal, content, reached, fit, window)
        if candidate is not None:
            found.append(Candidate(content, *candidate, of, told))
    return sorted(found, key=lambda c: c.id)


def _nearest(
    signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies, beside: Collection[str]
) -> tuple[int | None, str, tuple[int, float] | None]:
    """The distance; of which other service of the incident, if that is a shorter way; and how much of it reaches."""
    ways = []
    changed = [{**place, "service": service} for service in place["components"] or [place["service"]]]
    for service in ("", *sorted(beside)):
        for one in changed:
            if (far := distance(signal, one, policies, service)) is not None:
                ways.append((-causes.REACHES[far] * (causes.OF_THE_INCIDENT if service else 1.0), service, far))
    if not ways:
        return None, "", None
    _, of, far = min(ways)
    return far, of, (far, causes.OF_THE_INCIDENT if of else 1.0)


def _judge(
    signal: Mapping[str, Any], content: Mapping[str, Any], reached: tuple[int, float] | None, fit: Fit, window: float
) -> tuple[Change | None, str, float] | None:
    begun = began(content)
    assert begun is not None
    start, start_width = begun
    # While it runs, and until its end, a deployment keeps changing what runs.
    end = content["finished_at"] if content["finished_at"] is not None else signal["corrected_at"]
    end_width = (content["finished_at_uncertainty_ms"] or 0) * 1000
    at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
    end = max(min(end, at), start)
    if start - start_width > at + width or end + end_width < at - width - OLDEST:
        return None
    certain = start + start_width <= at - width and end - end_width >= at + width - window
    excluded = end + end_width < at - width - window
    change = None
    if reached is not None:
        change = Change(
            content["deployment_id"],
            reached[0],
            start,
            end,
            start_width,
            content["kind"],
            content["state"] in WENT_WRONG,
            float(content.get(LINES_CHANGED) or 0),
            fit.ratio * reached[1],
        )
    timing = "certain" if certain else "excluded" if excluded else "possible"
    return change, timing, max(at - end, 0) / MINUTE


class _Named:
    """What an alert's labels say of the deployments around it. A name counts against one only where it is that of
    another one here: else it is of another vocabulary, or of what was deployed long ago."""

    def __init__(self, labels: Mapping[str, str], deployments: Iterable[Mapping[str, Any]], at: int) -> None:
        self._at = at
        self._artefact = Artefact(*(labels.get(name, "") for name in ("artifact_digest", "version", "commit_sha")))
        self._id = labels.get("deployment_id", "")
        self._cohort = labels.get("cohort", "")
        around = list(deployments) if self._id or self._artefact else []
        self._id_is_known = any(self._id in one["deployment_ids"] for one in around if self._id)
        self._artefact_is_known = any(self._runs(one) or self._ran_before(one) for one in around if self._artefact)

    def fit(self, content: Mapping[str, Any], far: int | None) -> tuple[Fit, str]:
        """How much likelier what the alert says is of this deployment, and in words; by the surest of its labels."""
        if self._id_is_known:
            if self._id in content["deployment_ids"]:
                return Fit(True, causes.NAMED_BY_CHANCE), "the alert names it"
            if not far:
                return Fit(False), f"the alert names another, {self._id}"
        if far:  # what runs at the alert's own service says nothing of what it depends on
            return Fit(), ""
        begun = content.get(COHORTS) or {}
        share = self._share(content, begun)
        same = self._runs(content) if self._artefact_is_known else None
        if same is None and self._artefact_is_known and self._artefact.commit and content["commit_sha"]:
            same = False  # commits of one repository: the alert's is that of another change here
        if same is not None:
            words = f"the alert comes from {self._artefact.name}, "
            return Fit(same, share), words + ("which it brought" if same else "which it did not bring")
        if self._cohort and begun and (share is None or share < _ALL):  # else it has changed every cohort
            if self._cohort in begun:
                return Fit(True, begun[self._cohort]), f"the alert comes from its cohort {self._cohort}"
            return Fit(False), f"the alert comes from {self._cohort}, it had only changed {', '.join(sorted(begun))}"
        return Fit(), ""

    def _runs(self, content: Mapping[str, Any]) -> bool | None:
        return self._artefact.is_same(artefact_of(content))

    def _ran_before(self, content: Mapping[str, Any]) -> bool | None:
        return content["previous_version"] not in _NO_WORD and self._artefact.is_same(
            Artefact(version=content["previous_version"])
        )

    def _share(self, content: Mapping[str, Any], begun: Mapping[str, float | None]) -> float | None:
        """The share of the work that a deployment had changed when the alert came; None where nobody says it. Once all
        of it is changed, every alert of the service comes from there, whatever caused it."""
        ended = content["state"] == "succeeded" and content["finished_at"] is not None
        if "" in begun or (not begun and ended and content["finished_at"] <= self._at):
            return 1.0
        shares = [share for share in begun.values() if share is not None]
        return min(sum(shares), 1.0) if shares and len(shares) == len(begun) else None
