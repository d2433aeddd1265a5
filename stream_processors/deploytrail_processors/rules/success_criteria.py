"""Was a deployment a success, by what policy calls one?

In: a record's content, when it was undone, the alerts that correlation lays at its door, the changes of its service
around, health checks, and what policy asks. Out, once it has been observed for as long as the criteria look: a verdict
with what was found for each of them. A criterion holds, does not, or cannot be told:

- outcome: it has succeeded, and no rollback has undone it, however late;
- duration: it took no longer;
- rollback_rate: of the changes of the service in the environment up to this one, no more were undone by then;
- incident: none that it has likely caused (at least one half) is as grave; from one quarter on nobody can tell;
- health: health checks are as they were before its start (see `health`).

What happens after the observation does not count, but for its own rollback; what becomes known later of before it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.health import Check, Seen, usual_health
from deploytrail_processors.rules.policies.success import SEVERITIES, Health, NoIncident, RollbackRate, SuccessCriteria

RULE = "success_criteria"
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
LONGEST = 10 * 60 * MINUTE
LIKELY, POSSIBLE = 0.5, 0.25
Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the same service and environment: when it ended, and when it was undone, if it was (µs)."""

    ended_at: int
    id: str
    undone_at: int | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """An alert or incident, and how likely the deployment has caused it by the finding of correlation. Times in µs."""

    finding_id: str
    at: int
    width: int
    severity: str
    probability: float
    title: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known around a deployment."""

    undone_at: int | None = None
    changes: Sequence[Change] = ()
    incidents: Sequence[Incident] = ()
    health: Sequence[Seen] = ()


def is_finished(content: Content) -> bool:
    """Whether a deployment has ended, and is to have a verdict."""
    return content["finished_at"] is not None and content["state"] not in ("voided", "lost")


def due(content: Content, criteria: SuccessCriteria | None) -> int:
    """When a deployment that has finished has been observed for long enough; its end's uncertainty is granted."""
    observed = criteria.observed_minutes if criteria is not None else 0.0
    return int(_surely_ended(content) + observed * MINUTE)


def health_span(content: Content, asked: Health) -> tuple[int, int]:
    """From when to when health checks are looked at, the baseline with them (µs). At most `LONGEST` are."""
    end = _surely_ended(content)
    began = content["started_at"] if content["started_at"] is not None else end
    began = max(int(began - asked.baseline_minutes * MINUTE), end - LONGEST)
    return began, int(end + asked.within_minutes * MINUTE)


def _surely_ended(content: Content) -> int:
    return int(content["finished_at"] + (content["finished_at_uncertainty_ms"] or 0) * 1000)


def counts_as_change(content: Content) -> bool:
    """Whether a deployment is counted for the rate: one that changed what runs. Parts of others are theirs, and what
    undoes a change is none."""
    if content["parent_deployment_id"] or content["kind"] == "rollback" or content["rollback_of"]:
        return False
    return is_finished(content) and content["state"] in ("succeeded", "failed", "rolled_back")


def judge(
    content: Content,
    known: Known,
    criteria: SuccessCriteria | None,
    documents: Sequence[str],
    *,
    now: int,
    stands: bool = False,
) -> Finding | None:
    """The verdict at partition time `now`. None while it is not due, but where one `stands` and it turns out to have
    failed, or to have been undone, that is said at once. `criteria` None: a policy that covers it is invalid, and
    nobody can tell what was asked."""
    decided_at = due(content, criteria)
    checks = {"outcome": _outcome(content, known.undone_at)}
    if now < decided_at and not (stands and checks["outcome"].holds is False):
        return None
    if criteria is None:
        said = f"{', '.join(documents)} cannot be read"
        checks["policy"] = Check(None, Reason.POLICY_INVALID, said)
    else:
        checks |= _criteria(content, known, criteria, decided_at)
    failed = [check for check in checks.values() if check.holds is False]
    untold = [check for check in checks.values() if check.holds is None]
    decisive = (failed or untold or [Check(True, Reason.CRITERIA_MET, "")])[0]
    verdict = "violation" if failed else "inconclusive" if untold else "ok"
    assert decisive.reason is not None
    words = {"violation": "missed", "inconclusive": "may have missed", "ok": "met"}[verdict]
    said = "; ".join(f"{name}: {check.words}" for name, check in checks.items())
    return finding(
        RULE,
        verdict,
        decisive.reason,
        subject=content["deployment_id"],
        place=dict(content),
        occurred_at=decided_at,
        severity="warning" if failed else "info",
        explanation=_what(content) + f" {words} what it should: {said}",
        evidence={
            "ended_at": from_micros(content["finished_at"]).isoformat(),
            "decided_at": from_micros(decided_at).isoformat(),
            "criteria": ",".join(checks),
            **{name: f"{_HOLDS[check.holds]}: {check.words}" for name, check in checks.items()},
            **_cited(content, known, criteria),
        },
        deployment_id=content["deployment_id"],
        policy_version=", ".join(documents),
    )


_HOLDS = {True: "met", False: "missed", None: "cannot be told"}


def voided(content: Content, standing: Finding) -> Finding:
    """What replaces the verdict on a deployment that turned out to be none."""
    return finding(
        RULE,
        "inconclusive",
        Reason.DEPLOYMENT_VOIDED,
        subject=content["deployment_id"],
        place=standing,
        occurred_at=standing["occurred_at"],
        severity="info",
        explanation=f"{_what(content)} was voided: there is nothing to judge",
        evidence={},
        deployment_id=content["deployment_id"],
        policy_version=standing["policy_version"],
    )


def _criteria(content: Content, known: Known, criteria: SuccessCriteria, decided_at: int) -> dict[str, Check]:
    checks = {}
    if criteria.max_duration_minutes is not None:
        checks["duration"] = _duration(content, criteria.max_duration_minutes)
    if criteria.rollback_rate is not None:
        checks["rollback_rate"] = _rollback_rate(content, known.changes, criteria.rollback_rate, decided_at)
    if criteria.incident is not None:
        checks["incident"] = _incident(content, known.incidents, criteria.incident)
    if criteria.health is not None:
        end, (_, until) = _surely_ended(content), health_span(content, criteria.health)
        baseline = criteria.health.baseline_minutes
        checks["health"] = usual_health(known.health, content["started_at"], baseline, end, until)
    return checks


def _outcome(content: Content, undone_at: int | None) -> Check:
    if undone_at is not None or content["state"] == "rolled_back":
        return Check(False, Reason.DEPLOYMENT_ROLLED_BACK, "it was rolled back")
    if content["state"] == "failed":
        return Check(False, Reason.DEPLOYMENT_FAILED, "it failed")
    if content["state"] == "succeeded":
        return Check(True, None, "it succeeded")
    return Check(None, Reason.DEPLOYMENT_CANCELLED, f"it was {content['state']}")


def _duration(content: Content, most: float) -> Check:
    if content["duration_ms"] is None:
        return Check(None, Reason.DURATION_UNKNOWN, "nobody knows how long it took")
    took, width = content["duration_ms"] / 60_000, (content["duration_uncertainty_ms"] or 0) / 60_000
    words = f"{took:.1f} of at most {most:g} minutes"
    if took - width > most:
        return Check(False, Reason.TOOK_TOO_LONG, words)
    if took + width > most:
        return Check(None, Reason.DURATION_WITHIN_UNCERTAINTY, f"{words}, ± {width:.1f}")
    return Check(True, None, words)


def _rollback_rate(content: Content, changes: Iterable[Change], rate: RollbackRate, decided_at: int) -> Check:
    own = content["finished_at"], content["deployment_id"]
    window = sorted((c for c in changes if (c.ended_at, c.id) <= own), key=lambda c: (c.ended_at, c.id))
    if rate.days is not None:
        window = [c for c in window if c.ended_at > own[0] - rate.days * DAY]
    if rate.deployments is not None:
        window = window[-rate.deployments :]
    undone = sum(c.undone_at is not None and c.undone_at <= decided_at for c in window)
    span = f"the last {rate.days} days" if rate.days is not None else f"the last {rate.deployments}"
    words = f"{undone} of {len(window)} changes ({span}) rolled back, at most {rate.max_percent} %"
    if len(window) < rate.minimum:
        return Check(None, Reason.TOO_FEW_DEPLOYMENTS, f"{words}; {rate.minimum} changes are needed to tell")
    if undone * 100 > rate.max_percent * len(window):
        return Check(False, Reason.TOO_MANY_ROLLBACKS, words)
    return Check(True, None, words)


def _incident(content: Content, incidents: Iterable[Incident], asked: NoIncident) -> Check:
    if content["started_at"] is None:
        return Check(None, Reason.START_UNKNOWN, "nobody knows when it began, so nothing is laid at its door")
    span = f"{asked.severity} or graver within {asked.within_minutes:g} minutes"
    worst = _worst(content, incidents, asked)
    if worst is None:
        return Check(True, None, f"none of the severity {span}")
    incident, certain = worst
    after = (incident.at - content["finished_at"]) / MINUTE
    when = f"{after:.1f} minutes after its end" if after >= 0 else "while it ran"
    what = f"{incident.severity} {incident.title}".strip()
    words = f"{what} {when}, {incident.probability:.0%} likely caused by it"
    reason = Reason.INCIDENT_CORRELATED if certain else Reason.INCIDENT_POSSIBLY_CORRELATED
    return Check(False if certain else None, reason, words)


def _worst(content: Content, incidents: Iterable[Incident], asked: NoIncident) -> tuple[Incident, bool] | None:
    """The incident that speaks most against it, and whether it does for certain."""
    limit = content["finished_at"] + asked.within_minutes * MINUTE
    width = (content["finished_at_uncertainty_ms"] or 0) * 1000
    least = SEVERITIES.index(asked.severity)
    found = []
    for incident in incidents:
        grave = incident.severity in SEVERITIES and SEVERITIES.index(incident.severity) >= least
        if not grave or incident.probability < POSSIBLE or incident.at - incident.width > limit + width:
            continue
        certain = incident.probability >= LIKELY and incident.at + incident.width <= limit - width
        found.append((certain, incident.probability, incident.finding_id, incident))
    if not found:
        return None
    certain, _, _, incident = max(found, key=lambda one: one[:3])
    return incident, certain


def _cited(content: Content, known: Known, criteria: SuccessCriteria | None) -> dict[str, str]:
    """The finding of correlation that the verdict rests on."""
    if criteria is None or criteria.incident is None or content["started_at"] is None:
        return {}
    worst = _worst(content, known.incidents, criteria.incident)
    return {"incident_finding": worst[0].finding_id} if worst is not None else {}


def _what(content: Content) -> str:
    return f"{content['service']} {content['version']}".strip()
