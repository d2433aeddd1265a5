"""Change windows at event time, in local time of a zone, over every shape of a clock change."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import tzdata
from dateutil.rrule import rrulestr
from deploytrail_processors import zones
from deploytrail_processors.rules.change_window import RULE, judge, to_finding
from deploytrail_processors.rules.policies import ChangeWindow, Policies, Scope, read_document
from deploytrail_processors.rules.schedule import schedule_of
from deploytrail_processors.rules.timetable import DAY
from deploytrail_schemas.codec import encode
from deploytrail_schemas.instants import from_micros, to_micros
from deploytrail_schemas.records import RecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from support.values import SECOND, event

SUBJECT = {"service": "shop", "team": "web", "environment": "production", "region": "eu-west-1", "tier": "1",
           "kind": "release"}  # fmt: skip


def window(**spec: Any) -> dict[str, Any]:
    """A window of every Monday to Thursday; what is given as None is left out."""
    usual = {
        "effect": "allow",
        "zone": "Europe/Berlin",
        "start": "2026-01-05T09:00",
        "duration_minutes": None if {"duration", "end"} & spec.keys() else 480,
        "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH",
    }
    name = spec.pop("name", "weekdays")
    return {
        "kind": "change_window", "name": name, "spec": {k: v for k, v in (usual | spec).items() if v is not None}
    }  # fmt: skip


def holidays(name: str = "holidays", **spec: Any) -> dict[str, Any]:
    return {"kind": "calendar", "name": name, "spec": spec}


def policies(*documents: dict[str, Any]) -> Policies:
    return Policies(tuple(read_document(d) for d in documents))


def at(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))


def verdict(in_force: Policies, text: str, uncertainty_ms: int = 0, **subject: str) -> tuple[str, str]:
    found = judge(SUBJECT | subject, in_force, at=at(text), uncertainty=uncertainty_ms * 1000)
    return found.position.value, found.reason.value


WEEKDAYS = policies(window())


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-02T09:00:00+01:00", ("inside", "inside_allowed_window")),
        ("2026-11-02T08:59:59.999999+01:00", ("outside", "outside_allowed_windows")),
        ("2026-11-02T16:59:59.999999+01:00", ("inside", "inside_allowed_window")),
        ("2026-11-02T17:00:00+01:00", ("outside", "outside_allowed_windows")),
        ("2026-11-06T12:00:00+01:00", ("outside", "outside_allowed_windows")),  # a Friday
        ("2026-07-06T09:00:00+02:00", ("inside", "inside_allowed_window")),  # the same local hour in summer
        ("2026-07-06T08:59:00+02:00", ("outside", "outside_allowed_windows")),
    ],
)
def test_a_window_opens_and_closes_at_local_time(text: str, expected: tuple[str, str]) -> None:
    assert verdict(WEEKDAYS, text) == expected


@pytest.mark.requirement("M4.2")
def test_a_clock_that_cannot_tell_gives_uncertain() -> None:
    assert verdict(WEEKDAYS, "2026-11-02T09:00:03+01:00", 5_000)[0] == "uncertain"
    assert verdict(WEEKDAYS, "2026-11-02T09:00:06+01:00", 5_000)[0] == "inside"
    assert verdict(WEEKDAYS, "2026-11-02T13:00:00+01:00", 86_400_000)[0] == "uncertain"


def test_where_no_window_applies_nothing_is_forbidden() -> None:
    assert verdict(policies(), "2026-11-02T03:00:00+01:00") == ("inside", "no_window_applies")
    scoped = policies(window(scope={"environments": ["staging"]}))
    assert verdict(scoped, "2026-11-02T03:00:00+01:00") == ("inside", "no_window_applies")


@pytest.mark.parametrize("name", ["services", "teams", "environments", "regions", "tiers", "kinds"])
def test_a_scope_is_by_each_of_its_fields(name: str) -> None:
    mine = SUBJECT[name.removesuffix("s")]

    assert Scope(**{name: (mine, "other")}).covers(SUBJECT)
    assert not Scope(**{name: ("other",)}).covers(SUBJECT)


def test_a_denied_window_wins_over_an_allowed_one() -> None:
    freeze = window(
        name="freeze", effect="deny", start="2026-12-20T00:00", duration_minutes=10_000, rrule="FREQ=YEARLY"
    )
    both = policies(window(), freeze)

    assert verdict(both, "2026-12-21T12:00:00+01:00") == ("outside", "inside_denied_window")
    assert verdict(policies(freeze), "2026-12-01T12:00:00+01:00") == ("inside", "no_window_applies")


@pytest.mark.parametrize(
    "broken",
    [
        {"zone": "Europe/Berlim"},
        {"zone": "../etc/passwd"},
        {"rrule": "FREQ=NEVER"},
        {"rrule": ""},
        {"start": "2026-01-05"},
        {"duration": "8 hours"},
        {"duration": "PT8H", "duration_minutes": 480},
        {"end": "2026-01-06T09:00"},  # beside rrule
        {"end": "2026-01-04T09:00", "rrule": None},
        {"exdates": ["Christmas"]},
        {"overrun": "perhaps"},
        {"except": ["no-such-calendar"]},
    ],
)
def test_an_invalid_window_fails_closed(broken: dict[str, str]) -> None:
    in_force = policies(window(**broken))

    assert verdict(in_force, "2026-11-02T12:00:00+01:00") == ("outside", "policy_invalid")


def spans(zone: str, since: str, until: str, **spec: Any) -> list[tuple[str, str]]:
    document = read_document(window(zone=zone, **{"rrule": "FREQ=DAILY", "duration_minutes": 60} | spec))
    assert isinstance(document.spec, ChangeWindow), document.problems
    found = document.spec.times.touching(at(since), at(until))
    texts = [[from_micros(i).isoformat(timespec="minutes").removesuffix("+00:00") for i in span] for span in found]
    return [(start, end) for start, end in texts]


DAILY_230 = {"start": "2026-03-01T02:30"}
# A whole day, from midnight to midnight.
WHOLE = {"start": "2010-01-01T00:00", "duration": "P1D", "duration_minutes": None}
# Each shape of a clock: zone, what recurs, the instants asked about, and the spans expected, all in UTC.
SHAPES: dict[str, tuple[str, dict[str, Any], str, str, list[tuple[str, str]]]] = {
    # 02:30 does not exist: the offset before the gap holds.
    "spring gap": ("Europe/Berlin", DAILY_230, "2026-03-29T00:00Z", "2026-03-29T12:00Z",
        [("2026-03-29T01:30", "2026-03-29T02:30")]),
    # 02:30 occurs twice: the first one counts, and it lasts an exact hour.
    "autumn fold": ("Europe/Berlin", DAILY_230, "2026-10-25T00:00Z", "2026-10-25T12:00Z",
        [("2026-10-25T00:30", "2026-10-25T01:30")]),
    # 22:00 for eight exact hours ends at 07:00 where an hour is skipped, at 05:00 where one comes twice.
    "night over the spring gap": ("Europe/Berlin", {"start": "2026-01-01T22:00", "duration_minutes": 480},
        "2026-03-28T22:00Z", "2026-03-29T04:30Z", [("2026-03-28T21:00", "2026-03-29T05:00")]),
    "night over the autumn fold": ("Europe/Berlin", {"start": "2026-01-01T22:00", "duration_minutes": 480},
        "2026-10-24T21:00Z", "2026-10-25T03:30Z", [("2026-10-24T20:00", "2026-10-25T04:00")]),
    # Two starts a day in the hour that is skipped: they end up out of order and are joined.
    "starts out of order in the gap": ("Europe/Berlin",
        {"start": "2026-03-01T02:30", "rrule": "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30", "duration_minutes": 10},
        "2026-03-29T00:00Z", "2026-03-29T12:00Z",
        [("2026-03-29T01:00", "2026-03-29T01:10"), ("2026-03-29T01:30", "2026-03-29T01:40")]),
    "midnight crossing": ("UTC", {"start": "2026-03-01T23:30"}, "2026-05-01T23:00Z", "2026-05-02T00:15Z",
        [("2026-05-01T23:30", "2026-05-02T00:30")]),
    # Samoa is a day ahead of its neighbour; and it left out 2011-12-30 whole.
    "date line": ("Pacific/Apia", {"start": "2026-03-01T08:00"}, "2026-05-01T18:30Z", "2026-05-01T19:45Z",
        [("2026-05-01T19:00", "2026-05-01T20:00")]),
    "date line, the day before": ("Pacific/Apia", {"start": "2026-03-01T08:00"}, "2026-05-01T18:30Z",
        "2026-05-01T18:45Z", []),
    "a day that never was": ("Pacific/Apia", WHOLE | {"rrule": "FREQ=DAILY;BYMONTHDAY=30"},
        "2011-12-29T12:00Z", "2011-12-31T12:00Z", []),
    "start in the day that never was": ("Pacific/Apia", {"start": "2011-12-30T08:00", "rrule": None},
        "2011-12-29T12:00Z", "2011-12-31T12:00Z", [("2011-12-30T18:00", "2011-12-30T19:00")]),
    "leap day": ("America/New_York", {"start": "2028-02-29T12:00"}, "2028-02-29T16:00Z", "2028-02-29T18:00Z",
        [("2028-02-29T17:00", "2028-02-29T18:00")]),
    "leap day each year": ("America/New_York", {"start": "2028-02-29T12:00", "rrule": "FREQ=YEARLY"},
        "2029-02-27T00:00Z", "2032-03-01T18:00Z", [("2032-02-29T17:00", "2032-02-29T18:00")]),
    "half-hour shift": ("Australia/Lord_Howe", {"start": "2026-03-01T01:45"}, "2026-04-04T14:00Z",
        "2026-04-04T16:00Z", [("2026-04-04T14:45", "2026-04-04T15:45")]),
    # Kazakhstan became one zone on 2024-03-01: Almaty went back from UTC+6 to UTC+5 for good.
    "zone rule change": ("Asia/Almaty", {"start": "2024-01-01T09:00"}, "2024-02-28T12:00Z", "2024-03-02T12:00Z",
        [("2024-02-29T03:00", "2024-02-29T04:00"), ("2024-03-01T04:00", "2024-03-01T05:00"),
         ("2024-03-02T04:00", "2024-03-02T05:00")]),
    # Paraguay kept its summer time in 2025: no change in March any more.
    "zone that stopped changing": ("America/Asuncion", {"start": "2024-01-01T09:00"}, "2025-07-01T00:00Z",
        "2025-07-01T23:00Z", [("2025-07-01T12:00", "2025-07-01T13:00")]),
    # Clocks go back at midnight in Havana: the day begins twice, and lasts 25 hours.
    "midnight twice": ("America/Havana", WHOLE | {"rrule": "FREQ=WEEKLY;BYDAY=SU"},
        "2024-11-03T12:00Z", "2024-11-03T12:00Z", [("2024-11-03T04:00", "2024-11-04T05:00")]),
    "a day of 23 hours": ("Europe/Berlin", WHOLE | {"rrule": "FREQ=WEEKLY;BYDAY=SU"},
        "2026-03-29T12:00Z", "2026-03-29T12:00Z", [("2026-03-28T23:00", "2026-03-29T22:00")]),
    "a day of 25 hours": ("Europe/Berlin", WHOLE | {"rrule": "FREQ=WEEKLY;BYDAY=SU"},
        "2026-10-25T12:00Z", "2026-10-25T12:00Z", [("2026-10-24T22:00", "2026-10-25T23:00")]),
    # Midnight itself is skipped in Beirut: the day begins at 01:00.
    "midnight skipped": ("Asia/Beirut", WHOLE | {"rrule": "FREQ=WEEKLY;BYDAY=SU"},
        "2026-03-29T12:00Z", "2026-03-29T12:00Z", [("2026-03-28T22:00", "2026-03-29T21:00")]),
    "longer than a day": ("Europe/Berlin", {"start": "2026-01-02T18:00", "duration": "PT62H",
        "duration_minutes": None, "rrule": "FREQ=WEEKLY;BYDAY=FR"}, "2026-03-29T12:00Z", "2026-03-29T12:00Z",
        [("2026-03-27T17:00", "2026-03-30T07:00")]),
    "overlapping itself": ("UTC", {"start": "2026-05-01T00:00", "duration_minutes": 2160,
        "rrule": "FREQ=DAILY;COUNT=3"}, "2026-05-02T00:00Z", "2026-05-02T00:00Z",
        [("2026-05-01T00:00", "2026-05-04T12:00")]),
    "until an instant": ("Europe/Berlin", {"start": "2026-03-01T09:00", "rrule": "FREQ=DAILY;UNTIL=20260303T080000Z"},
        "2026-03-02T00:00Z", "2026-03-05T00:00Z",
        [("2026-03-02T08:00", "2026-03-02T09:00"), ("2026-03-03T08:00", "2026-03-03T09:00")]),
    "more days and fewer": ("UTC", {"start": "2026-03-02T09:00", "rrule": "FREQ=WEEKLY",
        "rdates": ["2026-03-04T10:00"], "exdates": ["2026-03-09", "2026-03-16T09:00", "2026-03-23T10:00"]},
        "2026-03-01T00:00Z", "2026-03-24T00:00Z",
        [("2026-03-02T09:00", "2026-03-02T10:00"), ("2026-03-04T10:00", "2026-03-04T11:00"),
         ("2026-03-23T09:00", "2026-03-23T10:00")]),
    "once, up to an end": ("Europe/Berlin", {"start": "2026-10-24T12:00", "end": "2026-10-25T12:00", "rrule": None,
        "duration_minutes": None}, "2026-10-20T00:00Z", "2026-10-30T00:00Z",
        [("2026-10-24T10:00", "2026-10-25T11:00")]),
}  # fmt: skip


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_clock_change(shape: str) -> None:
    zone, spec, since, until, expected = SHAPES[shape]

    assert spans(zone, since, until, **spec) == expected


RULES = (
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=WEEKLY;INTERVAL=2",
    "FREQ=DAILY;BYHOUR=2,14",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe")
JANUARY = datetime(2026, 1, 1)  # noqa: DTZ001  # local time


@dataclass(frozen=True)
class Written:
    """A window as the oracle reads it: nothing of the engine's."""

    allow: bool
    zone: str
    start: datetime
    minutes: int
    rule: str
    days: frozenset[int]  # of the year 2026, left out
    dropped: frozenset[int]  # days of the year whose starts are dropped

    def document(self, number: int) -> dict[str, Any]:
        return window(
            name=f"w{number}",
            effect="allow" if self.allow else "deny",
            zone=self.zone,
            start=self.start.isoformat(timespec="minutes"),
            duration_minutes=self.minutes,
            rrule=self.rule,
            exdates=[(JANUARY + timedelta(days=n)).date().isoformat() for n in sorted(self.dropped)],
            **{"except": [f"c{number}"] if self.days else []},
        )

    def calendar(self, number: int) -> dict[str, Any]:
        return holidays(f"c{number}", dates=[(JANUARY + timedelta(days=n)).date().isoformat() for n in self.days])

    def times(self) -> tuple[list[tuple[datetime, datetime]], list[tuple[datetime, datetime]]]:
        """Every occurrence of more than a year, and every day that is left out."""
        here = ZoneInfo(self.zone)
        starts = rrulestr(self.rule, dtstart=self.start).between(self.start, self.start + timedelta(days=440), inc=True)
        dropped = {(JANUARY + timedelta(days=n)).date() for n in self.dropped}
        begins = [local.replace(tzinfo=here).astimezone(UTC) for local in starts if local.date() not in dropped]
        midnights = [(JANUARY + timedelta(days=n), JANUARY + timedelta(days=n + 1)) for n in self.days]
        return (
            [(begin, begin + timedelta(minutes=self.minutes)) for begin in begins],
            [(a.replace(tzinfo=here).astimezone(UTC), b.replace(tzinfo=here).astimezone(UTC)) for a, b in midnights],
        )


days = st.frozensets(st.integers(0, 420), max_size=5)
minutes = st.one_of(st.integers(15, 3 * 1440), st.sampled_from((1440, 720, 60)))
written = st.builds(
    Written, st.booleans(), st.sampled_from(ZONES),
    st.integers(0, 1439).map(lambda minute: JANUARY + timedelta(minutes=minute)),
    minutes, st.sampled_from(RULES), days, days,
)  # fmt: skip


@pytest.mark.requirement("M4.2")
@settings(deadline=None)
@given(st.lists(written, min_size=1, max_size=4), st.integers(0, 380 * 1440), st.integers(0, 600))
def test_verdicts_and_next_openings_agree_with_brute_force(given_windows: list[Written], when: int, width: int) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=when)
    expanded = [(w.allow, *w.times()) for w in given_windows]

    def is_open(moment: datetime) -> bool:
        there = [
            (allow, any(a <= moment < b for a, b in times) and not any(a <= moment < b for a, b in left_out))
            for allow, times, left_out in expanded
        ]
        allowing = [inside for allow, inside in there if allow]
        return (any(allowing) or not allowing) and not any(inside for allow, inside in there if not allow)

    changes = sorted({point for _, *both in expanded for spans in both for span in spans for point in span})
    documents = [document for n, w in enumerate(given_windows) for document in (w.document(n), w.calendar(n))
                 if document["spec"].get("dates") != []]  # fmt: skip
    in_force = policies(*documents)
    schedule = schedule_of(SUBJECT, in_force)
    here = is_open(at)

    assert judge(SUBJECT, in_force, at=to_micros(at), uncertainty=0).position == ("inside" if here else "outside")
    first = at - timedelta(seconds=width), at + timedelta(seconds=width)
    inside = {is_open(point) for point in (*first, *(p for p in changes if first[0] <= p <= first[1]))}
    found = judge(SUBJECT, in_force, at=to_micros(at), uncertainty=width * SECOND).position
    if len(inside) > 1:
        assert found == "uncertain"
    else:
        assert found in ("inside" if inside == {True} else "outside", "uncertain")
    # Within the time that the oracle has expanded.
    horizon = at + timedelta(days=20)
    later = [p for p in changes if at <= p < horizon]
    opening = at if here else next((p for p in later if is_open(p)), None)
    closing = next((p for p in later if not is_open(p)), None) if here else None
    assert schedule.next_open(to_micros(at), 20 * DAY) == (opening and to_micros(opening))
    assert schedule.next_close(to_micros(at), 20 * DAY) == (closing and to_micros(closing))


def test_a_finding_cites_the_window_and_says_when_it_opens() -> None:
    started = event("started", at("2026-11-01T12:00:00+01:00"), version="4.2.0")
    judgement = judge(SUBJECT, WEEKDAYS, at=started["corrected_at"], uncertainty=0)
    found = to_finding(started, SUBJECT, judgement, production=True)

    assert (found["rule"], found["verdict"], found["severity"]) == (RULE, "violation", "error")
    assert found["policy_version"] == "change_window/weekdays/1"
    assert found["evidence"]["next_open"] == "2026-11-02T08:00:00+00:00"
    assert found["evidence"]["tzdata"] == zones.VERSION
    assert found["explanation"] == "shop 4.2.0 started outside every allowed change window"
    encode(RecordType.FINDING, found)


def test_the_same_judgement_has_the_same_id() -> None:
    started = event("started", at("2026-11-01T12:00:00+01:00"))
    judgement = judge(SUBJECT, WEEKDAYS, at=started["corrected_at"], uncertainty=0)

    assert to_finding(started, SUBJECT, judgement, production=True) == to_finding(
        started, SUBJECT, judgement, production=True
    )


@pytest.mark.requirement("M4.2")
def test_a_one_off_freeze_closes_what_it_covers() -> None:
    freeze = window(name="year-end", effect="deny", start="2026-12-18T18:00", end="2027-01-04T08:00", rrule=None,
                    scope={"tiers": ["1"], "regions": ["eu-west-1"]})  # fmt: skip
    both = policies(window(), freeze)

    assert verdict(both, "2026-12-21T12:00:00+01:00") == ("outside", "inside_denied_window")
    assert verdict(both, "2026-12-21T12:00:00+01:00", tier="2") == ("inside", "inside_allowed_window")
    assert verdict(both, "2026-12-21T12:00:00+01:00", region="us-east-1") == ("inside", "inside_allowed_window")
    assert verdict(both, "2027-01-04T09:00:00+01:00") == ("inside", "inside_allowed_window")


@pytest.mark.requirement("M4.2")
def test_the_next_opening_is_really_open() -> None:
    both = policies(
        window(**{"except": ["holidays"]}),
        window(name="freeze", effect="deny", start="2026-11-02T00:00", end="2026-11-03T10:30", rrule=None),
        holidays(dates=["2026-11-04/2026-11-05"]),
    )
    frozen = judge(SUBJECT, both, at=at("2026-11-02T12:00:00+01:00"), uncertainty=0)
    evening = judge(SUBJECT, both, at=at("2026-11-03T18:00:00+01:00"), uncertainty=0)

    assert frozen.next_open == at("2026-11-03T10:30:00+01:00")
    # Wednesday and Thursday are left out, and no Friday is allowed.
    assert evening.next_open == at("2026-11-09T09:00:00+01:00")
    assert evening.documents == ("change_window/weekdays/1", "calendar/holidays/1")


@pytest.mark.requirement("M4.2")
def test_it_closes_where_a_denied_window_or_a_holiday_begins() -> None:
    lunch = window(name="lunch", effect="deny", start="2026-01-05T12:00", duration="PT1H", rrule="FREQ=DAILY")
    day = holidays(dates=["2026-11-04"])
    nights = window(name="nights", start="2026-01-05T22:00", **{"except": ["holidays"]})

    assert judge(SUBJECT, policies(window(), lunch), at=at("2026-11-02T09:30:00+01:00"), uncertainty=0).next_close == (
        at("2026-11-02T12:00:00+01:00")
    )
    assert judge(SUBJECT, policies(nights, day), at=at("2026-11-03T23:00:00+01:00"), uncertainty=0).next_close == (
        at("2026-11-04T00:00:00+01:00")
    )


def test_a_window_that_stays_open_or_closed_has_no_end_within_the_horizon() -> None:
    always = window(start="2026-01-01T00:00", duration="P1D", rrule="FREQ=DAILY")
    over = window(rrule="FREQ=DAILY;UNTIL=20260301T000000")

    assert judge(SUBJECT, policies(always), at=at("2026-11-02T12:00:00Z"), uncertainty=0).next_close is None
    assert judge(SUBJECT, policies(over), at=at("2026-11-02T12:00:00Z"), uncertainty=0).next_open is None


@pytest.mark.requirement("M4.2")
def test_days_of_a_calendar_are_those_of_the_window_unless_it_has_a_zone() -> None:
    shape = {"start": "2026-01-01T00:00", "duration": "P1D", "rrule": "FREQ=DAILY", "except": ["holidays"]}
    tokyo = window(zone="Asia/Tokyo", **shape)
    late = "2026-12-25T16:00:00Z"  # the 26th in Tokyo, the 25th in London

    assert verdict(policies(tokyo, holidays(dates=["2026-12-25"])), late)[0] == "inside"
    assert verdict(policies(tokyo, holidays(dates=["2026-12-25"], zone="Europe/London")), late)[0] == "outside"


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("calendar", [[], [holidays(zone="Mars/Olympus", dates=["2026-12-25"])]])
def test_a_calendar_that_is_missing_or_invalid_closes_the_window(calendar: list[dict[str, Any]]) -> None:
    in_force = policies(window(**{"except": ["holidays"]}), *calendar)
    found = judge(SUBJECT, in_force, at=at("2026-11-02T12:00:00+01:00"), uncertainty=0)

    assert (found.position.value, found.reason.value) == ("outside", "policy_invalid")
    assert found.documents[1].startswith("calendar/holidays")
    assert found.next_open is None


def test_zones_come_from_the_package_whose_version_is_cited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONTZPATH", "/nowhere")
    zoneinfo.reset_tzpath(["/nowhere"])
    zones.zone.cache_clear()
    try:
        assert zones.zone("Asia/Almaty").utcoffset(datetime(2026, 1, 1)) == timedelta(hours=5)  # noqa: DTZ001
        with pytest.raises(KeyError):
            zones.zone("../zones")
    finally:
        zoneinfo.reset_tzpath()
    assert zones.VERSION == tzdata.IANA_VERSION
