"""What is known of each incident, and what to do about a change: pure, state as plain JSON.

A row is written before a page is sent (`intended`) and after (`open`, `resolved`, `refused`,
`too_old`). A row that stays `intended` was interrupted: its page is sent again under the same key.

A page about an alert that is not critical waits a moment (`waiting`), since the finding that its alert is suppressed,
or one of a storm, may be right behind. A page that was sent is not taken back by these; it is sent again, under its
key, where its incident has become larger, and to who is told next where nobody has acknowledged it (`escalation`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from deploytrail_sinks.on_call.alerts import Alert, rank
from deploytrail_sinks.on_call.escalation import Plan
from deploytrail_sinks.on_call.incidents import CORRELATION, Action, Change

STEPPING = -1


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
    was raised; `told` as what: the labels by which an Alertmanager tells them apart.

    `step` of its `plan` is the last that was taken, 0 for none; `next_at` when the next one is, microseconds of the
    wall clock, 0 for never, `STEPPING` while one is taken; `acknowledged`: somebody has taken it. Who that was is not
    kept: the row is archived for good, and the name is not one that could be taken out of it again.
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
    sent: int = 0
    told: tuple[dict[str, str], ...] = ()
    plan: Plan | None = None
    step: int = 0
    next_at: int = 0
    acknowledged: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """What tells it apart from what else was told of the same key."""
        if self.plan is None or not self.step:
            return {"severity": self.severity}
        notify = ",".join(self.plan.step(self.step).notify)
        return {"severity": self.severity, "escalation_step": str(self.step), "notify": notify}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 2."""
        return {"v": 2, **asdict(self)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Incident:
        """The incident of `to_json`, and of format 1, which had no `due` at first, nor what follows it. Earlier rows
        of format 2 say who acknowledged."""
        given = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        given |= {"status": Status(row["status"]), "action": Action(row["action"])}
        given["acknowledged"] = bool(given.get("acknowledged"))
        if row["v"] == 1 and given["status"] in (Status.OPEN, Status.INTENDED):
            was_sent = given["status"] is Status.OPEN or given["action"] is Action.RESOLVE
            given |= {"sent": int(was_sent), "told": [{"severity": row["severity"]}]}
        plan = Plan.from_json(row["plan"]) if row.get("plan") else None
        return cls(**given | {"told": tuple(given.get("told", ())), "plan": plan})


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
            return replace(_raised(change, seen, 0), told=known.told)
        # What was refused or too old must not silence what comes later under the same key.
        return _raised(change, seen, wait_until)
    if change.action is Action.RESOLVE and known.status in (Status.OPEN, Status.INTENDED):
        # What was said when it was raised is what its end must name.
        action, at = Action.RESOLVE, change.at
        return replace(known, status=Status.INTENDED, action=action, at=at, seen=seen, answer="", due=0, next_at=0)
    return None


def telling(intended: Incident, plan: Plan | None) -> Incident:
    """What is to be sent, with the first step of its plan where it has none of this severity, and with what is told."""
    if intended.action is Action.TRIGGER:
        if plan is not None and (intended.plan is None or intended.plan.severity != plan.severity):
            intended = replace(intended, plan=plan, step=1, next_at=STEPPING, acknowledged=False)
        if intended.labels not in intended.told:
            intended = replace(intended, told=(*intended.told, intended.labels))
    return intended


def settle(intended: Incident, status: Status, answer: str, now: int) -> Incident:
    """The row after the answer to a page at `now` of the wall clock. What was told once stays open whatever becomes of
    news of it. Who was told has from now on to acknowledge."""
    if intended.action is Action.TRIGGER and intended.sent:
        status = Status.OPEN
    settled = replace(intended, status=status, answer=answer, due=0)
    if status is not Status.OPEN:
        return replace(settled, sent=0, told=(), next_at=0)
    if settled.plan is not None and settled.next_at == STEPPING:
        settled = replace(settled, next_at=now + settled.plan.step(settled.step).lasts)
    return replace(settled, sent=settled.sent + 1)


def waited(known: Incident, now: int) -> Incident | None:
    """What to send of an incident that waited, at `now` of the wall clock; None: nothing yet. What was interrupted
    then, or while a step was taken, is sent again."""
    interrupted = known.status is Status.INTENDED and (known.next_at == STEPPING or 0 < known.due <= now)
    if interrupted or (0 < known.due <= now and known.status in (Status.WAITING, Status.OPEN)):
        return replace(known, status=Status.INTENDED)
    return None


def is_unanswered(known: Incident, now: int) -> bool:
    """Whether who was told of an open incident has had the time to acknowledge it, at `now` of the wall clock."""
    return known.status is Status.OPEN and 0 < known.next_at <= now


def next_step(known: Incident) -> Incident:
    """An unanswered incident as it is to be told to the next ones; behind the last step, as it is left."""
    assert known.plan is not None
    if known.step >= known.plan.steps:
        return replace(known, next_at=0)
    return replace(
        known, status=Status.INTENDED, action=Action.TRIGGER, answer="", step=known.step + 1, next_at=STEPPING
    )


def acknowledge(known: Incident) -> Incident:
    """An open incident that somebody has taken: nobody else is told."""
    return replace(known, acknowledged=True, next_at=0)


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
    return replace(news, status=Status.INTENDED, action=Action.TRIGGER, answer="")


def _raised(change: Change, seen: dict[str, int], wait_until: int) -> Incident:
    said = (change.severity, change.title, change.details)
    if wait_until:
        return Incident(change.key, Status.WAITING, change.action, change.at, *said, seen, due=wait_until)
    return Incident(change.key, Status.INTENDED, change.action, change.at, *said, seen)


def _alerts(details: dict[str, str]) -> int:
    return int(details.get("alerts", "1"))
