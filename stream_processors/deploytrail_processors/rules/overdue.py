"""Is a deployment running longer than it should?

In: a record's content, the policies, partition time. Out: when it becomes overdue, and the finding.
What is written speaks of the due time, not of the tick that noticed it.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies

RULE = "overdue"
MINUTE = 60_000_000


def expected_minutes(service: str, policies: Policies) -> float:
    """How long a deployment of a service may take: declared, or else the general limit."""
    declared = policies.service(service).expected_duration_minutes
    return declared if declared is not None else policies.thresholds.overdue_after_minutes


def due(content: dict[str, Any], policies: Policies) -> int | None:
    """When a started deployment is overdue for certain, its start's uncertainty granted; None if not started."""
    if content["started_at"] is None:
        return None
    granted = (content["started_at_uncertainty_ms"] or 0) * 1000
    return int(content["started_at"] + granted + expected_minutes(content["service"], policies) * MINUTE)


def find_overdue(content: dict[str, Any], policies: Policies, *, now: int) -> Finding | None:
    """The finding that a deployment is overdue at partition time `now`; None while it is not."""
    at = due(content, policies)
    if at is None or now < at or content["state"] not in ("running", "degraded", "lost"):
        return None
    return _finding(content, policies, at, "violation", Reason.RUNNING_LONGER_THAN_EXPECTED)


def find_in_time(content: dict[str, Any], policies: Policies, *, overdue: Finding) -> Finding | None:
    """What takes an overdue finding back: an end, reported late, that lay before the due time."""
    at = due(content, policies)
    if at is None or content["finished_at"] is None or content["finished_at"] > at:
        return None
    return _finding(content, policies, at, "ok", Reason.ENDED_IN_TIME) | {"supersedes": overdue["finding_id"]}


def _finding(content: dict[str, Any], policies: Policies, at: int, verdict: str, reason: Reason) -> Finding:
    minutes = expected_minutes(content["service"], policies)
    late = verdict == "violation"
    words = f"has not ended after {minutes:g} minutes" if late else f"ended within its {minutes:g} minutes after all"
    return finding(
        RULE,
        verdict,
        reason,
        subject=content["deployment_id"],
        place=content,
        occurred_at=at,
        severity="warning" if late else "info",
        explanation=f"{content['service']} {content['version']} {words}".replace("  ", " "),
        evidence={
            "started_at": from_micros(content["started_at"]).isoformat(),
            "expected_minutes": f"{minutes:g}",
            "due_at": from_micros(at).isoformat(),
        },
        deployment_id=content["deployment_id"],
    )
