"""What is known of each incident, and what to do about a change: pure, state as plain JSON.

A row is written before a page is sent (`intended`) and after (`open`, `resolved`, `refused`,
`too_old`). A row that stays `intended` was interrupted: its page is sent again under the same key.

A page about an alert that is not critical waits a moment (`waiting`), since the finding that its alert is suppressed,
or one of a storm, may be right behind. A page that was sent is not taken back by these; it is sent again, under its
key, where its incident has become larger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from deploytrail_sinks.on_call.alerts import Alert, rank
from deploytrail_sinks.on_call.incidents import CORRELATION, Action, Change


class Status(StrEnum):
    """Where an incident stands."""

    WAITING = "waiting"
    INTENDED = "intended"
    OPEN = "open"
    RESOLVED = "resolved"
    REFUSED = "refused"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. `action` is the last one intended; `seen` the newest offset by topic and partition; `due` when its
    page, or news of it, is sent, microseconds of the wall clock, 0 for at once; `sent` how often it was sent since it
    was raised; `told` as what: the severities, since these are what an Alertmanager tells incidents apart by, too."""

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
    sent: int = 0
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 2."""
        return {"v": 2, **asdict(self)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Incident:
        """The incident of `to_json`, and of format 1, which had no `due` at first, nor what follows it."""
        given = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        given |= {"status": Status(row["status"]), "action": Action(row["action"])}
        if row["v"] == 1 and given["status"] in (Status.OPEN, Status.INTENDED):
            was_sent = given["status"] is Status.OPEN or given["action"] is Action.RESOLVE
            given |= {"sent": int(was_sent), "told": [row["severity"]]}
        return cls(**given | {"told": tuple(given.get("told", ()))})


def read_row(row: dict[str, Any]) -> tuple[Incident | None, Alert | None]:
    """The incident and the alert of a row of the state topic: one of both, or both for a row of format 1, in which an
    alert's incident also held what was said of the alert."""
    if row["v"] > 1:
        return (Incident.from_json(row), None) if "status" in row else (None, Alert.from_json(row))
    rule, _, signal_id = row["key"].partition("/")
    alert = None
    if rule == CORRELATION:
        said = {name: row[name] for name in ("at", "severity", "title", "details", "seen")}
        raised = row["action"] == Action.TRIGGER.value
        alert = Alert(signal_id, row["key"], raised=raised, held=row["status"] == "suppressed", **said)
    return None if row["status"] == "suppressed" else Incident.from_json(row), alert


def intend(known: Incident | None, change: Change, place: str, offset: int, *, wait_until: int = 0) -> Incident | None:
    """The row after a change read at an offset of a place (topic:partition); None: it stays. One that is `intended`
    is to be sent, others are to be written. `wait_until`: when a page that may wait is sent; 0: at once.

    A change that was handled before asks for nothing, unless its handling was interrupted.
    """
    if known is None:
        return _raised(change, {place: offset}, wait_until) if change.action is Action.TRIGGER else None
    repeated = offset <= known.seen.get(place, -1)
    seen = known.seen | {place: offset}
    if known.status is Status.INTENDED and repeated:
        return known  # interrupted: finish what was begun before anything newer
    if repeated:
        return None
    if known.status is Status.WAITING:
        return _unsent(known, change, seen, wait_until)
    if change.action is Action.TRIGGER:
        if known.status in (Status.OPEN, Status.INTENDED) and known.sent:
            return _grown(known, change, seen, wait_until)
        if known.status is Status.INTENDED:
            return _told(replace(_raised(change, seen, 0), told=known.told))
        # What was refused or too old must not silence what comes later under the same key.
        return _raised(change, seen, wait_until)
    if change.action is Action.RESOLVE and known.status in (Status.OPEN, Status.INTENDED):
        # What was said when it was raised is what its end must name.
        action, at = Action.RESOLVE, change.at
        return replace(known, status=Status.INTENDED, action=action, at=at, seen=seen, answer="", due=0)
    return None


def settle(intended: Incident, status: Status, answer: str) -> Incident:
    """The row after the answer to a page. What was told once stays open whatever becomes of news of it."""
    if intended.action is Action.TRIGGER and intended.sent:
        status = Status.OPEN
    sent = intended.sent + 1 if status is Status.OPEN else 0
    return replace(intended, status=status, answer=answer, due=0, sent=sent, told=intended.told if sent else ())


def waited(known: Incident, now: int) -> Incident | None:
    """What to send of an incident that waited, at `now` of the wall clock; None: nothing yet. What was interrupted
    then is sent again."""
    if known.due and known.due <= now and known.status in (Status.WAITING, Status.OPEN, Status.INTENDED):
        return _told(replace(known, status=Status.INTENDED))
    return None


def _unsent(known: Incident, change: Change, seen: dict[str, int], wait_until: int) -> Incident:
    """A page that nobody has seen yet is replaced, or dropped."""
    if change.action is Action.TRIGGER:
        waiting = _raised(change, seen, wait_until)
        return replace(waiting, due=min(known.due, waiting.due)) if waiting.due else waiting
    return replace(known, status=Status.RESOLVED, action=Action.RESOLVE, seen=seen, due=0)


def _grown(known: Incident, change: Change, seen: dict[str, int], wait_until: int) -> Incident | None:
    """News of an incident that was told: more alerts, or a graver one. The graver one waits for nothing."""
    graver = rank(change.severity) < rank(known.severity)
    if known.status is Status.OPEN and not graver and _alerts(change.details) <= _alerts(known.details):
        return None
    severity = change.severity if graver else known.severity
    news = replace(known, severity=severity, title=change.title, details=change.details, seen=seen)
    if known.status is Status.OPEN and wait_until and not graver:
        return replace(news, due=known.due or wait_until)
    return _told(replace(news, status=Status.INTENDED, action=Action.TRIGGER, answer=""))


def _raised(change: Change, seen: dict[str, int], wait_until: int) -> Incident:
    said = (change.severity, change.title, change.details)
    if wait_until:
        return Incident(change.key, Status.WAITING, change.action, change.at, *said, seen, due=wait_until)
    return _told(Incident(change.key, Status.INTENDED, change.action, change.at, *said, seen))


def _told(incident: Incident) -> Incident:
    told = incident.told if incident.severity in incident.told else (*incident.told, incident.severity)
    return replace(incident, told=told)


def _alerts(details: dict[str, str]) -> int:
    return int(details.get("alerts", "1"))
