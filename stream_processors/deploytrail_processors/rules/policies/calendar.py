"""Policies of the kind `calendar`: days and times that change windows leave out, such as holidays."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from deploytrail_schemas.policies.reader import Reader

from deploytrail_processors.rules.icalendar import read_events
from deploytrail_processors.rules.policies.window import read_zone
from deploytrail_processors.rules.timetable import Expansion, Timetable


@dataclass(frozen=True, slots=True)
class Calendar:
    """Whole days and times. `zone` None: its days are those of the window that leaves them out."""

    timetables: tuple[Timetable, ...] = ()
    zone: ZoneInfo | None = None
    _known: dict[str, Expansion] = field(default_factory=dict, compare=False, repr=False)

    def times(self, zone: ZoneInfo) -> Expansion:
        """Its time as a window in `zone` sees it."""
        zone = self.zone or zone
        return self._known.setdefault(str(zone), Expansion(self.timetables, zone))


def read_calendar(reader: Reader) -> Calendar:
    if "file" in reader.raw:
        reader.seen.add("file")
        reader.wrong("file", "is for `deploytrail policy`, which puts the file's text into `ics`")
    zone = (
        read_zone(reader, "zone", reader.text("zone", about="Where its days lie; left out: those of the window."))
        if "zone" in reader.raw
        else None
    )
    by_length: dict[int, list[datetime]] = {}
    for text in reader.texts("dates", about="Days such as 2026-12-25, or 2026-12-24/2027-01-01."):
        start, days = _days(reader, text)
        by_length.setdefault(days, []).append(start)
    # One timetable for all of a length: a calendar of many days is worked out as quickly as one of a few.
    found = [Timetable(starts[0], days, added=tuple(starts[1:])) for days, starts in by_length.items()]
    text = reader.text("ics", "", about="An iCalendar text, whose events count.")
    if text:
        try:
            found += read_events(text)
        except ValueError as error:
            reader.wrong("ics", str(error))
    if not found and not reader.problems:
        reader.wrong("dates", "is missing; expected dates, an iCalendar text in ics, or a file beside this one")
    return Calendar(tuple(found), zone)


def _days(reader: Reader, text: str) -> tuple[datetime, int]:
    """The start and the number of days of a day, or of `first/last`, both included (ISO 8601)."""
    first, _, last = text.partition("/")
    try:
        since, until = date.fromisoformat(first), date.fromisoformat(last or first)
        if until >= since:
            return datetime.combine(since, time()), (until - since + timedelta(1)).days
    except ValueError:
        pass
    reader.wrong("dates", f"holds {text!r}; expected a day such as 2026-12-25, or 2026-12-24/2027-01-01")
    return datetime(2000, 1, 1), 1  # noqa: DTZ001  # local
