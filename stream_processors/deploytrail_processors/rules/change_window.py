"""Was it allowed to deploy then? Judged at the event's own corrected time, never at now.

In: a start's corrected time ± uncertainty, the policies of that time. Out: inside, outside or
uncertain, with the reason and the documents. The gate asks the same question before a start as the
stream asks after it. What cannot be read is closed; deny wins over allow (`schedule`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors import zones
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.rules.schedule import schedule_of

RULE = "change_window"
_OPEN = frozenset({Reason.INSIDE_ALLOWED_WINDOW, Reason.NO_WINDOW_APPLIES})


class Position(StrEnum):
    """Where an event lies."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where it lies, why, and the documents that say so (kind/name/version).

    `next_open`, outside: when it is really open again. `next_close`, inside: when it closes. Both in
    microseconds, None where that lies beyond the horizon of 400 days.
    """

    position: Position
    reason: Reason
    documents: tuple[str, ...]
    next_open: int | None = None
    next_close: int | None = None


def judge(subject: Mapping[str, str], policies: Policies, *, at: int, uncertainty: int) -> Judgement:
    """Where a start at `at` ± `uncertainty` (microseconds) lies for a subject.

    `subject` has service, team, environment, region, tier and kind.
    """
    schedule = schedule_of(subject, policies)
    earliest, latest = at - uncertainty, at + uncertainty
    states = {schedule.state(earliest)}
    if uncertainty:
        # The verdict changes only at a start or an end: asking there and at both ends asks everywhere.
        states |= {schedule.state(point) for point in (latest, *schedule.boundaries(earliest, latest))}
    if len({reason for reason, _ in states}) > 1:
        cited = tuple(sorted({key for _, keys in states for key in keys}))
        return Judgement(Position.UNCERTAIN, Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY, cited)
    reason, documents = min(states)
    if reason in _OPEN:
        return Judgement(Position.INSIDE, reason, documents, next_close=schedule.next_close(latest))
    return Judgement(Position.OUTSIDE, reason, documents, next_open=schedule.next_open(latest))


VERDICTS = {Position.INSIDE: "ok", Position.OUTSIDE: "violation", Position.UNCERTAIN: "inconclusive"}
_WORDS = {
    Reason.INSIDE_ALLOWED_WINDOW: "started inside an allowed change window",
    Reason.OUTSIDE_ALLOWED_WINDOWS: "started outside every allowed change window",
    Reason.INSIDE_DENIED_WINDOW: "started while changes were denied",
    Reason.NO_WINDOW_APPLIES: "started; no change window applies to it",
    Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY: "started so close to a window's boundary that its clock cannot tell",
    Reason.POLICY_INVALID: "started, but a change window that applies to it is invalid; treated as closed",
}


def to_finding(
    event: Mapping[str, Any], subject: Mapping[str, str], judgement: Judgement, *, tzdata: str = zones.VERSION
) -> Finding:
    """The finding about a start. `tzdata`: the version of the time zone database that it was judged by."""
    at = event["corrected_at"]
    evidence = {
        "started_at": from_micros(at).isoformat(),
        "uncertainty_ms": str(event["uncertainty_ms"]),
        "position": judgement.position.value,
        "emergency": str(event["emergency"]).lower(),
    }
    if judgement.documents:
        evidence["tzdata"] = tzdata
    for name, instant in (("next_open", judgement.next_open), ("next_close", judgement.next_close)):
        if instant is not None:
            evidence[name] = from_micros(instant).isoformat()
    verdict = VERDICTS[judgement.position]
    in_production = event["environment"] == "production"
    return finding(
        RULE,
        verdict,
        judgement.reason,
        subject=event["deployment_id"],
        place=dict(subject),
        occurred_at=at,
        severity=("error" if in_production else "warning") if verdict == "violation" else "info",
        explanation=f"{event['service']} {event['version']} {_WORDS[judgement.reason]}".replace("  ", " "),
        evidence=evidence,
        deployment_id=event["deployment_id"],
        policy_version=", ".join(judgement.documents),
    )
