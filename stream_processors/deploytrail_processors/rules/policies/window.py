"""Policies of the kind `change_window`: when changes are allowed, or denied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope

from deploytrail_processors import zones
from deploytrail_processors.rules.durations import Duration, read_duration
from deploytrail_processors.rules.recurrence import Rule, read_rule
from deploytrail_processors.rules.timetable import Expansion, Timetable, to_instant

OVERRUN = ("allow", "warn", "violation")  # in order of severity


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """Local times in an IANA zone at which changes are allowed or denied."""

    allow: bool
    zone: ZoneInfo
    times: Expansion  # calendars not taken off
    scope: Scope
    calendars: tuple[str, ...] = ()  # in their time the window is not there
    overrun: str = "allow"  # one of OVERRUN: what still runs when it closes, and when its grace is over
    grace_minutes: float = 0.0


def read_window(reader: Reader) -> ChangeWindow:
    effect = reader.choice("effect", ("allow", "deny"), about="Whether changes are allowed or denied then; deny wins.")
    zone = read_zone(reader, "zone", reader.text("zone", about="IANA time zone, such as Europe/Berlin."))
    start = _local(reader, "start", reader.text("start", about="The first start, a local time: 2026-01-05T09:00."))
    length = _length(reader, start, zone)
    overrun = reader.choice("overrun", OVERRUN, "allow", about="What it is when a deployment still runs at the close.")
    added = reader.texts("rdates", about="Local times at which it starts besides.")
    removed, removed_days = _exceptions(reader, start)
    times = Timetable(
        start,
        days=length.days,
        exact=length.exact,
        rule=_rule(reader, start) if "rrule" in reader.raw else None,
        added=tuple(_local(reader, "rdates", text, default=start) for text in added),
        removed=removed,
        removed_days=removed_days,
    )
    return ChangeWindow(
        effect == "allow",
        zone,
        Expansion((times,), zone),
        read_scope(reader),
        calendars=reader.texts("except", about="Calendars in whose time the window is not there."),
        overrun=overrun,
        grace_minutes=reader.number("overrun_grace_minutes", None, about="So long after the close it may still run.")
        or 0.0,
    )


def read_zone(reader: Reader, field: str, name: str) -> ZoneInfo:
    try:
        return zones.zone(name)
    except KeyError:
        if name:
            reader.wrong(field, f"is {name!r}; expected an IANA time zone such as Europe/Berlin")
        return zones.zone("UTC")


def _length(reader: Reader, start: datetime, zone: ZoneInfo) -> Duration:
    """How long each lasts: minutes, an ISO 8601 duration, or up to `end` where it does not recur."""
    minutes = reader.number("duration_minutes", None, about="How long each lasts.")
    text = reader.text("duration", "", about="The same as an ISO 8601 duration: PT8H, P1D.")
    end = reader.text("end", "", about="Instead, where it happens once: the local time at which it ends.")
    given = [name for name in ("duration_minutes", "duration", "end") if name in reader.raw]
    if len(given) != 1:
        wanted = "expected one of duration_minutes, duration, end"
        reader.wrong("duration_minutes", f"is missing; {wanted}" if not given else f"{wanted}, not several")
    elif end:
        if "rrule" in reader.raw:
            reader.wrong("end", "has no meaning with rrule; expected duration_minutes or duration")
        last = _local(reader, "end", end, default=start)
        exact = timedelta(microseconds=to_instant(last, zone) - to_instant(start, zone))
        if exact <= timedelta(0):
            reader.wrong("end", f"is {end!r}; expected a local time after the start")
        return Duration(exact=exact)
    elif text:
        try:
            return read_duration(text)
        except ValueError as error:
            reader.wrong("duration", str(error))
    return Duration(exact=timedelta(minutes=minutes or 0))


def _local(reader: Reader, field: str, text: str, default: datetime = datetime(2000, 1, 1)) -> datetime:  # noqa: DTZ001  # a local time; its zone is a field of its own
    try:
        local = datetime.fromisoformat(text)
        if local.tzinfo is None and "T" in text:
            return local
    except ValueError:
        pass
    if text:
        reader.wrong(field, f"is {text!r}; expected a local time such as 2026-01-05T09:00")
    return default


def _exceptions(reader: Reader, start: datetime) -> tuple[frozenset[datetime], frozenset[date]]:
    """`exdates`: a local time takes off the start at it, a day every start on it."""
    removed, days = set(), set()
    for text in reader.texts("exdates", about="Days, or local times of starts, that are left out."):
        try:
            days.add(date.fromisoformat(text))
        except ValueError:
            removed.add(_local(reader, "exdates", text, default=start))
    return frozenset(removed), frozenset(days)


def _rule(reader: Reader, start: datetime) -> Rule | None:
    text = reader.text("rrule", about="RFC 5545 recurrence, such as FREQ=WEEKLY;BYDAY=MO,TU; left out: once.")
    try:
        return read_rule(text, start)
    except ValueError as error:
        if text or reader.raw["rrule"] == "":
            reader.wrong("rrule", f"is {text!r}: {error}")
        return None
