"""What is known of each incident, and what to do about a change: pure, state as plain JSON.

A row is written before a page is sent (`intended`) and after (`open`, `resolved`, `refused`,
`too_old`). A row that stays `intended` was interrupted: its page is sent again under the same key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from deploytrail_sinks.on_call.incidents import Action, Change


class Status(StrEnum):
    """Where an incident stands."""

    INTENDED = "intended"
    OPEN = "open"
    RESOLVED = "resolved"
    REFUSED = "refused"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. `action` is the last one intended; `seen` the newest offset by topic and partition."""

    key: str
    status: Status
    action: Action
    at: int
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    answer: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 1."""
        return {
            "v": 1,
            "key": self.key,
            "status": self.status.value,
            "action": self.action.value,
            "at": self.at,
            "severity": self.severity,
            "title": self.title,
            "details": self.details,
            "seen": self.seen,
            "answer": self.answer,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Incident:
        """The incident of `to_json`."""
        known = {name: row[name] for name in ("key", "at", "severity", "title", "details", "seen", "answer")}
        return cls(status=Status(row["status"]), action=Action(row["action"]), **known)


def intend(known: Incident | None, change: Change, place: str, offset: int) -> Incident | None:
    """What to send for a change read at an offset of a place (topic:partition); None: nothing.

    A change that was handled before asks for nothing, unless its handling was interrupted.
    """
    if known is None:
        if change.action is Action.RESOLVE:
            return None
        return _incident(change, {place: offset})
    repeated = offset <= known.seen.get(place, -1)
    if known.status is Status.INTENDED:
        # Interrupted: finish what was begun before anything newer.
        return known if repeated else _next(known, change, place, offset)
    if repeated:
        return None
    if change.action is Action.RESOLVE:
        return _next(known, change, place, offset) if known.status is Status.OPEN else None
    # What was refused or too old must not silence what comes later under the same key.
    return None if known.status is Status.OPEN else _next(known, change, place, offset)


def settle(intended: Incident, status: Status, answer: str) -> Incident:
    """The row after the answer to a page."""
    return replace(intended, status=status, answer=answer)


def _next(known: Incident, change: Change, place: str, offset: int) -> Incident:
    seen = known.seen | {place: offset}
    if change.action is Action.TRIGGER:
        return _incident(change, seen)
    # What was said when it was raised is what its end must name.
    return replace(known, status=Status.INTENDED, action=Action.RESOLVE, at=change.at, seen=seen, answer="")


def _incident(change: Change, seen: dict[str, int]) -> Incident:
    return Incident(
        change.key, Status.INTENDED, change.action, change.at, change.severity, change.title, change.details, seen
    )
