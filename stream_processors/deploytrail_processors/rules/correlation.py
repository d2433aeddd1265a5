"""Which deployment may have caused this alert?

In: a signal, the deployments known in its region, the policies, what is known of alerts before it. Out: candidates
with probabilities that sum to one, "none of them" among them, each with its reasons for and against in words.

How likely each is says `causes`. Time is interval arithmetic: with both uncertainties granted, a deployment lies
certainly, possibly or not at all in the minutes before the signal (`correlation_window_minutes`); that words the
verdict, and is no edge of the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import causes
from deploytrail_processors.rules import correlation_words as words
from deploytrail_processors.rules.candidates import COHORTS as COHORTS
from deploytrail_processors.rules.candidates import LINES_CHANGED as LINES_CHANGED
from deploytrail_processors.rules.candidates import MINUTE as MINUTE
from deploytrail_processors.rules.candidates import OLDEST as OLDEST
from deploytrail_processors.rules.candidates import Candidate, find_candidates
from deploytrail_processors.rules.candidates import is_related as is_related
from deploytrail_processors.rules.candidates import latest as latest
from deploytrail_processors.rules.causes import LEAST, Weighed
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.past import NOTHING
from deploytrail_processors.rules.past import Past as Past
from deploytrail_processors.rules.past import alert_key as alert_key
from deploytrail_processors.rules.past import link as link
from deploytrail_processors.rules.past import past_of as past_of
from deploytrail_processors.rules.policies import Policies

RULE = "incident_correlation"
RULE_VERSION = 3
STARTS_AN_INCIDENT = frozenset({"alert_firing", "incident_opened"})
# More candidates than so many are not worth a line.
MOST = 8
# Evidence of an answer that was given again: the how-manieth it is. So no two findings replace each other in a circle.
ANSWER = "answer"
_MADE_BY_FINDING = {
    *("finding_id", "rule", "verdict", "reason", "severity", "occurred_at", "region", "environment", "service"),
    *("explanation", "evidence"),
}


def concerns(signal: Mapping[str, Any]) -> bool:
    """Whether a signal asks for a cause; what our own pages caused does not."""
    return signal["signal_type"] in STARTS_AN_INCIDENT and signal["source"] != "deploytrail"


def weigh(signal: Mapping[str, Any], candidates: Iterable[Candidate], past: Past) -> Weighed:
    """The probabilities of the causes of a signal."""
    at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
    changes = [candidate.change for candidate in candidates if candidate.change is not None]
    return causes.weigh(at, width, past.habit.rate(at, past.everyone), changes, past.earlier)


def correlate(
    signal: Mapping[str, Any],
    deployments: Iterable[Mapping[str, Any]],
    policies: Policies,
    past: Past = NOTHING,
) -> list[Finding]:
    """One finding a candidate, ranked from 1, and one for "none" with an empty deployment id.

    The verdict speaks of the deployment: a violation where it is the likely cause (at least one
    half); "none" is ok where no deployment is.
    """
    candidates = {candidate.id: candidate for candidate in find_candidates(signal, deployments, policies, past.beside)}
    weighed = weigh(signal, candidates.values(), past)
    likely = sorted(
        ((p, cause) for cause, p in weighed.causes.items() if cause in candidates and p >= LEAST),
        key=lambda item: (-item[0], item[1]),
    )[:MOST]
    none = sum(p for cause, p in weighed.causes.items() if cause == causes.NONE or cause not in candidates)
    total = none + sum(p for p, _ in likely)
    ranked = sorted([*likely, (none, causes.NONE)], key=lambda item: (-item[0], item[1]))
    return [
        _finding(signal, candidates.get(cause), p / total, rank, len(likely), past, weighed)
        | {"policy_version": _judged_by(signal, candidates.get(cause), policies)}
        for rank, (p, cause) in enumerate(ranked, 1)
    ]


def _judged_by(signal: Mapping[str, Any], candidate: Candidate | None, policies: Policies) -> str:
    """The window's length, and what the services need: by these it was looked for candidates."""
    services = [signal["service"]]
    if candidate is not None:
        services += [*filter(None, [candidate.near]), candidate.content["service"]]
    return policies.versions(("thresholds", "default"), *(("service", name) for name in services))


def supersede(previous: Mapping[str, Mapping[str, Any]], new: list[Finding]) -> list[Finding]:
    """What to write when an answer is given again: every finding of the new answer, with what it
    replaces. Empty if the answer is the same. `previous`: the standing findings by deployment id."""
    standing = {d: _said_of(f) for d, f in previous.items() if f["probability"]}
    if standing == {f["deployment_id"]: _said_of(f) for f in new}:
        return []
    named = {f["deployment_id"] for f in new}
    gone = [_gone(old) for deployment_id, old in previous.items() if deployment_id not in named and old["probability"]]
    return [_behind(previous.get(f["deployment_id"]), f) for f in [*new, *gone]]


def _said_of(found: Mapping[str, Any]) -> tuple[object, ...]:
    """What a finding says, without the how-manieth answer it is."""
    evidence = {name: text for name, text in found["evidence"].items() if name != ANSWER}
    return found["reason"], found["probability"], evidence


def _behind(old: Mapping[str, Any] | None, new: Finding) -> Finding:
    """A finding in its place behind the one that stands; an answer that comes back is another one than at first."""
    if old is None:
        return new
    if _said_of(old) == _said_of(new):
        return dict(old)
    count = int(old["evidence"].get(ANSWER, "1")) + 1
    fields = {name: given for name, given in new.items() if name not in _MADE_BY_FINDING}
    return finding(
        RULE,
        new["verdict"],
        Reason(new["reason"]),
        subject=new["signal_id"],
        place=new,
        occurred_at=new["occurred_at"],
        severity=new["severity"],
        explanation=new["explanation"],
        evidence=new["evidence"] | {ANSWER: str(count)},
        **fields | {"supersedes": old["finding_id"]},
    )


def _finding(
    signal: Mapping[str, Any],
    candidate: Candidate | None,
    probability: float,
    rank: int,
    rivals: int,
    past: Past,
    weighed: Weighed,
) -> Finding:
    probability = round(probability, 6)
    likely = probability >= 0.5
    evidence = {
        "signal_at": from_micros(signal["corrected_at"]).isoformat(),
        "candidates": str(rivals),
        "fired_before": str(past.habit.count),
        "deployment_id": candidate.id if candidate else "",
    }
    if past.storm:
        evidence["incident"] = past.storm
    if signal["incident_id"]:
        evidence["incident_id"] = signal["incident_id"]
    if weighed.drawn_by is not None and weighed.drawn >= LEAST:
        evidence |= {"follows_signal": weighed.drawn_by.id, "follows_probability": f"{weighed.drawn:.2f}"}
    if candidate is None:
        reason, verdict = Reason.NO_DEPLOYMENT_EXPLAINS_IT, "ok" if likely else "inconclusive"
        said = words.about_none(signal, probability, rivals, past, weighed)
    else:
        reason, verdict = _reason(candidate), "violation" if likely else "inconclusive"
        evidence |= {
            "lag_minutes": f"{candidate.lag_minutes:.2f}",
            "state": candidate.content["state"],
            "timing": candidate.timing,
        }
        if candidate.told:
            evidence["alert_says"] = candidate.told
        if candidate.near:
            evidence["by_incident_at"] = candidate.near
        said = words.about(candidate, signal, probability, rivals, past, weighed)
    return finding(
        RULE,
        verdict,
        reason,
        subject=signal["signal_id"],
        place=dict(signal),
        occurred_at=signal["corrected_at"],
        severity=signal["severity"],
        explanation=said,
        evidence=evidence,
        rule_version=RULE_VERSION,
        deployment_id=candidate.id if candidate else "",
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
    if candidate.change is None:
        return Reason.CAUSED_AN_EARLIER_ALERT
    if candidate.near:
        return Reason.CHANGED_WHERE_THE_INCIDENT_IS
    if candidate.timing == "excluded":
        return Reason.DEPLOYED_LONGER_BEFORE
    if candidate.change.distance:
        return Reason.DEPENDENCY_DEPLOYED_SHORTLY_BEFORE
    return Reason.DEPLOYED_SHORTLY_BEFORE if candidate.timing == "certain" else Reason.DEPLOYED_POSSIBLY_BEFORE
