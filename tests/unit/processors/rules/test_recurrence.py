"""Recurrence rules against python-dateutil, which expands each from its first start by brute force."""

from __future__ import annotations

import datetime as datetime_module
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from deploytrail_processors.rules.recurrence import read_rule
from hypothesis import given, settings
from hypothesis import strategies as st

START = datetime(2026, 1, 5, 9)  # noqa: DTZ001  # a local time, a Monday
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


@pytest.fixture(autouse=True, scope="module")
def _an_oracle_that_ends() -> Iterator[None]:
    """dateutil looks for a start that never comes up to the last year of all, which takes it seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datetime_module, "MAXYEAR", 2099)
        yield


def starts(rule: str, start: datetime = START, days: int = 400) -> list[str]:
    found = read_rule(rule, start).starts(start, start + timedelta(days=days))
    return [at.isoformat(timespec="minutes") for at in found]


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules of every frequency with the parts that may go with it."""
    freq = draw(st.sampled_from(("YEARLY", "MONTHLY", "WEEKLY", "DAILY")))
    parts = [f"FREQ={freq}"]

    def maybe(name: str, values: st.SearchStrategy[int], most: int = 3) -> bool:
        if draw(st.booleans()):
            chosen = draw(st.lists(values, min_size=1, max_size=most, unique=True))
            parts.append(f"{name}={','.join(map(str, chosen))}")
            return True
        return False

    if draw(st.booleans()):
        parts.append(f"INTERVAL={draw(st.integers(1, 5))}")
    by = maybe("BYMONTH", st.integers(1, 12))
    if freq != "WEEKLY":
        by |= maybe("BYMONTHDAY", st.integers(-31, 31).filter(bool))
    if freq == "YEARLY":
        by |= maybe("BYYEARDAY", st.integers(-366, 366).filter(bool))
    if draw(st.booleans()):
        # Not both forms at once: dateutil wants a day to be both, RFC 5545 either.
        numbered = freq in ("YEARLY", "MONTHLY") and draw(st.booleans())
        chosen = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True))
        numbers = [draw(st.sampled_from((1, 2, 3, 4, 5, -1, -2))) if numbered else "" for _ in chosen]
        parts.append("BYDAY=" + ",".join(f"{n}{day}" for n, day in zip(numbers, chosen, strict=True)))
        by = True
        if freq == "YEARLY" and not numbered:
            maybe("BYWEEKNO", st.integers(-53, 53).filter(bool))
    by |= maybe("BYHOUR", st.integers(0, 23))
    by |= maybe("BYMINUTE", st.integers(0, 59), 2)
    if by:
        maybe("BYSETPOS", st.sampled_from((1, 2, 3, -1, -2)), 2)
    if not any(part.startswith("BYWEEKNO") for part in parts):
        parts.append(f"WKST={draw(st.sampled_from(DAYS))}")
    end = draw(st.sampled_from(("", "COUNT", "UNTIL")))
    if end == "COUNT":
        parts.append(f"COUNT={draw(st.integers(1, 60))}")
    if end == "UNTIL":
        parts.append(f"UNTIL={(START + timedelta(days=draw(st.integers(0, 2000)))):%Y%m%dT%H%M%S}")
    return ";".join(parts)


@settings(max_examples=200, deadline=None)
@given(rules(), st.integers(0, 400), st.integers(0, 1439), st.integers(0, 1500), st.integers(0, 500))
def test_starts_agree_with_brute_force(text: str, day: int, minute: int, since: int, length: int) -> None:
    start = START + timedelta(days=day, minutes=minute)
    if "WEEKLY" in text and "BYSETPOS" in text:
        # dateutil counts positions of the first week from the first start on; RFC 5545 knows whole weeks alone.
        start += timedelta(days=(DAYS.index(text.partition("WKST=")[2][:2]) - start.weekday()) % 7)
    first = start + timedelta(days=since - 30, hours=5)
    last = first + timedelta(days=length)
    try:
        rule = read_rule(text, start)
    except ValueError:
        assert next(iter(rrulestr(text, dtstart=start)), None) is None  # the oracle sees no start either
        return

    assert list(rule.starts(first, last)) == rrulestr(text, dtstart=start).between(first, last, inc=True)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # A day that is not in every month is left out there, never moved (RFC 5545, 3.3.10).
        ("FREQ=MONTHLY;BYMONTHDAY=31;COUNT=3", ["2026-01-31T09:00", "2026-03-31T09:00", "2026-05-31T09:00"]),
        ("FREQ=MONTHLY;BYDAY=-1FR;COUNT=2", ["2026-01-30T09:00", "2026-02-27T09:00"]),
        # The last working day of a month.
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=2", ["2026-01-30T09:00", "2026-02-27T09:00"]),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=3", ["2026-01-05T09:00", "2026-01-19T09:00", "2026-02-02T09:00"]),
        ("FREQ=DAILY;BYHOUR=6,14;COUNT=3", ["2026-01-05T14:00", "2026-01-06T06:00", "2026-01-06T14:00"]),
        # Either of the two: every Monday, and the first Friday.
        ("FREQ=MONTHLY;BYDAY=MO,1FR;COUNT=3", ["2026-01-05T09:00", "2026-01-12T09:00", "2026-01-19T09:00"]),
        ("FREQ=DAILY;UNTIL=20260106T090000", ["2026-01-05T09:00", "2026-01-06T09:00"]),
    ],
)
def test_starts_are_as_written(rule: str, expected: list[str]) -> None:
    assert starts(rule) == expected


def test_a_leap_day_recurs_in_leap_years_alone() -> None:
    leap = datetime(2028, 2, 29, 12)  # noqa: DTZ001  # local

    assert starts("FREQ=YEARLY", leap, 8 * 366) == ["2028-02-29T12:00", "2032-02-29T12:00", "2036-02-29T12:00"]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("", "is no part of a recurrence"),
        ("FREQ=NEVER", "FREQ is NEVER"),
        ("FREQ=HOURLY", "BYHOUR says several starts a day"),
        ("INTERVAL=2", "FREQ is nothing"),
        ("FREQ=DAILY;FREQ=WEEKLY", "FREQ stands twice"),
        ("FREQ=DAILY\nEXDATE=20260101T000000", "FREQ is DAILY"),
        ("FREQ=DAILY;X=1", "'X=1' is no part"),
        ("FREQ=WEEKLY;BYDAY=1MO", "a number needs FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYDAY=MONDAY", "expected days such as MO"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "BYMONTHDAY has no meaning with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "expected numbers from -31 to 31"),
        ("FREQ=YEARLY;BYWEEKNO=20", "expected with BYDAY"),
        ("FREQ=DAILY;INTERVAL=0", "expected a number from 1"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20260101T000000", "exclude each other"),
        ("FREQ=DAILY;UNTIL=20261231", "expected a local time such as 20261231T235959"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS needs another part"),
        (f"FREQ=DAILY;BYHOUR=9,10;BYMINUTE={','.join(map(str, range(60)))}", "120 starts a day; expected at most 96"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "no day up to 2099 fits it"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=TU", "no day up to 2099 fits it"),
        ("FREQ=DAILY;UNTIL=20251231T000000", "no day up to 2099 fits it"),
    ],
)
def test_what_is_wrong_is_said(rule: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_rule(rule, START)


def test_an_old_rule_costs_no_more_than_a_new_one() -> None:
    old, new = (read_rule("FREQ=DAILY", datetime(year, 1, 1, 9)) for year in (1980, 2026))  # noqa: DTZ001  # local
    since = datetime(2026, 11, 2)  # noqa: DTZ001  # local

    def seconds(rule: object) -> float:
        began = time.perf_counter()
        for _ in range(200):
            list(rule.starts(since, since + timedelta(days=2)))  # type: ignore[attr-defined]
        return time.perf_counter() - began

    assert min(seconds(old) for _ in range(5)) < 5 * min(seconds(new) for _ in range(5))
