"""Recurrence rules (RFC 5545, 3.3.10), as starts in local time.

In: the text of a rule and the first start. Out: the starts between two local times.
A rule is a test of days, never a walk from its first start: asking about today costs the same
whether the rule began yesterday or twenty years ago, and one that never matches costs no more.
What is refused is what could mean two things: parts that their frequency does not allow, and
frequencies below a day, since a clock change repeats or skips their hours (`BYHOUR=6,14` says several
starts a day).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MAX_COUNT = 10_000
MAX_STARTS_A_DAY = 96
LAST_YEAR = 2099  # instants end with the year 2099: deploytrail_schemas.instants
_DAY = timedelta(days=1)
_BY_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
# Where a part is given, its frequency must be one of these.
_ONLY_WITH = {
    "BYWEEKNO": ("YEARLY",),
    "BYYEARDAY": ("YEARLY",),
    "BYMONTHDAY": ("YEARLY", "MONTHLY", "DAILY"),
}
# part → smallest and largest value; negative ones count from the end where the smallest is below 0.
_RANGES = {
    "BYSECOND": (0, 59),
    "BYMINUTE": (0, 59),
    "BYHOUR": (0, 23),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYMONTH": (1, 12),
    "BYSETPOS": (-366, 366),
}
_PARTS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_RANGES}


@dataclass(frozen=True, slots=True)
class Rule:
    """A recurrence of local starts, the first at `start` or after it."""

    start: datetime
    freq: str
    times: tuple[time, ...]
    interval: int = 1
    until: datetime | None = None  # local, inclusive
    until_instant: datetime | None = None  # in UTC, inclusive: the caller compares the starts' instants with it
    months: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    yeardays: tuple[int, ...] = ()
    monthdays: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()  # (which one of the month or year, 0 for each; Monday is 0)
    positions: tuple[int, ...] = ()
    week_start: int = 0

    def starts(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Local starts in [since, until], in order."""
        since = max(since, self.start)
        until = until if self.until is None else min(until, self.until)
        if since > until:
            return
        first = self._index(self.start.date())
        ahead = -(-(self._index(since.date()) - first) // self.interval)
        for index in range(first + ahead * self.interval, self._index(until.date()) + 1, self.interval):
            for start in self._of_period(index, since, until):
                if since <= start <= until:
                    yield start

    def _index(self, day: date) -> int:
        """The number of the period that a day lies in."""
        if self.freq == "YEARLY":
            return day.year
        if self.freq == "MONTHLY":
            return day.year * 12 + day.month - 1
        if self.freq == "WEEKLY":
            return (day.toordinal() - 1 - self.week_start) // 7  # ordinal 1 is a Monday
        return day.toordinal()

    def _days(self, index: int) -> tuple[int, int]:
        """Ordinals of the first and the last day of a period."""
        if self.freq == "YEARLY":
            return date(index, 1, 1).toordinal(), date(index, 12, 31).toordinal()
        if self.freq == "MONTHLY":
            year, month = divmod(index, 12)
            first = date(year, month + 1, 1).toordinal()
            return first, first + calendar.monthrange(year, month + 1)[1] - 1
        if self.freq == "WEEKLY":
            first = index * 7 + 1 + self.week_start
            return first, first + 6
        return index, index

    def _of_period(self, index: int, since: datetime, until: datetime) -> list[datetime]:
        first, last = self._days(index)
        if not self.positions:  # a position counts in the whole period; else only the days asked for matter
            first, last = max(first, since.toordinal()), min(last, until.toordinal())
        days = [day for day in map(date.fromordinal, range(first, last + 1)) if self._matches(day)]
        found = [datetime.combine(day, at) for day in days for at in self.times]
        if not self.positions:
            return found
        size = len(found)
        chosen = {p - 1 if p > 0 else size + p for p in self.positions}
        return [start for place, start in enumerate(found) if place in chosen]

    def _matches(self, day: date) -> bool:
        if self.months and day.month not in self.months:
            return False
        if self.monthdays and not _either(self.monthdays, day.day, calendar.monthrange(day.year, day.month)[1]):
            return False
        if self.yeardays and not _either(self.yeardays, day.timetuple().tm_yday, _length(day.year)):
            return False
        if self.weeks:
            year, week, _ = day.isocalendar()
            if not _either(self.weeks, week, date(year, 12, 28).isocalendar().week):
                return False
        return not self.weekdays or self._is_weekday(day)

    def _is_weekday(self, day: date) -> bool:
        weekday = day.weekday()
        for which, wanted in self.weekdays:
            if wanted != weekday:
                continue
            if which == 0:
                return True
            if self.freq == "MONTHLY" or self.months:
                place, size = day.day, calendar.monthrange(day.year, day.month)[1]
            else:
                place, size = day.timetuple().tm_yday, _length(day.year)
            if which == ((place - 1) // 7 + 1 if which > 0 else -((size - place) // 7 + 1)):
                return True
        return False


def read_rule(text: str, start: datetime, *, whole_days: bool = False) -> Rule:
    """The rule of a text such as FREQ=WEEKLY;BYDAY=MO,TU, beginning at the local time `start`.

    `whole_days`: the starts are days, and UNTIL may be one. ValueError says what is wrong.
    """
    parts = _parts(text)
    freq = parts["FREQ"]
    given = {name: _numbers(name, parts[name]) for name in _RANGES if name in parts}
    weekdays = _weekdays(parts["BYDAY"], freq, "BYWEEKNO" in parts) if "BYDAY" in parts else ()
    week_start = parts.get("WKST", "MO")
    if week_start not in WEEKDAYS:
        raise ValueError(f"WKST={week_start}: expected a day such as MO")
    if "BYWEEKNO" in parts and (week_start != "MO" or not weekdays):
        raise ValueError("BYWEEKNO: expected with BYDAY, and with weeks that begin on Monday as ISO 8601 counts them")
    months, monthdays = given.get("BYMONTH", ()), given.get("BYMONTHDAY", ())
    if not (weekdays or monthdays or "BYYEARDAY" in given):
        # What the rule leaves out comes from its first start (RFC 5545, 3.3.10).
        if freq == "WEEKLY":
            weekdays = ((0, start.weekday()),)
        elif freq != "DAILY":
            monthdays = (start.day,)
            if freq == "YEARLY":
                months = months or (start.month,)
    times = [
        time(hour, minute, second)
        for hour in given.get("BYHOUR", (start.hour,))
        for minute in given.get("BYMINUTE", (start.minute,))
        for second in given.get("BYSECOND", (start.second,))
    ]
    if len(times) > MAX_STARTS_A_DAY:
        raise ValueError(f"{len(times)} starts a day; expected at most {MAX_STARTS_A_DAY}")
    rule = Rule(
        start,
        freq,
        tuple(sorted(times)),
        interval=_whole(parts, "INTERVAL", 1, 10_000),
        months=months,
        weeks=given.get("BYWEEKNO", ()),
        yeardays=given.get("BYYEARDAY", ()),
        monthdays=monthdays,
        weekdays=weekdays,
        positions=given.get("BYSETPOS", ()),
        week_start=WEEKDAYS.index(week_start),
    )
    if "UNTIL" in parts:
        rule = _until(rule, parts["UNTIL"], whole_days)
    return _counted(rule, _whole(parts, "COUNT", 0, MAX_COUNT))


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.strip().upper().removeprefix("RRULE:").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value or name not in _PARTS:
            raise ValueError(f"{part or 'nothing'!r} is no part of a recurrence such as FREQ=WEEKLY;BYDAY=MO,TU")
        if name in parts:
            raise ValueError(f"{name} stands twice")
        parts[name] = value
    freq = parts.get("FREQ", "nothing")
    if freq not in FREQUENCIES:
        raise ValueError(f"FREQ is {freq}; expected one of {', '.join(FREQUENCIES)}; BYHOUR says several starts a day")
    for name, allowed in _ONLY_WITH.items():
        if name in parts and freq not in allowed:
            raise ValueError(f"{name} has no meaning with FREQ={freq}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("COUNT and UNTIL exclude each other")
    if "BYSETPOS" in parts and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        raise ValueError("BYSETPOS needs another part that begins with BY, to choose from")
    return parts


def _numbers(name: str, text: str) -> tuple[int, ...]:
    low, high = _RANGES[name]
    numbers = []
    for part in text.split(","):
        number = int(part) if re.fullmatch(r"[+-]?\d{1,3}", part, re.ASCII) else None
        if number is None or not low <= number <= high or (number == 0 and low < 0):
            raise ValueError(f"{name}={part}: expected numbers from {low} to {high}")
        numbers.append(number)
    return tuple(sorted(set(numbers)))


def _weekdays(text: str, freq: str, by_week: bool) -> tuple[tuple[int, int], ...]:
    found = set()
    for part in text.split(","):
        match = _BY_DAY.fullmatch(part)
        which = int(match[1] or 0) if match else 0
        if match is None or (match[1] and not 1 <= abs(which) <= 53):
            raise ValueError(f"BYDAY={part}: expected days such as MO or -1FR")
        if which and (freq not in ("MONTHLY", "YEARLY") or by_week):
            raise ValueError(f"BYDAY={part}: a number needs FREQ=MONTHLY, or YEARLY without BYWEEKNO")
        found.add((which, WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _whole(parts: dict[str, str], name: str, default: int, largest: int) -> int:
    if name not in parts:
        return default
    if not re.fullmatch(r"\d{1,5}", parts[name], re.ASCII) or not 1 <= int(parts[name]) <= largest:
        raise ValueError(f"{name}={parts[name]}: expected a number from 1 to {largest}")
    return int(parts[name])


def _until(rule: Rule, text: str, whole_days: bool) -> Rule:
    try:
        if re.fullmatch(r"\d{8}T\d{6}Z", text, re.ASCII):
            return replace(rule, until_instant=datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        if re.fullmatch(r"\d{8}T\d{6}", text, re.ASCII):
            return replace(rule, until=datetime.strptime(text, "%Y%m%dT%H%M%S"))  # noqa: DTZ007  # local
        if whole_days and re.fullmatch(r"\d{8}", text, re.ASCII):
            return replace(rule, until=datetime.strptime(text, "%Y%m%d"))  # noqa: DTZ007  # local
    except ValueError:
        pass
    # A bare day would end before that day's start (RFC 5545 forbids it), where most people mean after it.
    raise ValueError(f"UNTIL={text}: expected a local time such as 20261231T235959, or UTC with a Z behind it")


def _counted(rule: Rule, count: int) -> Rule:
    """The rule with its last start instead of a count; ValueError where it has no start at all."""
    last = None
    end = datetime(LAST_YEAR, 12, 31, 23, 59, 59)  # noqa: DTZ001  # local
    for number, start in enumerate(rule.starts(rule.start, end), 1):
        last = start
        if number == max(count, 1):
            break
    if last is None:
        raise ValueError(f"no day up to {LAST_YEAR} fits it")
    return replace(rule, until=last) if count else rule


def _either(wanted: tuple[int, ...], place: int, size: int) -> bool:
    """Whether a place from 1 is wanted, counted from the front or (negative) from the end."""
    return place in wanted or place - size - 1 in wanted


def _length(year: int) -> int:
    return 366 if calendar.isleap(year) else 365
