"""Was it allowed to deploy then? Judged at the event's own corrected time, never at now.

In: the started event's corrected time ± uncertainty, the policies of that time. Out: inside,
outside or uncertain, with the reason. Recurrences are RFC 5545 in local time of an IANA zone: a
local start that a clock change skips begins as if the clock had not changed yet, one that occurs
twice begins at the first (RFC 5545, 3.3.5); durations are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from deploytrail_schemas.instants import from_micros, to_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import ChangeWindow, Document, Policies

RULE = "change_window"
_DAY = timedelta(days=1)


class Position(StrEnum):
    """Where an event lies."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where it lies, why, and the documents that say so."""

    position: Position
    reason: Reason
    documents: tuple[str, ...]
    next_open: int | None = None
    closes: int | None = None


def occurrences(window: ChangeWindow, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """The (start, end) of every occurrence that touches [since, until], in UTC."""
    first = (since - window.duration).astimezone(window.zone).replace(tzinfo=None) - _DAY
    last = until.astimezone(window.zone).replace(tzinfo=None) + _DAY
    found = []
    for local in window.rule.between(first, last, inc=True):
        # fold=0 is the first of two equal local times, and the offset before a gap.
        start = local.replace(tzinfo=window.zone, fold=0).astimezone(UTC)
        if start <= until and start + window.duration > since:
            found.append((start, start + window.duration))
    return found


def judge(subject: Mapping[str, str], policies: Policies, *, at: int, uncertainty: int) -> Judgement:
    """Where a start at `at` ± `uncertainty` (microseconds) lies for a subject.

    `subject` has service, team, environment, region, tier and kind.
    """
    documents = [d for d in policies.change_windows if d.scope.covers(subject)]
    broken = [d for d in documents if d.spec is None]
    if broken:
        return Judgement(Position.OUTSIDE, Reason.POLICY_INVALID, tuple(d.key for d in broken))
    if not documents:
        return Judgement(Position.INSIDE, Reason.NO_WINDOW_APPLIES, ())
    earliest, latest = from_micros(at - uncertainty), from_micros(at + uncertainty)
    spans = [(d, s, e) for d in documents for s, e in occurrences(_window(d), earliest, latest)]
    # The verdict changes only at a start or an end: asking there and at both ends asks everywhere.
    points = {earliest, latest} | {p for _, s, e in spans for p in (s, e) if earliest <= p <= latest}
    verdicts = {_at_point(point, documents, spans) for point in points}
    if len({reason for reason, _ in verdicts}) > 1:
        cited = tuple(sorted({key for _, key in verdicts if key}))
        return Judgement(Position.UNCERTAIN, Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY, cited)
    reason, cited_key = min(verdicts)
    inside = reason in (Reason.INSIDE_ALLOWED_WINDOW, Reason.NO_WINDOW_APPLIES)
    closes = [to_micros(e) for d, s, e in spans if _window(d).allow and s <= latest < e]
    allowing = tuple(d.key for d in documents if _window(d).allow)
    return Judgement(
        Position.INSIDE if inside else Position.OUTSIDE,
        reason,
        (cited_key,) if cited_key else allowing,
        next_open=None if inside else next_open(documents, latest),
        closes=max(closes, default=None) if inside else None,
    )


def next_open(documents: list[Document], after: datetime, horizon: timedelta = timedelta(days=31)) -> int | None:
    """The next start of an allowed window within the horizon, denied windows not considered."""
    starts = [
        start
        for document in documents
        if _window(document).allow
        for start, _ in occurrences(_window(document), after, after + horizon)
        if start > after
    ]
    return to_micros(min(starts)) if starts else None


def _at_point(
    point: datetime, documents: list[Document], spans: list[tuple[Document, datetime, datetime]]
) -> tuple[Reason, str]:
    inside = [d for d, start, end in spans if start <= point < end]
    denied = [d.key for d in inside if not _window(d).allow]
    if denied:
        return Reason.INSIDE_DENIED_WINDOW, denied[0]
    allowed = [d.key for d in inside if _window(d).allow]
    if allowed:
        return Reason.INSIDE_ALLOWED_WINDOW, allowed[0]
    if any(_window(d).allow for d in documents):
        return Reason.OUTSIDE_ALLOWED_WINDOWS, ""
    return Reason.NO_WINDOW_APPLIES, ""


def _window(document: Document) -> ChangeWindow:
    assert isinstance(document.spec, ChangeWindow)
    return document.spec


_VERDICTS = {Position.INSIDE: "ok", Position.OUTSIDE: "violation", Position.UNCERTAIN: "inconclusive"}
_WORDS = {
    Reason.INSIDE_ALLOWED_WINDOW: "started inside an allowed change window",
    Reason.OUTSIDE_ALLOWED_WINDOWS: "started outside every allowed change window",
    Reason.INSIDE_DENIED_WINDOW: "started while changes were denied",
    Reason.NO_WINDOW_APPLIES: "started; no change window applies to it",
    Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY: "started so close to a window's boundary that its clock cannot tell",
    Reason.POLICY_INVALID: "started, but a change window that applies to it is invalid; treated as closed",
}


def to_finding(event: Mapping[str, Any], subject: Mapping[str, str], judgement: Judgement) -> Finding:
    """The finding about a started event."""
    at = event["corrected_at"]
    evidence = {
        "started_at": from_micros(at).isoformat(),
        "uncertainty_ms": str(event["uncertainty_ms"]),
        "position": judgement.position.value,
        "emergency": str(event["emergency"]).lower(),
    }
    for name, instant in (("next_open", judgement.next_open), ("closes", judgement.closes)):
        if instant is not None:
            evidence[name] = from_micros(instant).isoformat()
    verdict = _VERDICTS[judgement.position]
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
