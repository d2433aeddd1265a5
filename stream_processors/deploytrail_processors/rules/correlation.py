"""Which deployment may have caused this alert?

In: a signal, the deployments known in its region, the policies. Out: candidates with probabilities
that sum to one, "none of them" among them. Time is interval arithmetic: with both uncertainties
granted, a deployment lies certainly, possibly or not at all in the minutes before the signal.

The model is a first, simple one: a candidate's odds against "none" fall with its lag (a change
that breaks something mostly does so soon) and are lower for a dependency than for the service
itself, and for a change whose time is only possibly inside. "None" has constant odds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies

RULE = "incident_correlation"
MINUTE = 60_000_000
# Odds against "none" = 1 of a change of the very service at the moment of the signal ...
ODDS_SAME_SERVICE = 12.0
ODDS_DEPENDENCY = 4.0
# ... falling by half every so many minutes.
HALF_LIFE_MINUTES = 5.0
POSSIBLE_FACTOR = 0.5
STARTS_AN_INCIDENT = frozenset({"alert_firing", "incident_opened"})
# Not yet begun, or taken back: these changed nothing.
CHANGED_NOTHING = frozenset({"registered", "queued", "waiting_approval", "voided", "unknown"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may have caused the signal, with its odds against "none"."""

    content: Mapping[str, Any]
    certain: bool
    dependency: bool
    lag_minutes: float
    odds: float


def concerns(signal: Mapping[str, Any]) -> bool:
    """Whether a signal asks for a cause; what our own pages caused does not."""
    return signal["signal_type"] in STARTS_AN_INCIDENT and signal["source"] != "deploytrail"


def is_related(signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies) -> bool:
    """Whether a change at a place can reach a signal: its service, or one that it depends on, beside it."""
    if any(place[name] != signal[name] for name in ("region", "environment")):
        return False
    return place["service"] in (signal["service"], *policies.service(signal["service"]).depends_on)


def find_candidates(
    signal: Mapping[str, Any], deployments: Iterable[Mapping[str, Any]], policies: Policies
) -> list[Candidate]:
    """Candidates in order of their odds, ties by deployment id."""
    window = policies.thresholds.correlation_window_minutes * MINUTE
    found = []
    for content in deployments:
        if content["state"] in CHANGED_NOTHING or not is_related(signal, content, policies):
            continue
        candidate = _judge(signal, content, window)
        if candidate is not None:
            found.append(candidate)
    return sorted(found, key=lambda c: (-c.odds, c.content["deployment_id"]))


def _judge(signal: Mapping[str, Any], content: Mapping[str, Any], window: float) -> Candidate | None:
    if content["started_at"] is None:
        return None
    start, start_width = content["started_at"], (content["started_at_uncertainty_ms"] or 0) * 1000
    # While it runs, and until its end, a deployment keeps changing what runs.
    end = content["finished_at"] if content["finished_at"] is not None else signal["corrected_at"]
    end_width = (content["finished_at_uncertainty_ms"] or 0) * 1000
    at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
    end = max(min(end, at), start)
    began_after = start - start_width > at + width
    ended_long_before = end + end_width < at - width - window
    if began_after or ended_long_before:
        return None
    certain = start + start_width <= at - width and end - end_width >= at + width - window
    lag = max(at - end, 0) / MINUTE
    dependency = content["service"] != signal["service"]
    odds = (ODDS_DEPENDENCY if dependency else ODDS_SAME_SERVICE) * math.exp2(-lag / HALF_LIFE_MINUTES)
    if content["state"] in ("failed", "rolled_back", "degraded"):
        odds *= 2  # it says itself that it went wrong
    return Candidate(content, certain, dependency, lag, odds if certain else odds * POSSIBLE_FACTOR)


def correlate(signal: Mapping[str, Any], deployments: Iterable[Mapping[str, Any]], policies: Policies) -> list[Finding]:
    """One finding a candidate, ranked from 1, and one for "none" with an empty deployment id.

    The verdict speaks of the deployment: a violation where it is the likely cause (at least one
    half); "none" is ok where no deployment is.
    """
    candidates = find_candidates(signal, deployments, policies)
    total = 1.0 + sum(candidate.odds for candidate in candidates)
    ranked: list[tuple[float, Candidate | None]] = [(c.odds / total, c) for c in candidates] + [(1.0 / total, None)]
    ranked.sort(key=lambda item: -item[0])
    return [_finding(signal, candidate, p, rank, len(candidates)) for rank, (p, candidate) in enumerate(ranked, 1)]


def supersede(previous: Mapping[str, Mapping[str, Any]], new: list[Finding]) -> list[Finding]:
    """What to write when an answer is given again: every finding of the new answer, with what it
    replaces. Empty if the answer is the same. `previous`: the standing findings by deployment id."""
    if {f["finding_id"] for f in previous.values()} == {f["finding_id"] for f in new}:
        return []
    named = {f["deployment_id"] for f in new}
    gone = [_gone(old) for deployment_id, old in previous.items() if deployment_id not in named and old["probability"]]
    return [
        f | {"supersedes": previous[f["deployment_id"]]["finding_id"]}
        if f["deployment_id"] in previous and previous[f["deployment_id"]]["finding_id"] != f["finding_id"]
        else f
        for f in [*new, *gone]
    ]


def _finding(
    signal: Mapping[str, Any], candidate: Candidate | None, probability: float, rank: int, rivals: int
) -> Finding:
    probability = round(probability, 6)
    evidence = {"signal_at": from_micros(signal["corrected_at"]).isoformat(), "candidates": str(rivals)}
    deployment_id, reason = "", Reason.NO_DEPLOYMENT_EXPLAINS_IT
    likely = probability >= 0.5
    verdict = "ok" if likely else "inconclusive"
    words = f"{probability:.0%} that no known deployment caused {signal['title'] or signal['fingerprint']}"
    if candidate is not None:
        deployment_id = candidate.content["deployment_id"]
        reason = _reason(candidate)
        evidence |= {
            "lag_minutes": f"{candidate.lag_minutes:.2f}",
            "state": candidate.content["state"],
            "timing": "certain" if candidate.certain else "possible",
        }
        verdict = "violation" if likely else "inconclusive"
        words = _words(candidate, probability)
    return finding(
        RULE,
        verdict,
        reason,
        subject=signal["signal_id"],
        place=dict(signal),
        occurred_at=signal["corrected_at"],
        severity=signal["severity"],
        explanation=words,
        evidence=evidence | {"deployment_id": deployment_id},
        deployment_id=deployment_id,
        signal_id=signal["signal_id"],
        rank=rank,
        probability=probability,
    )


def _gone(old: Mapping[str, Any]) -> Finding:
    return finding(
        RULE,
        "inconclusive",
        Reason.NO_LONGER_A_CANDIDATE,
        subject=old["signal_id"],
        place=dict(old),
        occurred_at=old["occurred_at"],
        severity=old["severity"],
        explanation="what came later excludes it",
        evidence={"deployment_id": old["deployment_id"], "replaced": old["finding_id"]},
        deployment_id=old["deployment_id"],
        signal_id=old["signal_id"],
        rank=0,
        probability=0.0,
        supersedes=old["finding_id"],
    )


def _reason(candidate: Candidate) -> Reason:
    if candidate.dependency:
        return Reason.DEPENDENCY_DEPLOYED_SHORTLY_BEFORE
    return Reason.DEPLOYED_SHORTLY_BEFORE if candidate.certain else Reason.DEPLOYED_POSSIBLY_BEFORE


def _words(candidate: Candidate, probability: float) -> str:
    content = candidate.content
    what = "a dependency of the service" if candidate.dependency else "the service itself"
    when = "while it ran" if content["finished_at"] is None else f"{candidate.lag_minutes:.1f} minutes after it ended"
    sure = "" if candidate.certain else "; against it: the clocks leave open whether it came before"
    return (
        f"{probability:.0%}: {content['service']} {content['version']} ({content['deployment_id']}) changed {what}, "
        f"the signal came {when}{sure}"
    )
