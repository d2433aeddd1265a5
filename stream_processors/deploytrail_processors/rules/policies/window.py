"""Policies of the kind `change_window`: when changes are allowed, or denied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from deploytrail_processors.rules.policies.reader import Reader
from deploytrail_processors.rules.policies.scope import Scope, read_scope


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """A recurrence (RFC 5545) of local starts in an IANA zone, each lasting `duration`."""

    allow: bool
    zone: ZoneInfo
    start: datetime  # naive: local time in `zone`
    duration: timedelta
    rule: rrule
    scope: Scope


def read_window(reader: Reader) -> ChangeWindow:
    effect = reader.text("effect")
    if effect not in ("allow", "deny"):
        reader.wrong("effect", f"is {effect!r}; expected allow or deny")
    zone = _zone(reader, reader.text("zone"))
    start = _local(reader, reader.text("start"))
    duration = timedelta(minutes=reader.number("duration_minutes", None) or 0)
    if not duration and "duration_minutes" not in reader.raw:
        reader.wrong("duration_minutes", "is missing")
    rule = _rule(reader, reader.text("rrule"), start)
    return ChangeWindow(effect == "allow", zone, start, duration, rule, read_scope(reader))


def _zone(reader: Reader, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a directory of the database
        if name:
            reader.wrong("zone", f"is {name!r}; expected an IANA time zone such as Europe/Berlin")
        return ZoneInfo("UTC")


def _local(reader: Reader, text: str) -> datetime:
    try:
        start = datetime.fromisoformat(text)
        if start.tzinfo is None and "T" in text:
            return start
    except ValueError:
        pass
    if text:
        reader.wrong("start", f"is {text!r}; expected a local time such as 2026-01-05T09:00")
    return datetime(2000, 1, 1)  # noqa: DTZ001  # a local time; its zone is a field of its own


def _rule(reader: Reader, text: str, start: datetime) -> rrule:
    try:
        if "\n" in text or "DTSTART" in text.upper() or "FREQ" not in text.upper():
            raise ValueError("expected one recurrence such as FREQ=WEEKLY;BYDAY=MO,TU")
        parsed = rrulestr(text.removeprefix("RRULE:"), dtstart=start, cache=True)
        if not isinstance(parsed, rrule):
            raise ValueError("expected one recurrence")
        return parsed
    except (ValueError, TypeError, AttributeError) as error:
        if text:
            reader.wrong("rrule", f"is {text!r}: {error}")
        return rrule(0, dtstart=start, count=1)
