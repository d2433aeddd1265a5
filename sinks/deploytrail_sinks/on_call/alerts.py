"""What is known of each alert, and which page is about it: pure, state as plain JSON.

Alerts of one storm are one incident: their findings name the alert that began it, and one page, under that alert's
key, is about all of them. It is triggered by the first that needs somebody, updated as others join, and resolved once
none of them does. An alert that is held back has no voice in this until it is let go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from deploytrail_schemas.policies.escalation import SEVERITIES

from deploytrail_sinks.on_call.incidents import CORRELATION, Action, Change, Said, Word

PREFIX = "alert/"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `page`: the key of the page that is about it, `before` of the one that was; `raised`: it needs
    somebody; `held`: it is kept back; `seen` the newest offset by topic and partition."""

    signal_id: str
    page: str
    raised: bool
    held: bool
    at: int
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    before: str = ""

    @property
    def pages(self) -> tuple[str, ...]:
        """Every page that it may concern, the one that is about it first: whoever had its own has joined another's."""
        return tuple(dict.fromkeys(filter(None, (self.page, self.before, page_key(self.signal_id)))))

    @property
    def key(self) -> str:
        """The key of its row."""
        return PREFIX + self.signal_id

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, format 2: format 1 had no rows of alerts."""
        return {"v": 2, "key": self.key, **asdict(self)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Alert:
        """The alert of `to_json`."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


def page_key(signal_id: str) -> str:
    """The key of the page about an alert, or about the storm that it began."""
    return f"{CORRELATION}/{signal_id}"


def hear(known: Alert | None, said: Said, place: str, offset: int) -> Alert | None:
    """The alert after what a finding, read at an offset of a place (topic:partition), says of it; None: there is none
    to know about. What was heard before changes nothing."""
    if known is None:
        if said.word in (Word.TAKE_BACK, Word.LET_GO):
            return None
        known = Alert(said.signal_id, page_key(said.signal_id), raised=False, held=False, at=said.at)
    if offset <= known.seen.get(place, -1):
        return known
    known = replace(known, seen=known.seen | {place: offset})
    if said.word is Word.HOLD:
        return replace(known, held=True)
    if said.word is Word.LET_GO:
        # It speaks of now: a page that was kept for long is no old one.
        return replace(known, held=False, at=max(known.at, said.at) if known.held else known.at)
    if said.word is Word.TAKE_BACK:
        return replace(known, raised=False)
    page = page_key(said.incident or said.signal_id)
    before = known.before if page == known.page else known.page
    heard = replace(known, at=said.at, severity=said.severity, title=said.title, details=said.details)
    return replace(heard, raised=True, page=page, before=before)


def change_of(page: str, alerts: Iterable[Alert], *, at: int, word: Word | None = None) -> Change:
    """What a page needs, from all alerts that it is about, after `word` was said of one of them at a time."""
    known = list(alerts)
    voices = sorted((a for a in known if a.raised and not a.held), key=_first)
    if not voices:
        return Change(page, Action.WITHDRAW if any(a.held for a in known) else Action.RESOLVE, at)
    first, several = voices[0], len(voices) > 1
    details = dict(first.details)
    if several or first.page != page_key(first.signal_id):
        details |= {"incident": page.partition("/")[2], "alerts": str(len(voices))}
    return Change(
        page,
        Action.TRIGGER,
        max(voice.at for voice in voices),
        first.severity,
        f"{len(voices)} alerts of one incident, the gravest: {first.title}" if several else first.title,
        details,
        # What is critical is never suppressed, so it waits for nothing; nor does what was just let go.
        may_wait=first.severity != SEVERITIES[0] and word is not Word.LET_GO,
        cause=first.details.get("deployment_id", ""),
    )


def _first(voice: Alert) -> tuple[int, int, str]:
    """The gravest of the alerts speaks for them, of several the earliest."""
    return rank(voice.severity), voice.at, voice.signal_id


def rank(severity: str) -> int:
    """How grave: 0 the gravest; what is unknown comes last."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
