"""Is a deployment running longer than it should?

In: a record's content, what earlier ones took, the policies, partition time. Out: when it becomes overdue, and the
finding, which says whose expectation it is and of how many samples (see `expected_duration`). What is written speaks of
the due time, not of the tick that noticed it.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.expected_duration import UNKNOWN, Usual, expected
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies

RULE = "overdue"
RULE_VERSION = 2
MINUTE = 60_000_000
# Brought about by another deployment, which is when it ended.
BY_ANOTHER = frozenset({"superseded", "rolled_back"})
_WORDS = {
    "declared": "as its service declares",
    "learnt": "by what its last {n} took",
    "learnt_and_general_limit": "by what its last {n} took, and the general limit",
    "general_limit": "the general limit",
}


def due(content: dict[str, Any], policies: Policies, usual: Usual = UNKNOWN) -> int | None:
    """When a started deployment is overdue for certain, its start's uncertainty granted; None if not started."""
    if content["started_at"] is None:
        return None
    granted = (content["started_at_uncertainty_ms"] or 0) * 1000
    return int(content["started_at"] + granted + expected(content["service"], policies, usual).minutes * MINUTE)


def find_overdue(content: dict[str, Any], policies: Policies, usual: Usual = UNKNOWN, *, now: int) -> Finding | None:
    """The finding that a deployment is overdue at partition time `now`; None while it is not."""
    at = due(content, policies, usual)
    if at is None or now < at:
        return None
    by_another = content["state"] in BY_ANOTHER and not is_over(content, policies, usual)
    if content["state"] not in ("running", "degraded", "lost") and not by_another:
        return None
    return _finding(content, policies, usual, at, Reason.RUNNING_LONGER_THAN_EXPECTED)


def judge(
    content: dict[str, Any], policies: Policies, usual: Usual, standing: Finding | None, *, now: int
) -> Finding | None:
    """What is to be said at partition time `now`, perhaps once more; None for nothing, or for what stands.

    What was found stands until it turns out that it had ended in time; and again, once what ended it turns out not to
    have: of a newer one that took its place and is voided, or of an end that is corrected, order tells nothing.
    """
    if standing is None:
        return find_overdue(content, policies, usual, now=now)
    found = find_in_time(content, policies, usual, overdue=standing)
    if found is not None or standing["verdict"] == "violation":
        return found
    at = due(content, policies, usual)
    if at is None or now < at:
        return None
    return _finding(content, policies, usual, at, Reason.RUNNING_LONGER_THAN_EXPECTED)


def is_over(content: dict[str, Any], policies: Policies, usual: Usual = UNKNOWN) -> bool:
    """Whether another deployment had brought it to an end before it could be overdue."""
    at = due(content, policies, usual)
    return at is not None and content["state"] in BY_ANOTHER and (content["finished_at"] or 0) <= at


def find_in_time(
    content: dict[str, Any], policies: Policies, usual: Usual = UNKNOWN, *, overdue: Finding
) -> Finding | None:
    """What takes an overdue finding back: an end, reported late, that lay before the due time; or that there was no
    such deployment."""
    at = due(content, policies, usual)
    if at is None:
        return None
    if content["state"] == "voided":
        reason = Reason.DEPLOYMENT_VOIDED
    elif content["finished_at"] is not None and content["finished_at"] <= at:
        reason = Reason.SUPERSEDED_IN_TIME if content["state"] == "superseded" else Reason.ENDED_IN_TIME
    else:
        return None
    return _finding(content, policies, usual, at, reason) | {"supersedes": overdue["finding_id"]}


def _finding(content: dict[str, Any], policies: Policies, usual: Usual, at: int, reason: Reason) -> Finding:
    expectation = expected(content["service"], policies, usual)
    minutes = f"{expectation.minutes:g} minutes"
    late = reason is Reason.RUNNING_LONGER_THAN_EXPECTED
    words = {
        Reason.RUNNING_LONGER_THAN_EXPECTED: f"has not ended after {minutes}",
        Reason.SUPERSEDED_IN_TIME: f"was superseded by {content['superseded_by']} within its {minutes} after all",
        Reason.ENDED_IN_TIME: f"ended within its {minutes} after all",
        Reason.DEPLOYMENT_VOIDED: "was voided",
    }[reason]
    if late:
        words += f", {_WORDS[expectation.source].format(n=usual.samples)}"
    learnt = {"samples": str(usual.samples), "usual_minutes": f"{usual.minutes:g}"} if usual.samples else {}
    return finding(
        RULE,
        "violation" if late else "ok",
        reason,
        subject=content["deployment_id"],
        place=content,
        occurred_at=at,
        severity="warning" if late else "info",
        explanation=f"{content['service']} {content['version']} {words}".replace("  ", " "),
        evidence={
            "started_at": from_micros(content["started_at"]).isoformat(),
            "expected_minutes": f"{expectation.minutes:g}",
            "expected_from": expectation.source,
            **learnt,
            "due_at": from_micros(at).isoformat(),
        },
        rule_version=RULE_VERSION,
        policy_version=policies.versions(("service", content["service"]), ("thresholds", "default")),
        deployment_id=content["deployment_id"],
    )
