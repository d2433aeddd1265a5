"""Change windows at event time, in local time of a zone, over every shape of a clock change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from deploytrail_processors.rules.change_window import RULE, judge, occurrences, to_finding
from deploytrail_processors.rules.policies import ChangeWindow, Policies, Scope, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.instants import to_micros
from deploytrail_schemas.records import RecordType
from hypothesis import given
from hypothesis import strategies as st
from support.values import event

SUBJECT = {"service": "shop", "team": "web", "environment": "production", "region": "eu-west-1", "tier": "1",
           "kind": "release"}  # fmt: skip


def window(**spec: Any) -> dict[str, Any]:
    usual = {
        "effect": "allow",
        "zone": "Europe/Berlin",
        "start": "2026-01-05T09:00",
        "duration_minutes": 480,
        "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH",
    }
    return {"kind": "change_window", "name": spec.pop("name", "weekdays"), "spec": usual | spec}


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


@pytest.mark.parametrize("broken", [{"zone": "Europe/Berlim"}, {"rrule": "FREQ=NEVER"}, {"zone": "../etc/passwd"}])
def test_an_invalid_window_fails_closed(broken: dict[str, str]) -> None:
    in_force = policies(window(**broken))

    assert verdict(in_force, "2026-11-02T12:00:00+01:00") == ("outside", "policy_invalid")


def spans(zone: str, start: str, minutes: int, since: str, until: str) -> list[tuple[str, str]]:
    document = read_document(window(zone=zone, start=start, duration_minutes=minutes, rrule="FREQ=DAILY"))
    assert isinstance(document.spec, ChangeWindow), document.problems
    found = occurrences(document.spec, *(datetime.fromisoformat(text) for text in (since, until)))
    return [(s.isoformat(timespec="minutes"), e.isoformat(timespec="minutes")) for s, e in found]


@pytest.mark.parametrize(
    ("zone", "start", "since", "until", "expected"),
    [
        # Spring gap: 02:30 does not exist on 2026-03-29 in Berlin; the offset before the gap holds.
        ("Europe/Berlin", "2026-03-01T02:30", "2026-03-29T00:00+00:00", "2026-03-29T12:00+00:00",
         [("2026-03-29T01:30+00:00", "2026-03-29T02:30+00:00")]),
        # Autumn fold: 02:30 occurs twice on 2026-10-25; the first one counts, and it lasts an exact hour.
        ("Europe/Berlin", "2026-03-01T02:30", "2026-10-25T00:00+00:00", "2026-10-25T12:00+00:00",
         [("2026-10-25T00:30+00:00", "2026-10-25T01:30+00:00")]),
        # Midnight crossing.
        ("UTC", "2026-03-01T23:30", "2026-05-01T23:00+00:00", "2026-05-02T00:15+00:00",
         [("2026-05-01T23:30+00:00", "2026-05-02T00:30+00:00")]),
        # The date line: Samoa is a day ahead of its neighbour.
        ("Pacific/Apia", "2026-03-01T08:00", "2026-05-01T18:30+00:00", "2026-05-01T18:45+00:00", []),
        ("Pacific/Apia", "2026-03-01T08:00", "2026-05-01T19:30+00:00", "2026-05-01T19:45+00:00",
         [("2026-05-01T19:00+00:00", "2026-05-01T20:00+00:00")]),
        # A leap day.
        ("America/New_York", "2028-02-29T12:00", "2028-02-29T16:00+00:00", "2028-02-29T18:00+00:00",
         [("2028-02-29T17:00+00:00", "2028-02-29T18:00+00:00")]),
        # A half-hour shift.
        ("Australia/Lord_Howe", "2026-03-01T01:45", "2026-04-04T14:00+00:00", "2026-04-04T16:00+00:00",
         [("2026-04-04T14:45+00:00", "2026-04-04T15:45+00:00")]),
    ],
)  # fmt: skip
def test_every_shape_of_a_clock_change(
    zone: str, start: str, since: str, until: str, expected: list[tuple[str, str]]
) -> None:
    assert spans(zone, start, 60, since, until) == expected


rules = st.sampled_from(
    [
        "FREQ=DAILY",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=WEEKLY;INTERVAL=2",
    ]
)
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
)


@given(rules, zones, st.integers(0, 1439), st.integers(15, 3 * 1440), st.integers(0, 400 * 1440))
def test_positions_agree_with_brute_force(rule: str, zone: str, start: int, minutes: int, when: int) -> None:
    begin = datetime(2026, 1, 1) + timedelta(minutes=start)  # noqa: DTZ001  # local time
    moment = datetime(2026, 1, 3, tzinfo=UTC) + timedelta(minutes=when)
    document = window(zone=zone, start=begin.isoformat(timespec="minutes"), duration_minutes=minutes, rrule=rule)
    every = rrulestr(rule, dtstart=begin).between(begin, begin + timedelta(days=420), inc=True)
    starts = [local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for local in every]
    inside = any(s <= moment < s + timedelta(minutes=minutes) for s in starts)
    found = judge(SUBJECT, policies(document), at=to_micros(moment), uncertainty=0)

    assert found.position.value == ("inside" if inside else "outside")


def test_a_finding_cites_the_window_and_says_when_it_opens() -> None:
    started = event("started", at("2026-11-01T12:00:00+01:00"), version="4.2.0")
    judgement = judge(SUBJECT, WEEKDAYS, at=started["corrected_at"], uncertainty=0)
    found = to_finding(started, SUBJECT, judgement)

    assert (found["rule"], found["verdict"], found["severity"]) == (RULE, "violation", "error")
    assert found["policy_version"] == "change_window/weekdays/1"
    assert found["evidence"]["next_open"] == "2026-11-02T08:00:00+00:00"
    assert found["explanation"] == "shop 4.2.0 started outside every allowed change window"
    encode(RecordType.FINDING, found)


def test_the_same_judgement_has_the_same_id() -> None:
    started = event("started", at("2026-11-01T12:00:00+01:00"))
    judgement = judge(SUBJECT, WEEKDAYS, at=started["corrected_at"], uncertainty=0)

    assert to_finding(started, SUBJECT, judgement) == to_finding(started, SUBJECT, judgement)
