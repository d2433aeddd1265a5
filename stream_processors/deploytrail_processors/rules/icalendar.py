"""Events of an iCalendar text (RFC 5545), as timetables.

In: the text of a .ics file. Out: the time that its events take, or what is wrong with it. What would
change the time and is not understood here is refused, never skipped: changed instances
(RECURRENCE-ID), periods, EXRULE, zones that are not of the IANA database. Alarms, to-dos and
everything that only describes an event are passed over; cancelled events take no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from deploytrail_processors import zones
from deploytrail_processors.rules.durations import Duration, read_duration
from deploytrail_processors.rules.recurrence import read_rule
from deploytrail_processors.rules.timetable import Timetable

MAX_EVENTS = 5_000
_UTC = zones.zone("UTC")
_LINE = re.compile(r"([A-Za-z0-9-]+)((?:;[A-Za-z0-9-]+=(?:\"[^\"]*\"|[^\";:,]*)(?:,(?:\"[^\"]*\"|[^\";:,]*))*)*):(.*)")
_PARAMETER = re.compile(r";([A-Za-z0-9-]+)=(\"[^\"]*\"|[^;]*)")
_REFUSED = ("EXRULE", "RECURRENCE-ID")
_READ = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "STATUS")


@dataclass(frozen=True, slots=True)
class _Property:
    line: int
    name: str
    parameters: dict[str, str]
    value: str


@dataclass(frozen=True, slots=True)
class _Moment:
    """A time or a day as an event gives it; `zone` None: local wherever one asks."""

    local: datetime
    zone: ZoneInfo | None
    whole_day: bool


@dataclass(slots=True)
class _Event:
    line: int
    properties: dict[str, list[_Property]] = field(default_factory=dict)


def read_events(text: str) -> tuple[Timetable, ...]:
    """The timetables of every event; ValueError, with the line, for the first thing that is wrong."""
    events = list(_events(text))
    if len(events) > MAX_EVENTS:
        raise ValueError(f"{len(events)} events; expected at most {MAX_EVENTS}")
    return tuple(found for event in events if (found := _timetable(event)) is not None)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Content lines with their numbers, unfolded (RFC 5545, 3.1)."""
    number, whole = 0, ""
    for n, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line[:1] in (" ", "\t"):
            whole += line[1:]
            continue
        if whole:
            yield number, whole
        number, whole = n, line
    if whole:
        yield number, whole


def _events(text: str) -> Iterator[_Event]:
    open_parts: list[str] = []
    event: _Event | None = None
    seen = False
    for number, line in _lines(text.removeprefix("\ufeff")):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number}: {line[:40]!r} is no line of an iCalendar file")
        name, value = match[1].upper(), match[3]
        if name == "BEGIN":
            if not open_parts and value.upper() != "VCALENDAR":
                raise ValueError(f"line {number}: expected BEGIN:VCALENDAR")
            open_parts.append(value.upper())
            seen = True
            if open_parts == ["VCALENDAR", "VEVENT"]:
                event = _Event(number)
        elif name == "END":
            if not open_parts or open_parts[-1] != value.upper():
                raise ValueError(f"line {number}: END:{value} ends nothing that began")
            if open_parts == ["VCALENDAR", "VEVENT"] and event is not None:
                yield event
                event = None
            open_parts.pop()
        elif not open_parts:
            raise ValueError(f"line {number}: expected BEGIN:VCALENDAR")
        elif event is not None and len(open_parts) == 2:
            if name in _REFUSED:
                raise ValueError(f"line {number}: {name} is not read here; write the event's times out")
            if name in _READ:
                parameters = {key.upper(): part.strip('"') for key, part in _PARAMETER.findall(match[2])}
                event.properties.setdefault(name, []).append(_Property(number, name, parameters, value.strip()))
    if open_parts or not seen:
        raise ValueError(f"END:{open_parts[-1]} is missing" if open_parts else "is empty; expected BEGIN:VCALENDAR")


def _timetable(event: _Event) -> Timetable | None:
    if any(p.value.upper() == "CANCELLED" for p in event.properties.get("STATUS", ())):
        return None
    given = _one(event, "DTSTART")
    if given is None:
        raise ValueError(f"line {event.line}: the event has no DTSTART")
    [start] = _moments(given, only_one=True)
    length = _length(event, start)
    rule = _one(event, "RRULE")
    try:
        read = read_rule(rule.value, start.local, whole_days=start.whole_day) if rule else None
    except ValueError as error:
        raise ValueError(f"line {rule.line if rule else event.line}: {error}") from None
    removed = [m for p in event.properties.get("EXDATE", ()) for m in _moments(p)]
    return Timetable(
        start.local,
        days=length.days,
        exact=length.exact,
        rule=read,
        added=tuple(_as(m, start) for p in event.properties.get("RDATE", ()) for m in _moments(p)),
        removed=frozenset(_as(m, start) for m in removed if not m.whole_day),
        removed_days=frozenset(m.local.date() for m in removed if m.whole_day),
        zone=start.zone,
    )


def _length(event: _Event, start: _Moment) -> Duration:
    end, duration = _one(event, "DTEND"), _one(event, "DURATION")
    if end is not None:
        [until] = _moments(end, only_one=True)
        if until.whole_day != start.whole_day or (until.zone is None) != (start.zone is None):
            raise ValueError(f"line {end.line}: DTEND and DTSTART are of different kinds")
        if start.whole_day:
            found = Duration((until.local - start.local).days)
        elif start.zone is None or until.zone is None:
            found = Duration(exact=until.local - start.local)
        else:
            found = Duration(exact=_instant(until.local, until.zone) - _instant(start.local, start.zone))
        if found.days < 0 or found.exact < timedelta(0):
            raise ValueError(f"line {end.line}: DTEND lies before DTSTART")
        # Some calendars end a day's event on that day itself; RFC 5545 would call this no time at all.
        return Duration(1) if start.whole_day and not found.days else found
    if duration is not None:
        try:
            return read_duration(duration.value)
        except ValueError as error:
            raise ValueError(f"line {duration.line}: DURATION {error}") from None
    return Duration(1) if start.whole_day else Duration()


def _one(event: _Event, name: str) -> _Property | None:
    found = event.properties.get(name, [])
    if len(found) > 1:
        raise ValueError(f"line {found[1].line}: {name} stands twice in one event")
    return found[0] if found else None


def _moments(given: _Property, *, only_one: bool = False) -> list[_Moment]:
    texts = given.value.split(",")
    if only_one and len(texts) > 1:
        raise ValueError(f"line {given.line}: expected one time in {given.name}")
    return [_moment(given, text) for text in texts]


def _moment(given: _Property, text: str) -> _Moment:
    kind, name = given.parameters.get("VALUE", "").upper(), given.parameters.get("TZID", "")
    try:
        if re.fullmatch(r"\d{8}", text, re.ASCII) and kind in ("", "DATE"):
            return _Moment(datetime.combine(date(int(text[:4]), int(text[4:6]), int(text[6:])), time()), None, True)
        if re.fullmatch(r"\d{8}T\d{6}Z?", text, re.ASCII) and kind in ("", "DATE-TIME"):
            local = datetime.strptime(text.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007  # local
            zone = _UTC if text.endswith("Z") else zones.zone(name) if name else None
            return _Moment(local, zone, False)
    except KeyError:
        raise ValueError(f"line {given.line}: {name!r} is no IANA time zone such as Europe/Berlin") from None
    except ValueError:
        pass
    raise ValueError(f"line {given.line}: {given.name} {text!r}; expected a day or a time such as 20261224T090000")


def _as(moment: _Moment, start: _Moment) -> datetime:
    """A time in the terms of the event's start."""
    if moment.zone is None or start.zone is None or moment.zone is start.zone:
        return moment.local
    return moment.local.replace(tzinfo=moment.zone).astimezone(start.zone).replace(tzinfo=None)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
