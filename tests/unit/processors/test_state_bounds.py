"""The state of every app is bounded: what was quiet for long enough goes by partition time."""

from __future__ import annotations

from typing import Any, cast

import pytest
from deploytrail_processors.replay_command import makers
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from support.apps import PARTITION, Handled
from support.story import APPS, POLICIES, tell
from support.values import MINUTE, NOON
from yaml import safe_load_all

DAY = 24 * 60 * MINUTE
# Rows that a partition has whatever it has seen: its time, since when it is watched, what was said today.
ALWAYS = {"times": 1, "habits": 2, "daily": 1}


def told(name: str) -> Handled:
    """An app that was told a story."""
    [make] = makers([name], Settings()).values()
    policies = list(safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")))
    handled = Handled(make, policies)
    for _, kind, value in tell(20, PARTITION):
        handled.handle(kind, value)
    return handled


def be_quiet(handled: Handled) -> None:
    """Let a year go by."""
    # A tick does a slice of what is due; and what a first tick closes, a later one forgets.
    for day in (*range(100, 110), *range(400, 410)):
        handled.handle(RecordType.TICK, {"at": NOON + day * DAY, "region": ""})


@pytest.mark.requirement("M3.4")
@pytest.mark.parametrize("name", APPS)
def test_an_app_forgets_what_was_quiet_for_long(name: str) -> None:
    handled = told(name)
    before = {table: len(rows) for table, rows in handled.tables.items()}
    be_quiet(handled)
    left = {table: len(rows) for table, rows in handled.tables.items()}

    assert sum(before.values()) > 20
    assert {table: count for table, count in left.items() if count > ALWAYS.get(table, 0)} == {}


@pytest.mark.requirement("M3.4")
@pytest.mark.parametrize("name", ["lifecycle", "change_window", "overdue", "suppression"])
def test_how_deployments_bear_on_each_other_is_forgotten_with_their_rows(name: str) -> None:
    handled = told(name)
    relations = cast(Any, handled.handler)._relations.of(PARTITION)
    known = len(relations._lives)
    be_quiet(handled)

    assert known >= 20
    assert [relations._lives, relations._named, relations._undoing, relations._parts, relations._open] == [{}] * 5
    assert [ended for ended in relations._ended.values() if ended] == []
