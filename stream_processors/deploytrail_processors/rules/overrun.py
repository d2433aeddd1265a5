"""What began inside a change window and still runs when it closes.

In: a record's content, its subject, the policies of its start, partition time. Out: when to look, and the
finding. Which window closes decides what an overrun is: `overrun: allow` (usual), `warn` or `violation`,
once `overrun_grace_minutes` are over. A denied window that begins meanwhile closes it too, and then its
own words count. Of several windows the strictest counts, with the shortest grace.
What is written speaks of the due time, not of the tick that noticed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.reasons import Reason

from deploytrail_processors import zones
from deploytrail_processors.rules.change_window import Position, judge
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.rules.policies.window import OVERRUN
from deploytrail_processors.rules.schedule import schedule_of
from deploytrail_processors.rules.timetable import DAY

RULE = "change_window_overrun"
MINUTE = 60_000_000
# A deployment is followed so long; it is lost by then.
HORIZON = 31 * DAY
_SEVERITY = {"warn": "warning", "violation": "error"}


@dataclass(frozen=True, slots=True)
class Closing:
    """A closing that must not be overrun: its instant, when its grace is over, how strict it is, and why."""

    at: int
    due: int
    overrun: str  # warn or violation
    documents: tuple[str, ...]


def closings(content: Mapping[str, Any], subject: Mapping[str, str], policies: Policies) -> Iterator[Closing]:
    """The closings after the start of what began inside for certain, in order; none where windows allow overruns."""
    schedule = schedule_of(subject, policies)
    if content["started_at"] is None or all(
        applied.window.overrun == "allow" for applied in (*schedule.allows, *schedule.denies)
    ):
        return
    start, width = content["started_at"], (content["started_at_uncertainty_ms"] or 0) * 1000
    if judge(subject, policies, at=start, uncertainty=width).position is not Position.INSIDE:
        return
    for at in schedule.closings(start, start + HORIZON):
        by = schedule.closed_by(at)
        strictest = max((applied.window.overrun for applied in by), key=OVERRUN.index, default="allow")
        if strictest != "allow":
            mine = [applied for applied in by if applied.window.overrun == strictest]
            grace = min(applied.window.grace_minutes for applied in mine)
            keys = tuple(dict.fromkeys(key for applied in mine for key in applied.keys))
            yield Closing(at, int(at + grace * MINUTE), strictest, keys)
            if strictest == "violation":
                return  # nothing worse can follow


def next_due(content: Mapping[str, Any], subject: Mapping[str, str], policies: Policies, *, now: int) -> int | None:
    """When a deployment that has not ended is to be looked at next; None: never."""
    if content["finished_at"] is not None or content["state"] == "voided":
        return None
    return next((c.due for c in closings(content, subject, policies) if c.due > now), None)


def find_overrun(
    content: Mapping[str, Any],
    subject: Mapping[str, str],
    policies: Policies,
    *,
    now: int,
    standing: Finding | None = None,
    tzdata: str = zones.VERSION,
) -> Finding | None:
    """The finding about an overrun at partition time `now`, to be written in place of the `standing` one.

    None while there is nothing to say. An end that is reported late, and lay in time, takes the standing one back.
    """
    # What has ended needs no tick: it may be reported before partition time has come to its end.
    end = content["finished_at"]
    until = now if end is None else max(now, end + (content["finished_at_uncertainty_ms"] or 0) * 1000)
    passed = [c for c in closings(content, subject, policies) if c.due <= until]
    overrun = [c for c in passed if _ran_beyond(content, c.due) is True]
    unclear = [c for c in passed if _ran_beyond(content, c.due) is None]
    if overrun:
        worst = max(overrun, key=lambda c: (OVERRUN.index(c.overrun), -c.at))
        return _finding(content, worst, worst.overrun, Reason.STILL_RUNNING_AFTER_CLOSE, policies, tzdata)
    if unclear:
        return _finding(content, unclear[0], "inconclusive", Reason.END_TOO_CLOSE_TO_CLOSE, policies, tzdata)
    if standing is None or standing["reason"] == Reason.ENDED_BEFORE_CLOSE:
        return standing
    return _taken_back(content, standing)


def _ran_beyond(content: Mapping[str, Any], due: int) -> bool | None:
    """Whether it ran at the due time; None where its end's clock cannot tell."""
    end: int | None = content["finished_at"]
    if end is None:
        return True
    width = (content["finished_at_uncertainty_ms"] or 0) * 1000
    return None if end - width <= due < end + width else end > due


def _finding(
    content: Mapping[str, Any], closing: Closing, overrun: str, reason: Reason, policies: Policies, tzdata: str
) -> Finding:
    what = f"{content['service']} {content['version']}".strip()
    minutes = (closing.due - closing.at) / MINUTE
    grace = f" and {minutes:g} minutes of grace were over" if minutes else ""
    words = {
        Reason.STILL_RUNNING_AFTER_CLOSE: f"was still running when its change window closed{grace}",
        Reason.END_TOO_CLOSE_TO_CLOSE: "ended so close to the close of its change window that its clock cannot tell",
    }[reason]
    in_production = is_production(content["environment"], policies)
    return finding(
        RULE,
        {"warn": "ok", "violation": "violation"}.get(overrun, "inconclusive"),
        reason,
        subject=content["deployment_id"],
        place=dict(content),
        occurred_at=closing.due,
        severity=_SEVERITY.get(overrun, "info") if in_production else "warning" if overrun == "violation" else "info",
        explanation=f"{what} {words}",
        evidence={
            "started_at": from_micros(content["started_at"]).isoformat(),
            **_end(content),
            "closed_at": from_micros(closing.at).isoformat(),
            "due_at": from_micros(closing.due).isoformat(),
            "overrun": closing.overrun,
            "tzdata": tzdata,
        },
        deployment_id=content["deployment_id"],
        policy_version=", ".join(closing.documents),
    )


def _taken_back(content: Mapping[str, Any], standing: Finding) -> Finding:
    """What replaces a finding that later reports made untrue."""
    return finding(
        RULE,
        "ok",
        Reason.ENDED_BEFORE_CLOSE,
        subject=standing["deployment_id"],
        place=standing,
        occurred_at=standing["occurred_at"],
        severity="info",
        explanation=f"{content['service']} {content['version']}".strip() + " ended before its change window closed",
        evidence={k: v for k, v in standing["evidence"].items() if k not in ("overrun", "ended_at")} | _end(content),
        deployment_id=standing["deployment_id"],
        policy_version=standing["policy_version"],
    )


def _end(content: Mapping[str, Any]) -> dict[str, str]:
    return {"ended_at": from_micros(content["finished_at"]).isoformat()} if content["finished_at"] is not None else {}
