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
from deploytrail_processors.rules.break_glass import Emergency
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


_VERDICTS = {Position.INSIDE: "ok", Position.OUTSIDE: "violation", Position.UNCERTAIN: "inconclusive"}
_EMERGENCY = {Reason.BREAK_GLASS: "ok", Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY: "inconclusive"}
_WORDS = {
    Reason.INSIDE_ALLOWED_WINDOW: "started inside an allowed change window",
    Reason.OUTSIDE_ALLOWED_WINDOWS: "started outside every allowed change window",
    Reason.INSIDE_DENIED_WINDOW: "started while changes were denied",
    Reason.NO_WINDOW_APPLIES: "started; no change window applies to it",
    Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY: "started so close to a window's boundary that its clock cannot tell",
    Reason.POLICY_INVALID: "started, but a change window that applies to it is invalid; treated as closed",
    Reason.BREAK_GLASS: "started as an approved emergency while its change window was closed",
    Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY: "started as an emergency so close to its approval that clocks cannot tell",
    Reason.NO_APPROVAL: "started as an emergency that nobody has approved",
    Reason.APPROVER_UNKNOWN: "started as an emergency whose approval names no approver",
    Reason.DEPLOYER_UNKNOWN: "started as an emergency whose deployer is unknown, so that nobody can tell "
    "whether another approved it",
    Reason.SELF_APPROVAL: "started as an emergency that its own deployer approved",
    Reason.APPROVED_BY_COMMIT_AUTHOR: "started as an emergency that an author of its commits approved",
    Reason.APPROVER_IS_A_BOT: "started as an emergency that a bot approved",
    Reason.APPROVER_LACKS_ROLE: "started as an emergency whose approver has none of the roles for it",
    Reason.NO_JUSTIFICATION: "started as an emergency whose approval gives no reason",
    Reason.NO_EXPIRY: "started as an emergency whose approval does not say until when it holds",
    Reason.APPROVAL_TOO_LONG: "started as an emergency whose approval holds longer than policy lets it",
    Reason.APPROVED_OTHER_ARTIFACT: "started as an emergency whose approval is of another artifact",
    Reason.APPROVAL_REVOKED: "started as an emergency whose approval had been withdrawn",
    Reason.LATE_APPROVAL: "started as an emergency that was approved too late",
    Reason.APPROVAL_NOT_YET_VALID: "started as an emergency before its approval held",
    Reason.APPROVAL_EXPIRED: "started as an emergency after its approval had expired",
}


def decide(judgement: Judgement, emergency: Emergency | None) -> tuple[str, Reason, tuple[str, ...]]:
    """Verdict, reason and documents of a window's answer and of what break-glass says."""
    verdict = _VERDICTS[judgement.position]
    if emergency is None or judgement.position is Position.INSIDE:
        return verdict, judgement.reason, judgement.documents
    documents = tuple(dict.fromkeys((*judgement.documents, *emergency.documents)))
    unclear = judgement.position is Position.UNCERTAIN and emergency.reason is not Reason.BREAK_GLASS
    if unclear or judgement.reason is Reason.POLICY_INVALID:  # what cannot be read lets nothing pass, as at the gate
        return verdict, judgement.reason, documents
    return _EMERGENCY.get(emergency.reason, verdict), emergency.reason, documents


def to_finding(
    event: Mapping[str, Any],
    subject: Mapping[str, str],
    judgement: Judgement,
    *,
    production: bool,
    emergency: Emergency | None = None,
    tzdata: str = zones.VERSION,
) -> Finding:
    """The finding about a start, in a production environment or another one. `tzdata`: the version of the time zone
    database that it was judged by.

    `emergency`: what break-glass says of a start that does not lie inside. One that passes makes it ok, one
    that lacks something makes a violation name it; the window's own answer stands in the evidence.
    """
    verdict, reason, documents = decide(judgement, emergency)
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
    if emergency is not None and judgement.position is not Position.INSIDE:
        evidence |= {"window_reason": judgement.reason.value} | emergency.evidence
    return finding(
        RULE,
        verdict,
        reason,
        subject=event["deployment_id"],
        place=dict(subject),
        occurred_at=at,
        severity=("error" if production else "warning") if verdict == "violation" else "info",
        explanation=f"{event['service']} {event['version']} {_WORDS[reason]}".replace("  ", " "),
        evidence=evidence,
        deployment_id=event["deployment_id"],
        policy_version=", ".join(documents),
    )
