"""What is known of each incident, and what to do about a change: pure, state as plain JSON.

A row is written before a page is sent (`intended`) and after (`open`, `resolved`, `refused`,
`too_old`). A row that stays `intended` was interrupted: its page is sent again under the same key.

A page about an alert that is not critical waits a moment (`waiting`), since the finding that its alert is suppressed
may be right behind; then it is kept (`suppressed`) until a finding lets it go. A page that was sent is not taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from deploytrail_sinks.on_call.incidents import Action, Change


class Status(StrEnum):
    """Where an incident stands."""

    WAITING = "waiting"
    SUPPRESSED = "suppressed"
    INTENDED = "intended"
    OPEN = "open"
    RESOLVED = "resolved"
    REFUSED = "refused"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. `action` is the last one intended; `seen` the newest offset by topic and partition; `due` until
    when its page waited, microseconds of the wall clock, 0 for one that did not.

    A suppressed one with the action `trigger` has a page to send when it is let go.
    """

    key: str
    status: Status
    action: Action
    at: int
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    answer: str = ""
    due: int = 0

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
            "due": self.due,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Incident:
        """The incident of `to_json`."""
        known = {name: row[name] for name in ("key", "at", "severity", "title", "details", "seen", "answer")}
        return cls(
            status=Status(row["status"]),
            action=Action(row["action"]),
            due=row.get("due", 0),  # rows of earlier versions have none
            **known,
        )


def intend(known: Incident | None, change: Change, place: str, offset: int, *, wait_until: int = 0) -> Incident | None:
    """The row after a change read at an offset of a place (topic:partition); None: it stays. One that is `intended`
    is to be sent, others are to be written. `wait_until`: when a page that may wait is sent; 0: at once.

    A change that was handled before asks for nothing, unless its handling was interrupted.
    """
    if change.action in (Action.HOLD, Action.LET_GO):
        return _hold_or_let_go(known, change, place, offset)
    wait_until = wait_until if change.may_wait else 0
    if known is None:
        if change.action is Action.RESOLVE:
            return None
        return _incident(change, {place: offset}, wait_until)
    repeated = offset <= known.seen.get(place, -1)
    if known.status is Status.INTENDED:
        # Interrupted: finish what was begun before anything newer.
        return known if repeated else _next(known, change, place, offset)
    if repeated:
        return None
    if known.status in (Status.WAITING, Status.SUPPRESSED):
        return _unsent(known, change, known.seen | {place: offset})
    if change.action is Action.RESOLVE:
        return _next(known, change, place, offset) if known.status is Status.OPEN else None
    # What was refused or too old must not silence what comes later under the same key.
    return None if known.status is Status.OPEN else _next(known, change, place, offset, wait_until)


def settle(intended: Incident, status: Status, answer: str) -> Incident:
    """The row after the answer to a page."""
    return replace(intended, status=status, answer=answer)


def waited(known: Incident, now: int) -> Incident | None:
    """What to send of an incident that waited, at `now` of the wall clock; None: nothing yet. What was interrupted
    then is sent again."""
    if known.due and known.due <= now and known.status in (Status.WAITING, Status.INTENDED):
        return replace(known, status=Status.INTENDED)
    return None


def _hold_or_let_go(known: Incident | None, change: Change, place: str, offset: int) -> Incident | None:
    if known is None:
        # Without a page there is nothing to let go of; one that comes is to be held.
        suppressed = Incident(change.key, Status.SUPPRESSED, Action.RESOLVE, change.at, seen={place: offset})
        return suppressed if change.action is Action.HOLD else None
    repeated = offset <= known.seen.get(place, -1)
    if known.status is Status.INTENDED:
        return known if repeated else None
    if repeated or known.status is Status.OPEN:
        return None
    seen = known.seen | {place: offset}
    if change.action is Action.HOLD:
        action = Action.TRIGGER if known.status is Status.WAITING else Action.RESOLVE
        return (
            None
            if known.status is Status.SUPPRESSED
            else replace(known, status=Status.SUPPRESSED, action=action, seen=seen)
        )
    if known.status is Status.SUPPRESSED and known.action is Action.RESOLVE:
        return replace(known, status=Status.RESOLVED, seen=seen)
    if known.status in (Status.WAITING, Status.SUPPRESSED):
        return replace(known, status=Status.INTENDED, at=max(known.at, change.at), seen=seen)
    return None


def _unsent(known: Incident, change: Change, seen: dict[str, int]) -> Incident:
    """A page that nobody has seen yet is replaced, or dropped."""
    if change.action is Action.TRIGGER:
        return replace(_incident(change, seen), status=known.status, due=known.due)
    status = Status.RESOLVED if known.status is Status.WAITING else known.status
    return replace(known, status=status, action=Action.RESOLVE, seen=seen)


def _next(known: Incident, change: Change, place: str, offset: int, wait_until: int = 0) -> Incident:
    seen = known.seen | {place: offset}
    if change.action is Action.TRIGGER:
        return _incident(change, seen, wait_until)
    # What was said when it was raised is what its end must name.
    return replace(known, status=Status.INTENDED, action=Action.RESOLVE, at=change.at, seen=seen, answer="")


def _incident(change: Change, seen: dict[str, int], wait_until: int = 0) -> Incident:
    status = Status.WAITING if wait_until else Status.INTENDED
    said = (change.severity, change.title, change.details)
    return Incident(change.key, status, change.action, change.at, *said, seen, due=wait_until)
