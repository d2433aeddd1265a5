"""When may a subject change? Every change window that covers it, with its calendars, as one schedule.

In: a subject, the policies in force. Out: whether it is open at an instant and by which documents,
the next opening and the next closing. **Deny wins over allow**: it is open where an allow window is there
(or none covers the subject at all) and no deny window is. Among allow windows one is enough, however
narrow or broad its scope. Calendars are taken off a window exactly as long as they last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.policies import SCOPE_FIELDS, Calendar, ChangeWindow, Document, Policies
from deploytrail_processors.rules.timetable import DAY, Expansion, Span, Stretches, joined, without

# Openings and closings are sought so far ahead: a window that opens once a year is found.
HORIZON = 400 * DAY
# The first look ahead; each further one is twice as long, since most answers are near.
_FIRST_LOOK = 2 * DAY
REMEMBERED = 1024  # subjects


@dataclass(frozen=True)
class Applied:
    """A window that covers the subject, with the calendars that it leaves out."""

    document: Document
    window: ChangeWindow
    calendars: tuple[Document, ...] = ()
    left_out: tuple[Expansion, ...] = ()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The documents that it rests on."""
        return (self.document.key, *(d.key for d in self.calendars))

    @cached_property
    def times(self) -> Stretches:
        """When it is there."""
        return Stretches(self._spans) if self.left_out else self.window.times

    def _spans(self, since: int, until: int) -> list[Span]:
        spans = self.window.times.touching(since, until)
        if not spans:
            return spans
        first, last = min(since, spans[0][0]), max(until, spans[-1][1])
        return without(spans, joined(span for times in self.left_out for span in times.touching(first, last)))


@dataclass(frozen=True)
class Schedule:
    """The windows of one subject. `broken`: documents that cannot be read, or are missing; then it is closed."""

    allows: tuple[Applied, ...] = ()
    denies: tuple[Applied, ...] = ()
    broken: tuple[str, ...] = ()

    @cached_property
    def _allowed(self) -> Stretches:
        return _together(self.allows)

    @cached_property
    def _denied(self) -> Stretches:
        return _together(self.denies)

    @cached_property
    def _allow_keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for applied in self.allows for key in applied.keys))

    def state(self, at: int) -> tuple[Reason, tuple[str, ...]]:
        """Why it is open or closed at an instant, and the documents that say so."""
        if self.broken:
            return Reason.POLICY_INVALID, self.broken
        if self.denies and self._denied.covers(at):
            return Reason.INSIDE_DENIED_WINDOW, _there(self.denies, at).keys
        if not self.allows:
            return Reason.NO_WINDOW_APPLIES, ()
        if self._allowed.covers(at):
            return Reason.INSIDE_ALLOWED_WINDOW, _there(self.allows, at).keys
        return Reason.OUTSIDE_ALLOWED_WINDOWS, self._allow_keys

    def boundaries(self, since: int, until: int) -> set[int]:
        """Every instant in [since, until] at which it may change between allowed, denied and neither."""
        spans = (*self._allowed.touching(since, until), *self._denied.touching(since, until))
        return {at for span in spans for at in span if since <= at <= until}

    def open_spans(self, since: int, until: int) -> list[Span]:
        """When it is open within [since, until), in order."""
        if self.broken or since >= until:
            return []
        allowed = self._allowed.touching(since, until) if self.allows else [(since, until)]
        return _clipped(without(allowed, self._denied.touching(since, until)), since, until)

    def next_open(self, after: int, horizon: int = HORIZON) -> int | None:
        """The first instant from `after` on at which it is really open; None where there is none in the horizon."""
        if self.broken:
            return None
        for since, until in _looks(after, after + horizon):
            spans = self.open_spans(since, until)
            if spans:
                return spans[0][0]
        return None

    def next_close(self, after: int, horizon: int = HORIZON) -> int | None:
        """When what is open at `after` ends; None where it is closed, or stays open throughout the horizon."""
        if self.broken or not (self.allows or self.denies):
            return None
        at = after
        for since, until in _looks(after, after + horizon):
            spans = self.open_spans(since, until)
            if not spans or spans[0][0] > at:
                return at if at > after else None
            at = spans[0][1]
            if at < until:
                return at
        return None

    def closings(self, since: int, until: int) -> Iterator[int]:
        """Every instant in (since, until] at which it changes from open to closed."""
        for _, end in self.open_spans(since, until + 1):
            if since < end <= until:
                yield end

    def closed_by(self, at: int) -> tuple[Applied, ...]:
        """The windows that make it close at `at`: denies that are there, else the allow windows that just ended."""
        denies = tuple(applied for applied in self.denies if applied.times.covers(at))
        return denies or tuple(applied for applied in self.allows if applied.times.covers(at - 1))


def schedule_of(subject: Mapping[str, str], policies: Policies) -> Schedule:
    """The schedule of a subject with service, team, environment, region, tier and kind."""
    key = tuple(subject.get(name.removesuffix("s"), "") for name in SCOPE_FIELDS)
    known = policies.schedules.get(key)
    if known is None:
        if len(policies.schedules) >= REMEMBERED:
            policies.schedules.clear()
        known = _schedule((d for d in policies.change_windows if _covers(d, subject)), policies)
        policies.schedules[key] = known
    return known


def _covers(document: Document, subject: Mapping[str, str]) -> bool:
    """Whether a window covers a subject. What is changed everywhere is changed in the region of a freeze, too."""
    is_allowed = isinstance(document.spec, ChangeWindow) and document.spec.allow
    return document.scope.covers(subject) if is_allowed else document.scope.restricts(subject)


def applied(document: Document, policies: Policies, broken: list[str]) -> Applied | None:
    """A window with its calendars; None where it is invalid. What cannot be read or is missing goes into `broken`."""
    if not isinstance(document.spec, ChangeWindow):
        broken.append(document.key)
        return None
    calendars: list[Document] = []
    left_out: list[Expansion] = []
    for name in document.spec.calendars:
        calendar = policies.calendar(name)
        if calendar is None or not isinstance(calendar.spec, Calendar):
            broken += [document.key, calendar.key if calendar else f"calendar/{name}"]
        else:
            calendars.append(calendar)
            left_out.append(calendar.spec.times(document.spec.zone))
    return Applied(document, document.spec, tuple(calendars), tuple(left_out))


def _schedule(documents: Iterable[Document], policies: Policies) -> Schedule:
    broken: list[str] = []
    every = [found for d in documents if (found := applied(d, policies, broken)) is not None]
    return Schedule(
        tuple(found for found in every if found.window.allow),
        tuple(found for found in every if not found.window.allow),
        tuple(dict.fromkeys(broken)),
    )


def _together(windows: tuple[Applied, ...]) -> Stretches:
    return Stretches(lambda since, until: (span for w in windows for span in w.times.touching(since, until)))


def _there(windows: tuple[Applied, ...], at: int) -> Applied:
    return next(applied for applied in windows if applied.times.covers(at))


def _clipped(spans: Iterable[Span], since: int, until: int) -> list[Span]:
    cut = ((max(start, since), min(end, until)) for start, end in spans)
    return [(start, end) for start, end in cut if start < end]


def _looks(since: int, end: int) -> Iterator[Span]:
    length = _FIRST_LOOK
    while since < end:
        yield since, min(since + length, end)
        since, length = since + length, length * 2
