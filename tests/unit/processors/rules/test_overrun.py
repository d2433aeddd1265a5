"""What began inside a change window and still runs when it closes."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.findings import in_place_of
from deploytrail_processors.rules.overrun import RULE, find_overrun, next_due
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from support.values import MINUTE, NOON, event

SUBJECT = {"service": "shop", "team": "web", "environment": "production", "region": "eu-west-1", "tier": "1",
           "kind": "release"}  # fmt: skip
HOUR = 60 * MINUTE
CLOSE = NOON + 4 * HOUR  # 17:00 in Berlin


def window(name: str = "weekdays", **spec: Any) -> dict[str, Any]:
    usual = {"effect": "allow", "zone": "Europe/Berlin", "start": "2026-01-05T09:00", "duration": "PT8H",
             "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", "overrun": "violation", "overrun_grace_minutes": 15}  # fmt: skip
    return {"kind": "change_window", "name": name, "spec": usual | spec}


def policies(*documents: dict[str, Any]) -> Policies:
    return Policies(tuple(read_document(d) for d in documents))


def content(*events: dict[str, Any]) -> dict[str, Any]:
    facts = lifecycle.new_facts("shop-1")
    for given in events:
        facts = lifecycle.add(facts, given)
    return lifecycle.derive(facts, 0, None)


STARTED = event("started", NOON, version="4.2.0")
RUNNING = content(STARTED)
STRICT = policies(window())
LUNCH = window("lunch", effect="deny", start="2026-01-05T14:00", duration="PT1H", overrun="warn",
               overrun_grace_minutes=5)  # fmt: skip


def verdict(given: dict[str, Any], in_force: Policies, now: int) -> tuple[str, str, str] | None:
    found = find_overrun(given, SUBJECT, in_force, now=now)
    return (found["verdict"], found["reason"], found["severity"]) if found else None


@pytest.mark.requirement("M4.2")
def test_what_still_runs_when_the_grace_is_over_is_found_then_and_not_before() -> None:
    due = CLOSE + 15 * MINUTE
    found = find_overrun(RUNNING, SUBJECT, STRICT, now=due)

    assert next_due(RUNNING, SUBJECT, STRICT, now=NOON) == due
    assert find_overrun(RUNNING, SUBJECT, STRICT, now=due - 1) is None
    assert found is not None
    assert (found["rule"], found["verdict"], found["reason"]) == (RULE, "violation", "still_running_after_close")
    assert (found["severity"], found["occurred_at"], found["policy_version"]) == (
        "error", due, "change_window/weekdays/1"
    )  # fmt: skip
    assert found["evidence"]["closed_at"] == "2026-11-02T16:00:00+00:00"
    assert found["explanation"] == (
        "shop 4.2.0 was still running when its change window closed and 15 minutes of grace were over"
    )
    encode(RecordType.FINDING, found)
    # A later tick says the same.
    assert find_overrun(RUNNING, SUBJECT, STRICT, now=due + HOUR, standing=found) == found
    assert next_due(RUNNING, SUBJECT, STRICT, now=due) is None


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize(
    ("overrun", "expected"),
    [
        ("allow", None),
        ("warn", ("ok", "still_running_after_close", "warning")),
        ("violation", ("violation", "still_running_after_close", "error")),
    ],
)
def test_policy_says_what_an_overrun_is(overrun: str, expected: tuple[str, str, str] | None) -> None:
    assert verdict(RUNNING, policies(window(overrun=overrun)), CLOSE + HOUR) == expected


@pytest.mark.parametrize(
    ("end", "width", "expected"),
    [
        (CLOSE - MINUTE, 0, None),
        (CLOSE + 15 * MINUTE, 0, None),  # within the grace
        (CLOSE + 16 * MINUTE, 0, ("violation", "still_running_after_close", "error")),
        (CLOSE + 16 * MINUTE, 120_000, ("inconclusive", "end_too_close_to_close", "info")),
    ],
)
def test_an_end_decides_whenever_it_is_reported(end: int, width: int, expected: tuple[str, str, str] | None) -> None:
    ended = content(STARTED, event("succeeded", end, uncertainty_ms=width))

    assert verdict(ended, STRICT, CLOSE + 2 * HOUR) == expected
    assert next_due(ended, SUBJECT, STRICT, now=NOON) is None


def test_a_late_report_takes_an_overrun_back_and_another_one_renews_it() -> None:
    now = CLOSE + HOUR
    first = find_overrun(RUNNING, SUBJECT, STRICT, now=now)
    assert first is not None
    in_time = content(STARTED, event("succeeded", CLOSE - MINUTE))
    taken_back = find_overrun(in_time, SUBJECT, STRICT, now=now, standing=first)
    assert taken_back is not None
    back = in_place_of(first, taken_back)
    corrected = content(STARTED, event("succeeded", CLOSE - MINUTE), event("failed", CLOSE + 20 * MINUTE))
    renewed = find_overrun(corrected, SUBJECT, STRICT, now=now, standing=back)
    assert renewed is not None
    again = in_place_of(back, renewed)

    assert (back["verdict"], back["reason"], back["supersedes"]) == ("ok", "ended_before_close", first["finding_id"])
    assert find_overrun(in_time, SUBJECT, STRICT, now=now, standing=back) == back
    assert (again["verdict"], again["supersedes"]) == ("violation", back["finding_id"])
    assert len({first["finding_id"], back["finding_id"], again["finding_id"]}) == 3


def test_a_denied_window_closes_with_its_own_words_and_a_stricter_close_supersedes() -> None:
    both = policies(window(), LUNCH)
    lunch, evening = NOON + HOUR + 5 * MINUTE, CLOSE + 15 * MINUTE
    warned = find_overrun(RUNNING, SUBJECT, both, now=lunch)
    assert warned is not None
    stricter = find_overrun(RUNNING, SUBJECT, both, now=evening, standing=warned)
    assert stricter is not None
    worse = in_place_of(warned, stricter)

    assert (warned["verdict"], warned["occurred_at"], warned["policy_version"]) == (
        "ok",
        lunch,
        "change_window/lunch/1",
    )
    assert next_due(RUNNING, SUBJECT, both, now=lunch) == evening
    assert (worse["verdict"], worse["supersedes"]) == ("violation", warned["finding_id"])


@pytest.mark.parametrize(
    "started",
    [
        event("started", NOON + 6 * HOUR),  # outside: the start's own finding speaks
        event("started", CLOSE - 1_000_000, uncertainty_ms=2_000),  # perhaps outside
    ],
)
def test_what_did_not_begin_inside_for_certain_overruns_nothing(started: dict[str, Any]) -> None:
    assert find_overrun(content(started), SUBJECT, STRICT, now=NOON + 48 * HOUR) is None


def test_what_was_not_started_or_was_voided_is_not_looked_at() -> None:
    assert next_due(content(event("registered", NOON)), SUBJECT, STRICT, now=NOON) is None
    assert next_due(content(STARTED, event("voided", NOON + MINUTE)), SUBJECT, STRICT, now=NOON) is None


def test_an_environment_is_graver_where_its_policy_says_that_it_is_production() -> None:
    live = content(event("started", NOON, environment="live-eu"))
    flagged = policies(window(), {"kind": "environment", "name": "live-eu", "spec": {"production": True}})
    due = CLOSE + 15 * MINUTE

    assert verdict(live, STRICT, due) == ("violation", "still_running_after_close", "warning")
    assert verdict(live, flagged, due) == ("violation", "still_running_after_close", "error")
