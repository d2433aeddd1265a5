"""What a record costs follows from what lies around it, not from how much an app remembers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deploytrail_processors.apps.timeline import Timeline
from deploytrail_processors.replay_command import makers
from deploytrail_processors.rules import lifecycle
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from support.apps import Handled
from support.story import Told, tell
from support.values import NOON

DAY = 86_400_000_000


def lives(count: int, begin: int, name: str) -> Iterator[Told]:
    """A story without the days of ticks behind it."""
    return iter(list(tell(count, 1, begin=begin, name=name))[:-72])


@pytest.mark.parametrize("name", ["correlation", "suppression", "rollback_verification", "success_criteria"])
def test_a_record_costs_no_more_for_the_weeks_before_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    derive, counted = lifecycle.derive, [0]

    def counting(facts: lifecycle.Facts, now: int, limit: float | None) -> lifecycle.Content:
        counted[0] += 1
        return derive(facts, now, limit)

    monkeypatch.setattr(lifecycle, "derive", counting)

    def cost(weeks: int) -> int:
        [make] = makers([name], Settings()).values()
        handled = Handled(make)
        for week in range(weeks, 0, -1):
            for _, kind, value in lives(25, NOON - week * 7 * DAY, f"week-{week}-"):
                handled.handle(kind, value)
        # Where the story goes on, the first tick says what was left of the weeks before.
        handled.handle(RecordType.TICK, {"at": NOON - DAY, "region": ""})
        handled.handle(RecordType.TICK, {"at": NOON - DAY // 2, "region": ""})
        counted[0] = 0
        for _, kind, value in lives(25, NOON, "now-"):
            handled.handle(kind, value)
        return counted[0]

    alone, behind_weeks = cost(0), cost(4)

    assert alone > 0
    assert behind_weeks <= alone * 1.3


def test_rows_are_found_by_their_time() -> None:
    table = {"1/c": 30, "1/a": 10, "2/a": 15, "1/b": 20}
    timeline = Timeline(table, lambda row: int(row))

    assert timeline.between(1, 10, 30) == [("1/a", 10), ("1/b", 20)]

    table["1/d"] = 20
    timeline.put(1, "1/d", 20)
    timeline.put(1, "1/d", 20)
    timeline.remove(1, "1/a", 10)
    timeline.remove(1, "1/z", 10)

    assert timeline.between(1, 0) == [("1/b", 20), ("1/d", 20), ("1/c", 30)]

    del table["1/d"]
    timeline.forget()

    assert timeline.between(1, 0) == [("1/a", 10), ("1/b", 20), ("1/c", 30)]
