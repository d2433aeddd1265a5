"""Which deployment may have caused this alert?

In: a signal, the deployments known in its region, the policies, what is known of alerts before it. Out: candidates
with probabilities that sum to one, "none of them" among them, each with its reasons for and against in words.

How likely each is says `causes`. Time is interval arithmetic: with both uncertainties granted, a deployment lies
certainly, possibly or not at all in the minutes before the signal (`correlation_window_minutes`); that words the
verdict, and is no edge of the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import causes
from deploytrail_processors.rules.causes import Change, Earlier, Habit, Link, Weighed
from deploytrail_processors.rules.deployment_times import began
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies

RULE = "incident_correlation"
RULE_VERSION = 2
MINUTE = 60_000_000
STARTS_AN_INCIDENT = frozenset({"alert_firing", "incident_opened"})
# Not yet begun, or taken back: these changed nothing.
CHANGED_NOTHING = frozenset({"registered", "queued", "waiting_approval", "voided", "unknown"})
WENT_WRONG = frozenset({"failed", "rolled_back", "degraded"})
# How long before a signal a change may have been made to be looked at.
OLDEST = 24 * 60 * MINUTE
# Candidates that are less likely are not worth a line, nor are more than so many.
LEAST, MOST = 0.01, 8
# Evidence of an answer that was given again: the how-manieth it is. So no two findings replace each other in a circle.
ANSWER = "answer"
_MADE_BY_FINDING = {
    *("finding_id", "rule", "verdict", "reason", "severity", "occurred_at", "region", "environment", "service"),
    *("explanation", "evidence"),
}
LINES_CHANGED = "lines_changed"  # the tag that tells how large a change is
# A larger change raises no more alerts: whoever writes tags must not outweigh everything else.
MOST_LINES = 1e7
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of alerts around a signal: how often this one fires, how often all of its region do (`everyone`),
    those of the last hours with the answers that stand, and the alert that began the storm that it belongs to."""

    habit: Habit = Habit()
    everyone: Habit = Habit()
    earlier: tuple[Earlier, ...] = ()
    storm: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may have caused the signal. `change` None: only by way of an earlier alert."""

    content: Mapping[str, Any]
    change: Change | None
    timing: str  # certain, possible or excluded: in the minutes before the signal
    lag_minutes: float

    @property
    def id(self) -> str:
        """The deployment's id."""
        return str(self.content["deployment_id"])


def concerns(signal: Mapping[str, Any]) -> bool:
    """Whether a signal asks for a cause; what our own pages caused does not."""
    return signal["signal_type"] in STARTS_AN_INCIDENT and signal["source"] != "deploytrail"


def size_of(text: str | None) -> float:
    """How many lines a change has by its tag; 0 where that says nothing, or no number that can be one."""
    try:
        lines = float(text or 0)
    except ValueError:
        return 0.0
    return min(max(lines, 0.0), MOST_LINES) if math.isfinite(lines) else 0.0


def latest(signal: Mapping[str, Any]) -> int:
    """When a signal happened at the latest."""
    return int(signal["corrected_at"] + (signal["uncertainty_ms"] or 0) * 1000)


def distance(signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies) -> int | None:
    """How a change at a place can reach a signal: 0 as its service, 1 as one that it depends on, 2 as one that those
    depend on; None: not at all."""
    if any(place[name] != signal[name] for name in ("region", "environment")):
        return None
    return policies.graph.distance(signal["service"], place["service"])


def is_related(signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies) -> bool:
    """Whether a change at a place can reach a signal."""
    return distance(signal, place, policies) is not None


def link(signal: Mapping[str, Any], earlier: Mapping[str, Any], policies: Policies) -> Link | None:
    """How an earlier alert is related to a signal; None where it is of another region or environment."""
    if any(earlier[name] != signal[name] for name in ("region", "environment")):
        return None
    ours, theirs = signal["service"], earlier["service"]
    if ours == theirs:
        return Link.SAME_ALERT if alert_key(signal) == alert_key(earlier) else Link.SAME_SERVICE
    needs, needed = policies.service(ours).depends_on, policies.service(theirs).depends_on
    if theirs in needs:
        return Link.DEPENDENCY
    if ours in needed:
        return Link.DEPENDENT
    return Link.SIBLING if set(needs) & set(needed) else Link.ELSEWHERE


def alert_key(signal: Mapping[str, Any]) -> str:
    """What makes two signals the same alert: the source's fingerprint, else its title, at one service and place."""
    name = signal["fingerprint"] or signal["title"]
    return "\x1f".join((signal["region"], signal["environment"], signal["service"], name))


def past_of(
    signal: Mapping[str, Any],
    before: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]],
    habit: Habit,
    everyone: Habit,
    policies: Policies,
    storm: str = "",
) -> Past:
    """What counts of the alerts before a signal. `before`: signals with the probabilities of their causes; those that
    came later, or too long before, are left out."""
    earlier = []
    at = signal["corrected_at"]
    for one, its_causes in before:
        ago = at - one["corrected_at"]
        if not 0 <= ago <= causes.LOOKS_BACK_FOR_ITSELF or (not ago and one["signal_id"] >= signal["signal_id"]):
            continue
        related = link(signal, one, policies)
        if related is None or (related is not Link.SAME_ALERT and ago > causes.LOOKS_BACK):
            continue
        earlier.append(Earlier(one["signal_id"], related, ago / MINUTE, its_causes))
    return Past(habit, everyone, tuple(earlier), storm)


def find_candidates(
    signal: Mapping[str, Any], deployments: Iterable[Mapping[str, Any]], policies: Policies
) -> list[Candidate]:
    """Deployments that could have caused it, in order of their ids."""
    window = policies.thresholds.correlation_window_minutes * MINUTE
    found = []
    for content in deployments:
        near = distance(signal, content, policies)
        candidate = _judge(signal, content, near, window)
        if candidate is not None:
            found.append(candidate)
    return sorted(found, key=lambda c: c.id)


def _judge(signal: Mapping[str, Any], content: Mapping[str, Any], near: int | None, window: float) -> Candidate | None:
    begun = began(content)
    if begun is None or content["state"] in CHANGED_NOTHING:
        return None
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
    if near is not None:
        change = Change(
            content["deployment_id"],
            near,
            start,
            end,
            start_width,
            content["kind"],
            content["state"] in WENT_WRONG,
            float(content.get(LINES_CHANGED) or 0),
        )
    timing = "certain" if certain else "excluded" if excluded else "possible"
    return Candidate(content, change, timing, max(at - end, 0) / MINUTE)


def weigh(signal: Mapping[str, Any], candidates: Iterable[Candidate], past: Past) -> Weighed:
    """The probabilities of the causes of a signal."""
    at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
    changes = [candidate.change for candidate in candidates if candidate.change is not None]
    return causes.weigh(at, width, past.habit.rate(at, past.everyone), changes, past.earlier)


def correlate(
    signal: Mapping[str, Any],
    deployments: Iterable[Mapping[str, Any]],
    policies: Policies,
    past: Past = Past(),  # frozen
) -> list[Finding]:
    """One finding a candidate, ranked from 1, and one for "none" with an empty deployment id.

    The verdict speaks of the deployment: a violation where it is the likely cause (at least one
    half); "none" is ok where no deployment is.
    """
    candidates = {candidate.id: candidate for candidate in find_candidates(signal, deployments, policies)}
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
    services = [signal["service"], *([candidate.content["service"]] if candidate is not None else [])]
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
    if weighed.drawn_by is not None and weighed.drawn >= LEAST:
        evidence |= {"follows_signal": weighed.drawn_by.id, "follows_probability": f"{weighed.drawn:.2f}"}
    if candidate is None:
        reason, verdict = Reason.NO_DEPLOYMENT_EXPLAINS_IT, "ok" if likely else "inconclusive"
        words = f"{probability:.0%} that no known deployment caused {signal['title'] or signal['fingerprint']}"
        words += _said([*_about_the_alert(signal, past, weighed), *([] if rivals else ["no change is near"])])
    else:
        reason, verdict = _reason(candidate), "violation" if likely else "inconclusive"
        evidence |= {
            "lag_minutes": f"{candidate.lag_minutes:.2f}",
            "state": candidate.content["state"],
            "timing": candidate.timing,
        }
        words = _words(candidate, probability)
        words += _said(_for(candidate, weighed, past, signal), "; for it: ")
        words += _said(_against(candidate, rivals, past, signal), "; against it: ")
    if past.storm:
        words += f"; it is one of the storm of alerts that {_BEGAN[past.storm == signal['signal_id']]}"
    return finding(
        RULE,
        verdict,
        reason,
        subject=signal["signal_id"],
        place=dict(signal),
        occurred_at=signal["corrected_at"],
        severity=signal["severity"],
        explanation=words,
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
    if candidate.timing == "excluded":
        return Reason.DEPLOYED_LONGER_BEFORE
    if candidate.change.distance:
        return Reason.DEPENDENCY_DEPLOYED_SHORTLY_BEFORE
    return Reason.DEPLOYED_SHORTLY_BEFORE if candidate.timing == "certain" else Reason.DEPLOYED_POSSIBLY_BEFORE


def _words(candidate: Candidate, probability: float) -> str:
    content, change = candidate.content, candidate.change
    what = "something else" if change is None else _CHANGED[change.distance]
    when = "while it ran" if content["finished_at"] is None else f"{candidate.lag_minutes:.1f} minutes after it ended"
    named = f"{content['service']} {content['version']} ({content['deployment_id']})"
    return f"{probability:.0%}: {named} changed {what}, the signal came {when}"


_BEGAN = {True: "it began", False: "others began"}
_CHANGED = ("the service itself", "a dependency of the service", "a dependency of a dependency")


def _for(candidate: Candidate, weighed: Weighed, past: Past, signal: Mapping[str, Any]) -> list[str]:
    found = []
    if candidate.content["state"] in WENT_WRONG:
        found.append(f"it says itself that it {candidate.content['state'].replace('_', ' ')}")
    by = weighed.drawn_by
    if by is not None and weighed.drawn >= LEAST and by.causes.get(candidate.id, 0.0) >= 0.5:
        found.append(f"it likely caused {by.link}, {by.minutes:.0f} minutes before")
    days = past.habit.watched(signal["corrected_at"]) / _DAY_MINUTES
    if not past.habit.count and days >= 7:
        found.append(f"the alert never fired in the {days:.0f} days before")
    return found


def _against(candidate: Candidate, rivals: int, past: Past, signal: Mapping[str, Any]) -> list[str]:
    found = []
    if candidate.timing == "possible":
        found.append("the clocks leave open whether it came before, or how long")
    if candidate.timing == "excluded":
        found.append("it is longer ago than most causes are")
    if candidate.content["kind"] in ("hotfix", "rollback"):
        found.append("it rather answers an incident than causes one")
    if rivals > 1:
        found.append(f"{rivals - 1} other change{'s' if rivals > 2 else ''} may have")
    if past.habit.count:
        found.append(f"the alert fires by itself about {_per_day(past, signal):.1f} times a day")
    return found


def _about_the_alert(signal: Mapping[str, Any], past: Past, weighed: Weighed) -> list[str]:
    found = []
    if past.habit.count:
        found.append(f"it fires about {_per_day(past, signal):.1f} times a day")
    by = weighed.drawn_by
    if by is not None and weighed.drawn >= 0.1:
        found.append(f"it follows {by.link}, {by.minutes:.0f} minutes before")
    return found


def _per_day(past: Past, signal: Mapping[str, Any]) -> float:
    minutes = max(past.habit.watched(signal["corrected_at"]), _DAY_MINUTES)
    return past.habit.count / minutes * _DAY_MINUTES


def _said(parts: list[str], lead: str = "; ") -> str:
    return lead + ", ".join(parts) if parts else ""
