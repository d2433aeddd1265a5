"""When something is: local times that recur in a zone, as intervals of instants.

In: timetables, a zone, two instants (microseconds). Out: intervals [start, end), joined where they
touch. A local start that a clock change skips begins as if the clock had not changed yet, one that
occurs twice begins at the first (RFC 5545, 3.3.5). Hours last exactly so long; days last from one local
time to the same one so many days later, which is 23 or 25 hours where the clock changes (3.3.6).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from deploytrail_schemas.instants import from_micros, to_micros

from deploytrail_processors.rules.recurrence import Rule

Span = tuple[int, int]  # [start, end) in microseconds
DAY = 86_400_000_000
# Intervals are worked out for so long a stretch at once, and remembered.
STRETCH = 32 * DAY
REMEMBERED = 64
# A local time is at most so far from UTC, and a clock change skips at most a day.
_SLACK = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Starts in local time, each lasting `days` and then `exact`."""

    start: datetime
    days: int = 0
    exact: timedelta = timedelta(0)
    rule: Rule | None = None  # None: once
    added: tuple[datetime, ...] = ()
    removed: frozenset[datetime] = frozenset()
    removed_days: frozenset[date] = frozenset()
    zone: ZoneInfo | None = None  # None: of whoever asks

    def spans(self, zone: ZoneInfo, since: int, until: int) -> list[Span]:
        """The intervals that touch [since, until], each by itself."""
        zone = self.zone or zone
        longest = timedelta(days=self.days + 1) + self.exact
        first = from_micros(since).replace(tzinfo=None) - longest - _SLACK
        last = from_micros(until).replace(tzinfo=None) + _SLACK
        found = []
        for local in self._starts(first, last):
            begin = to_instant(local, zone)
            if self.rule and self.rule.until_instant and begin > to_micros(self.rule.until_instant):
                continue
            end = to_instant(local + timedelta(days=self.days), zone) if self.days else begin
            end += self.exact // timedelta(microseconds=1)
            if begin <= until and end > since and end > begin:
                found.append((begin, end))
        return found

    def _starts(self, first: datetime, last: datetime) -> list[datetime]:
        regular = self.rule.starts(first, last) if self.rule else (s for s in (self.start,) if first <= s <= last)
        # A removed start is removed, however it came to be there.
        more = (s for s in self.added if first <= s <= last)
        return [s for s in (*regular, *more) if s not in self.removed and s.date() not in self.removed_days]


def to_instant(local: datetime, zone: ZoneInfo) -> int:
    """The instant of a local time: the first of two, and by the offset before a gap."""
    return to_micros(local.replace(tzinfo=zone, fold=0).astimezone(UTC))


class Stretches:
    """Joined intervals, worked out for one stretch of time at once, and remembered.

    `work_out(since, until)` gives the intervals that touch [since, until], the same each time.
    """

    def __init__(self, work_out: Callable[[int, int], Iterable[Span]]) -> None:
        self._work_out = work_out
        self._known: dict[int, list[Span]] = {}

    def touching(self, since: int, until: int) -> list[Span]:
        """The joined intervals that touch [since, until]; their ends beyond it may be cut short."""
        first, last = since // STRETCH, until // STRETCH
        if first == last:
            return _within(self._stretch(first), since, until)
        every = (span for n in range(first, last + 1) for span in self._stretch(n))
        return _within(joined(every), since, until)

    def covers(self, at: int) -> bool:
        """Whether an instant lies in one of them."""
        spans = self._stretch(at // STRETCH)
        after = bisect_right(spans, at, key=lambda span: span[1])
        return after < len(spans) and spans[after][0] <= at

    def _stretch(self, number: int) -> list[Span]:
        known = self._known.get(number)
        if known is None:
            known = joined(self._work_out(number * STRETCH, (number + 1) * STRETCH))
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[number] = known
        return known


class Expansion(Stretches):
    """The intervals of some timetables in a zone."""

    def __init__(self, timetables: tuple[Timetable, ...], zone: ZoneInfo) -> None:
        super().__init__(lambda since, until: (s for t in timetables for s in t.spans(zone, since, until)))
        self.timetables, self.zone = timetables, zone


def _within(spans: list[Span], since: int, until: int) -> list[Span]:
    # Joined intervals are in order, and so are their ends.
    first = bisect_right(spans, since, key=lambda span: span[1])
    found = []
    for span in spans[first:]:
        if span[0] > until:
            break
        found.append(span)
    return found


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same time as intervals in order that do not touch each other."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(spans: list[Span], taken: list[Span]) -> list[Span]:
    """The time of `spans` that `taken` leaves; both in order and without overlaps."""
    if not taken:
        return spans
    found = []
    for start, end in spans:
        for away, back in taken[bisect_right(taken, start, key=lambda span: span[1]) :]:
            if away >= end:
                break
            if away > start:
                found.append((start, away))
            start = max(start, back)
        if start < end:
            found.append((start, end))
    return found
