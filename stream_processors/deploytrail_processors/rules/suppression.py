"""Does a deployment explain this alert for now, so that nobody need be woken before it has ended?

In: an alert, what is known of its history, deployments, the policies, partition time. Out: it is suppressed by a
deployment, or shown although one runs, with the reason; later, its release.

A suppression is bound to the life of one deployment: it begins (a lead before its start included), ends with the first
end reported of it, when a newer deployment took its place, when it is lost, or at the policy's limit, whichever is
first, and never begins again for the same alert. What is uncertain is not suppressed; critical alerts and those that
never fired before it began, or have no name by which that could be known, are never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.past import is_nameless
from deploytrail_processors.rules.policies import Policies, Suppression, suppression_for

RULE = "alert_suppression"
MINUTE = 60_000_000
_LONGEST_LABELS = 4096
ANNOUNCED = frozenset({"registered", "queued"})
ACTIVE = ANNOUNCED | {"running", "degraded"}
RELEASES = frozenset(
    {
        Reason.RELEASED_AT_END,
        Reason.RELEASED_LOST,
        Reason.RELEASED_SUPERSEDED,
        Reason.RELEASED_AT_LIMIT,
        Reason.RELEASED_NO_LONGER_COVERED,
        Reason.RESOLVED_WHILE_SUPPRESSED,
    }
)
# Reasons of an alert that a deployment has suppressed, for good or for now.
BOUND = RELEASES | {Reason.SUPPRESSED_DURING_DEPLOYMENT}
Notes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as the rule needs it: its record's content, the notes of its events, when it would be lost, and
    which newer one, with the time of its success, took its place, whatever became of this one."""

    content: Mapping[str, Any]
    notes: Mapping[str, Any]
    lost_at: int
    overtaken: tuple[int, str] | None = None

    @property
    def id(self) -> str:
        """The deployment's id."""
        return str(self.content["deployment_id"])


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an alert beside itself: by when it was seen first, and when it resolved. None: not yet."""

    first_seen: int | None = None
    resolved_at: int | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """From when to when a deployment may keep an alert quiet, by which policy. µs; `begin` may be off by `width`."""

    begin: int
    width: int
    until: int
    policy: str
    severities: tuple[str, ...]
    cohort: str = ""


def concerns(signal: Mapping[str, Any]) -> bool:
    """Whether a signal may be suppressed at all: alerts, but for those that our own pages caused."""
    return bool(signal["signal_type"] == "alert_firing" and signal["source"] != "deploytrail")


def new_notes() -> Notes:
    """Notes of a deployment of which nothing was heard yet."""
    return {"announced": None, "ended": {}}


def notes_of(facts: lifecycle.Facts) -> Notes:
    """What a deployment's facts tell: first announcement, and first end of each cohort."""
    told = outcome.read(facts).marks
    announced = [[mark[0], mark[1] * 1000] for _, _, kind, mark in told if kind in ANNOUNCED]
    notes = {**new_notes(), "announced": min(announced, default=None)}
    for _, cohort, kind, mark in told:
        if kind in lifecycle.TERMINAL:
            notes = note_end(notes, cohort, mark[0])
    return notes


def note_end(notes: Notes, cohort: str, at: int) -> Notes:
    """The notes with an end of a cohort; of the whole deployment for an empty one."""
    return {**notes, "ended": {**notes["ended"], cohort: min(at, notes["ended"].get(cohort, at))}}


def resolves(signal: Mapping[str, Any], resolved: Iterable[list[int | None]]) -> int | None:
    """When an alert resolved, out of (time, begin of what resolved) of its key; None: it still fires."""
    at, began = signal["corrected_at"], signal["started_at"]
    return min(
        (
            end
            for end, start in resolved
            if end is not None and end >= at and (began is None or start is None or start >= began)
        ),
        default=None,
    )


def decide(
    signal: Mapping[str, Any], known: Known, deployments: Iterable[Deployment], policies: Policies, *, now: int
) -> Finding | None:
    """What is to be said of an alert that is not suppressed yet, at partition time `now`; None: no deployment that
    runs has to do with it. `policies`: those of the alert's time."""
    if known.resolved_at is not None:
        return None
    found = []
    for deployment in deployments:
        cover = cover_of(signal, deployment, policies)
        if (
            cover is None
            or deployment.content["state"] not in ACTIVE
            or _end(deployment, cover.cohort) is not None
            or deployment.overtaken is not None
            or now >= cover.until
        ):
            continue
        reason = _judge(signal, known, cover)
        if reason is not None:
            found.append((reason is not Reason.SUPPRESSED_DURING_DEPLOYMENT, reason, cover, deployment))
    if not found:
        return None
    _, reason, cover, deployment = min(found, key=lambda one: (one[0], one[1].value, one[2].until, one[3].id))
    return _finding(signal, reason, deployment, cover, signal["corrected_at"])


def release(
    signal: Mapping[str, Any], known: Known, deployment: Deployment, policies: Policies, *, now: int
) -> Finding:
    """What is to be said of an alert that a deployment suppresses, at partition time `now`: that it still does, or
    how that ended; of several ends the earliest counts."""
    at = signal["corrected_at"]
    cover = cover_of(signal, deployment, policies)
    if cover is None or _judge(signal, known, cover) is not Reason.SUPPRESSED_DURING_DEPLOYMENT:
        return _finding(signal, Reason.RELEASED_NO_LONGER_COVERED, deployment, cover, at)
    ends = []
    if known.resolved_at is not None:
        ends.append((known.resolved_at, 0, Reason.RESOLVED_WHILE_SUPPRESSED))
    if (ended := _end(deployment, cover.cohort)) is not None:
        ends.append((ended, 1, Reason.RELEASED_AT_END))
    if deployment.overtaken is not None:
        ends.append((deployment.overtaken[0], 2, Reason.RELEASED_SUPERSEDED))
    if deployment.content["state"] == "lost":
        ends.append((deployment.lost_at, 3, Reason.RELEASED_LOST))
    if not ends and now < cover.until:
        return _finding(signal, Reason.SUPPRESSED_DURING_DEPLOYMENT, deployment, cover, at)
    # The limit has come, or something else has, perhaps behind the limit.
    when, _, reason = min([*ends, (cover.until, 4, Reason.RELEASED_AT_LIMIT)])
    return _finding(signal, reason, deployment, cover, max(when, at))


def replaces(new: Finding, standing: Finding | None) -> bool:
    """Whether a finding is to be written in place of the one that stands. What was released stays so, and by what
    released it first."""
    if standing is None:
        return True
    if new["finding_id"] == standing["finding_id"]:
        return False
    if standing["reason"] not in RELEASES:
        return new["reason"] in BOUND  # why an alert is shown is said once
    return new["reason"] in RELEASES and new["occurred_at"] < standing["occurred_at"]


def is_near(signal: Mapping[str, Any], place: Mapping[str, Any], policies: Policies) -> bool:
    """Whether a place is that of the alert's service, or of one that it declares to depend on, beside it."""
    if any(place[name] != signal[name] for name in ("region", "environment")):
        return False
    return place["service"] in (signal["service"], *policies.service(signal["service"]).depends_on)


def cover_of(signal: Mapping[str, Any], deployment: Deployment, policies: Policies) -> Cover | None:
    """From when to when a deployment may keep an alert quiet, whether it still runs or not; None: it has nothing to
    do with the alert, or no policy lets it."""
    content = deployment.content
    if content["state"] == "voided" or not is_near(signal, content, policies):
        return None
    its_own = content["service"] == signal["service"]
    service = policies.service(content["service"])
    subject = {
        **{name: content[name] for name in ("service", "environment", "region", "kind")},
        "team": service.team or content["team"],
        "tier": service.tier or content["tier"],
    }
    found = suppression_for(subject, policies)
    if found is None or not (its_own or found[1].dependents):
        return None
    document, policy = found
    # Of a dependent's alerts nobody knows which cohort of the dependency they come from.
    by_cohort = its_own and not policy.any_cohort and content["cohorts"]
    if by_cohort and signal["cohort"] not in content["cohorts"]:
        return None
    window = _window(deployment, policy)
    if window is None:
        return None
    cohort = signal["cohort"] if by_cohort else ""
    return Cover(*window, document.key, policy.severities, cohort)


def _window(deployment: Deployment, policy: Suppression) -> tuple[int, int, int] | None:
    """Begin, by how much it may be off, and limit."""
    lead, longest = int(policy.lead_minutes * MINUTE), int(policy.max_minutes * MINUTE)
    start = deployment.content["started_at"]
    if start is not None:
        width = (deployment.content["started_at_uncertainty_ms"] or 0) * 1000
        return start - lead, width, start + longest
    if deployment.notes["announced"] is None or not lead:
        return None
    announced, width = deployment.notes["announced"]
    return announced, width, announced + lead


def _judge(signal: Mapping[str, Any], known: Known, cover: Cover) -> Reason | None:
    """Why an alert is suppressed within a cover, or shown; None: it fired at another time."""
    at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
    if at + width < cover.begin - cover.width or at - width >= cover.until:
        return None
    if signal["severity"] == "critical":
        return Reason.CRITICAL_IS_NEVER_SUPPRESSED
    if signal["severity"] not in cover.severities:
        return Reason.SEVERITY_NOT_COVERED
    if at - width < cover.begin + cover.width or at + width >= cover.until:
        return Reason.START_WITHIN_UNCERTAINTY
    # What fires for the first time while it runs may well be its doing, however often it then repeats.
    # And what has no name may be another alert each time.
    if is_nameless(signal) or known.first_seen is None or known.first_seen >= cover.begin - cover.width:
        return Reason.NEVER_SEEN_BEFORE
    return Reason.SUPPRESSED_DURING_DEPLOYMENT


def _end(deployment: Deployment, cohort: str) -> int | None:
    """The first end of a deployment, or of one cohort of it."""
    ended = deployment.notes["ended"]
    ends = [ended[name] for name in {"", cohort} if name in ended]
    content = deployment.content
    if content["state"] in lifecycle.TERMINAL and content["finished_at"] is not None:
        ends.append(content["finished_at"])  # every cohort has ended
    return min(ends, default=None)


_NAMELESS = "is shown although {what} runs: without a fingerprint or a title nobody knows whether it fired before"
_WORDS = {
    Reason.SUPPRESSED_DURING_DEPLOYMENT: "keeps quiet while {what} runs, until {until} at the latest",
    Reason.RELEASED_AT_END: "still fires at the end of {what}",
    Reason.RELEASED_LOST: "is shown again: {what} counts as lost",
    Reason.RELEASED_SUPERSEDED: "is shown again: {newer} has taken the place of {what}",
    Reason.RELEASED_AT_LIMIT: "is shown again: {what} has run past its limit, {until}",
    Reason.RELEASED_NO_LONGER_COVERED: "is shown again: {what} does not explain it after all",
    Reason.RESOLVED_WHILE_SUPPRESSED: "resolved by itself while {what} ran",
    Reason.CRITICAL_IS_NEVER_SUPPRESSED: "is shown although {what} runs: it is critical",
    Reason.NEVER_SEEN_BEFORE: "is shown although {what} runs: it never fired before that began",
    Reason.SEVERITY_NOT_COVERED: "is shown although {what} runs: the policy does not name its severity",
    Reason.START_WITHIN_UNCERTAINTY: "is shown although {what} runs: the clocks leave open whether it had begun",
}


def _alert_of(signal: Mapping[str, Any]) -> dict[str, str]:
    """Who told of an alert, and its labels: by these another system knows which one keeps quiet."""
    labels = json.dumps(signal.get("labels", {}), sort_keys=True)  # rows of earlier versions have none
    source = signal.get("source", "")
    return {"source": source, "labels": labels} if source and len(labels) <= _LONGEST_LABELS else {}


def _finding(
    signal: Mapping[str, Any], reason: Reason, deployment: Deployment, cover: Cover | None, occurred_at: int
) -> Finding:
    content = deployment.content
    until = from_micros(cover.until).isoformat() if cover is not None else ""
    what = f"{content['service']} {content['version']} ({deployment.id})".replace("  ", " ")
    evidence = {
        "alert_at": from_micros(signal["corrected_at"]).isoformat(),
        "decided_for": from_micros(occurred_at).isoformat(),
        "deployment_id": deployment.id,
    }
    if cover is not None:
        evidence |= {"begin": from_micros(cover.begin).isoformat(), "until": until}
        if cover.cohort:
            evidence["cohort"] = cover.cohort
    if reason is Reason.SUPPRESSED_DURING_DEPLOYMENT:
        evidence |= _alert_of(signal)
    newer = deployment.overtaken[1] if deployment.overtaken is not None else ""
    if reason is Reason.RELEASED_SUPERSEDED:
        evidence["superseded_by"] = newer
    title = signal["title"] or signal["fingerprint"] or "an alert"
    words = _NAMELESS if reason is Reason.NEVER_SEEN_BEFORE and is_nameless(signal) else _WORDS[reason]
    return finding(
        RULE,
        "ok",
        reason,
        subject=signal["signal_id"],
        place=dict(signal),
        occurred_at=occurred_at,
        severity=signal["severity"],
        explanation=f"{title} of {signal['service']} {words.format(what=what, until=until, newer=newer)}",
        evidence=evidence,
        deployment_id=deployment.id,
        signal_id=signal["signal_id"],
        policy_version=cover.policy if cover is not None else "",
    )
