"""Calendars: days written out, and iCalendar texts as other programs export them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deploytrail_processors import zones
from deploytrail_processors.policy_files import missing_calendars, read_files
from deploytrail_processors.rules.icalendar import read_events
from deploytrail_processors.rules.policies import Calendar, PolicySet, read_document
from deploytrail_schemas.instants import from_micros, parse_instant

WINDOW = """\
kind: change_window
name: weekdays
spec:
  effect: allow
  zone: Europe/Berlin
  start: 2026-01-05T09:00
  duration: PT8H
  rrule: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH
  except: [holidays-de]
"""


def ics(*lines: str) -> str:
    return "\r\n".join(("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//shop//holidays//EN", *lines, "END:VCALENDAR", ""))


def one_event(*lines: str) -> str:
    return ics("BEGIN:VEVENT", "UID:1", *lines, "END:VEVENT")


def times(text: str, since: str, until: str, zone: str = "Europe/Berlin") -> list[tuple[str, str]]:
    calendar = Calendar(read_events(text))
    found = calendar.times(zones.zone(zone)).touching(parse_instant(since), parse_instant(until))
    texts = [[from_micros(i).isoformat(timespec="minutes").removesuffix("+00:00") for i in span] for span in found]
    return [(start, end) for start, end in texts]


YEAR = ("2026-01-01T00:00:00Z", "2026-12-31T23:00:00Z")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        # Whole days are days of the window's zone, folded lines one line, and what only describes is passed over.
        (("DTSTART;VALUE=DATE:20261003", "DTEND;VALUE=DATE:20261004", "SUMMARY:Tag der Deutschen", "  Einheit; frei",
          "TRANSP:TRANSPARENT", "BEGIN:VALARM", "TRIGGER:-P1D", "DTSTART:nonsense", "END:VALARM"),
         [("2026-10-02T22:00", "2026-10-03T22:00")]),
        (("DTSTART;VALUE=DATE:20251225", "RRULE:FREQ=YEARLY"), [("2026-12-24T23:00", "2026-12-25T23:00")]),
        (("DTSTART;VALUE=DATE:20251225", "RRULE:FREQ=YEARLY;UNTIL=20251231"), []),
        (("DTSTART;VALUE=DATE:20261224", "DURATION:P3D"), [("2026-12-23T23:00", "2026-12-26T23:00")]),
        (("DTSTART:20261130T170000Z", "DTEND:20261130T190000Z"), [("2026-11-30T17:00", "2026-11-30T19:00")]),
        (("DTSTART;TZID=America/New_York:20261130T090000", "DURATION:PT90M"),
         [("2026-11-30T14:00", "2026-11-30T15:30")]),
        (("DTSTART;TZID=\"Asia/Tokyo\":20260105T090000", "DTEND;TZID=Asia/Tokyo:20260105T100000",
          "RRULE:FREQ=MONTHLY;COUNT=3", "EXDATE;TZID=Asia/Tokyo:20260205T090000", "RDATE:20260210T000000Z"),
         [("2026-01-05T00:00", "2026-01-05T01:00"), ("2026-02-10T00:00", "2026-02-10T01:00"),
          ("2026-03-05T00:00", "2026-03-05T01:00")]),
        # Local times without a zone are the window's.
        (("DTSTART:20261130T090000", "DTEND:20261130T100000"), [("2026-11-30T08:00", "2026-11-30T09:00")]),
        # The same day again: what some programs write for one day.
        (("DTSTART;VALUE=DATE:20261003", "DTEND;VALUE=DATE:20261003"), [("2026-10-02T22:00", "2026-10-03T22:00")]),
        (("DTSTART;VALUE=DATE:20261003", "STATUS:CANCELLED"), []),
    ],
)  # fmt: skip
def test_an_event_takes_its_time(event: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert times(one_event(*event), *YEAR) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("hello", "line 1: 'hello' is no line of an iCalendar file"),
        ("BEGIN:VEVENT", "line 1: expected BEGIN:VCALENDAR"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "END:VEVENT is missing"),
        ("BEGIN:VCALENDAR\nEND:VEVENT", "line 2: END:VEVENT ends nothing that began"),
        (one_event("SUMMARY:no time"), "line 4: the event has no DTSTART"),
        (one_event("DTSTART;VALUE=DATE:20261332"), "line 6: DTSTART '20261332'"),
        (one_event("DTSTART;TZID=W. Europe Standard Time:20261130T090000"), "is no IANA time zone"),
        (one_event("DTSTART:20261130T090000Z", "DTEND;VALUE=DATE:20261201"), "line 7: DTEND and DTSTART are of"),
        (one_event("DTSTART:20261130T090000Z", "DTEND:20261129T090000Z"), "line 7: DTEND lies before DTSTART"),
        (one_event("DTSTART:20261130T090000Z", "DURATION:1 hour"), "line 7: DURATION is '1 hour'"),
        (one_event("DTSTART;VALUE=DATE:20261130", "RRULE:FREQ=HOURLY"), "line 7: FREQ is HOURLY"),
        (one_event("DTSTART;VALUE=DATE:20261130", "RECURRENCE-ID:20261130"), "RECURRENCE-ID is not read here"),
        (one_event("DTSTART;VALUE=DATE:20261130", "EXRULE:FREQ=DAILY"), "EXRULE is not read here"),
        (one_event("DTSTART;VALUE=DATE:20261130", "RDATE;VALUE=PERIOD:20261130T090000Z/PT1H"), "expected a day or"),
        (one_event("DTSTART;VALUE=DATE:20261130", "DTSTART;VALUE=DATE:20261130"), "DTSTART stands twice"),
    ],
)
def test_what_an_icalendar_text_has_wrong_is_said(text: str, problem: str) -> None:
    document = read_document({"kind": "calendar", "name": "c", "spec": {"ics": text, "dates": ["2026-12-25"]}})

    assert document.spec is None or not text
    with pytest.raises(ValueError, match=problem.replace(".", r"\.")):
        read_events(text)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "spec.dates: is missing; expected dates, an iCalendar text in ics, or a file beside this one"),
        ({"dates": ["25.12.2026"]}, "spec.dates: holds '25.12.2026'; expected a day such as 2026-12-25, or "
                                    "2026-12-24/2027-01-01"),
        ({"dates": ["2026-12-25/2026-12-24"]}, "spec.dates: holds '2026-12-25/2026-12-24'; expected a day such as "
                                               "2026-12-25, or 2026-12-24/2027-01-01"),
        ({"dates": ["2026-12-25"], "zone": "Berlin"}, "spec.zone: is 'Berlin'; expected an IANA time zone such as "
                                                      "Europe/Berlin"),
        ({"file": "x.ics"}, "spec.file: is for `deploytrail policy`, which puts the file's text into `ics`"),
    ],
)  # fmt: skip
def test_what_a_calendar_has_wrong_is_said(spec: dict[str, Any], problem: str) -> None:
    document = read_document({"kind": "calendar", "name": "c", "spec": spec})

    assert [str(p) for p in document.problems] == [problem]


def test_the_file_beside_the_policy_becomes_part_of_the_document(tmp_path: Path) -> None:
    text = one_event("DTSTART;VALUE=DATE:20261225")
    (tmp_path / "de.ics").write_text(text, newline="")
    (tmp_path / "policies.yaml").write_text(
        f"{WINDOW}---\nkind: calendar\nname: holidays-de\nspec: {{file: de.ics, zone: Europe/Berlin}}\n"
    )
    sources, problems = read_files([tmp_path])

    assert problems == []
    assert sources[1].value["spec"]["ics"].splitlines() == text.splitlines()
    assert "file" not in sources[1].value["spec"]
    assert read_document(sources[1].value).problems == ()
    assert missing_calendars(sources, PolicySet()) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("de.ics", "spec.file: de.ics cannot be read: No such file or directory"),
        ("../de.ics", "spec.file: is '../de.ics'; expected the name of an .ics file beside this one"),
        ("/etc/passwd", "spec.file: is '/etc/passwd'; expected the name of an .ics file beside this one"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem_of_its_line(tmp_path: Path, name: str, problem: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"kind: calendar\nname: c\nspec:\n  file: {name}\n")

    assert read_files([path])[1] == [f"{path}:4: {problem}"]


def test_a_reference_to_no_calendar_is_a_problem_unless_the_topic_has_it(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(WINDOW)
    sources, problems = read_files([path])
    calendar = read_document({"kind": "calendar", "name": "holidays-de", "spec": {"dates": ["2026-12-25"]}})

    assert problems == []
    assert missing_calendars(sources, PolicySet()) == [
        f"{path}:1: spec.except: 'holidays-de' is no calendar here; the window would stay closed"
    ]
    assert missing_calendars(sources, PolicySet().with_documents([calendar])) == []
