"""Change windows in words, for `deploytrail policy explain`.

In: a window's document, the documents beside it, an instant. Out: sentences that say when it is there,
what happens at its end, and its next three times after the instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from deploytrail_schemas.counted import counted
from deploytrail_schemas.instants import from_micros, to_micros

from deploytrail_processors.rules.policies import SCOPE_FIELDS, ChangeWindow, Document, Policies, Scope
from deploytrail_processors.rules.recurrence import Rule
from deploytrail_processors.rules.schedule import HORIZON, Applied, Schedule, applied
from deploytrail_processors.rules.timetable import Span, Timetable, to_instant

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
_UNITS = {"YEARLY": "year", "MONTHLY": "month", "WEEKLY": "week", "DAILY": "day"}
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth")


def explain(document: Document, policies: Policies, *, at: int) -> list[str]:
    """Sentences about a window. `policies`: all documents that it may meet; `at`: from when on, in microseconds."""
    window = document.spec
    assert isinstance(window, ChangeWindow)
    (times,) = window.times.timetables
    effect = "allowed" if window.allow else "denied, whatever else allows them,"
    lines = [f"Changes are {effect} {_when(times, window.zone)}."]
    left_out = [f"calendar {name}" for name in window.calendars]
    left_out += [day.isoformat() for day in sorted(times.removed_days)]
    left_out += [_local(local) for local in sorted(times.removed)]
    if left_out:
        lines.append(f"Left out: {', '.join(left_out)}.")
    if times.added:
        lines.append(f"Besides: {', '.join(_local(local) for local in sorted(times.added))}.")
    if window.overrun != "allow":
        grace = f" {counted(window.grace_minutes, 'minute')} later" if window.grace_minutes else ""
        finding = "a warning" if window.overrun == "warn" else "a violation"
        where = "it closes" if window.allow else "it begins"
        lines.append(f"What still runs when {where} is {finding}{grace}.")
    return lines + _next(document, policies, at)


def _next(document: Document, policies: Policies, at: int) -> list[str]:
    """The next times; of an allow window only what no deny window takes from everything that it covers."""
    broken: list[str] = []
    mine = applied(document, policies, broken)
    others = [d for d in policies.change_windows if isinstance(d.spec, ChangeWindow) and not d.spec.allow]
    whole: list[Applied] = []
    partly: list[str] = []
    if mine is not None and mine.window.allow:
        for other in others:
            if _includes(other.scope, document.scope):
                whole += filter(None, [applied(other, policies, broken)])
            elif _meets(other.scope, document.scope):
                partly.append(other.key.rpartition("/")[0])
    if mine is None or broken:
        missing = ", ".join(key for key in dict.fromkeys(broken) if key != document.key)
        return [f"It is never there: {missing} is missing or invalid."]
    schedule = Schedule((mine,), tuple(whole))
    spans = schedule.open_spans(at, at + HORIZON)[:3]
    found = "; ".join(_span(span, mine.window.zone, at) for span in spans)
    lines = [f"Next: {found or 'none within 400 days'}."]
    if partly:
        lines.append(f"In part it is denied by {', '.join(partly)}.")
    return lines


def _when(times: Timetable, zone: ZoneInfo) -> str:
    if times.rule is None:
        begin = to_instant(times.start, zone)
        end = max((end for _, end in times.spans(zone, begin, begin)), default=begin)
        last = from_micros(end).astimezone(zone).replace(tzinfo=None)
        return f"once, from {_local(times.start)} to {_local(last)}, {zone.key}"
    words = [*_rule(times.rule), f"from {_list(f'{t:%H:%M}' for t in times.rule.times)}", _length(times)]
    since = f", from {times.start:%Y-%m-%d} on"
    until = ""
    if times.rule.until is not None:
        until = f" up to {_local(times.rule.until)}"
    elif times.rule.until_instant is not None:
        until = f" up to {_local(times.rule.until_instant.astimezone(zone).replace(tzinfo=None))}"
    return f"{' '.join(words)}, {zone.key}{since}{until}"


def _rule(rule: Rule) -> Iterator[str]:
    unit = _UNITS[rule.freq]
    yield f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"
    if rule.months:
        yield f"in {_list(MONTHS[month - 1] for month in rule.months)}"
    if rule.weeks:
        yield f"in week {_list(map(str, rule.weeks))}"
    if rule.yeardays:
        yield f"on {_list(_place(day, 'day of the year') for day in rule.yeardays)}"
    if rule.monthdays:
        yield f"on {_list(_place(day, 'day of the month') for day in rule.monthdays)}"
    if rule.weekdays:
        within = " of the year" if rule.freq == "YEARLY" and not rule.months else " of the month"
        named = [_place(which, DAYS[day] + within) if which else DAYS[day] for which, day in _in_order(rule.weekdays)]
        yield f"on {_list(named)}"
    if rule.positions:
        yield f"(of these the {_list(_place(position, 'start').removeprefix('the ') for position in rule.positions)})"


def _in_order(weekdays: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(weekdays, key=lambda pair: (pair[0] < 0, pair))


def _place(number: int, what: str) -> str:
    """the first Monday, the last day, day 15 …"""
    size = abs(number)
    if number == -1:
        return f"the last {what}"
    name = _ORDINALS[size] if size < len(_ORDINALS) else f"{size}th"
    return f"the {name} {what}" if number > 0 else f"the {name} last {what}"


def _length(times: Timetable) -> str:
    minutes, seconds = divmod(int(times.exact.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((times.days, "day"), (hours, "hour"), (minutes, "minute"), (seconds, "second"))
    return "for " + " ".join(f"{n} {name}{'s' if n != 1 else ''}" for n, name in parts if n)


def _includes(outer: Scope, inner: Scope) -> bool:
    """Whether one scope covers everything that another covers."""
    pairs = [(getattr(outer, name), getattr(inner, name)) for name in SCOPE_FIELDS]
    return all(not wide or (narrow and set(narrow) <= set(wide)) for wide, narrow in pairs)


def _meets(one: Scope, other: Scope) -> bool:
    """Whether something may be covered by both."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in SCOPE_FIELDS]
    return all(not a or not b or set(a) & set(b) for a, b in pairs)


def _span(span: Span, zone: ZoneInfo, at: int) -> str:
    begin, end = (from_micros(instant).astimezone(zone) for instant in span)
    first = "now" if to_micros(begin) == at else f"{begin:%a %Y-%m-%d %H:%M}"
    if end.date() == begin.date() and end.tzname() == begin.tzname():
        return f"{first} to {end:%H:%M %Z}"
    return f"{first}{'' if first == 'now' else f' {begin:%Z}'} to {end:%a %Y-%m-%d %H:%M %Z}"


def _local(local: datetime) -> str:
    return f"{local:%Y-%m-%d %H:%M}"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
