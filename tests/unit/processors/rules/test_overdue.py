"""Overdue: by partition time, and taken back when the end was only late in coming."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.overdue import due, find_in_time, find_overdue
from deploytrail_processors.rules.policies import Policies, read_document
from support.values import MINUTE, NOON, event

QUICK = Policies((read_document({"kind": "service", "name": "shop", "spec": {"expected_duration_minutes": 10}}),))


def content(*events: dict[str, Any], now: int = NOON) -> dict[str, Any]:
    facts = lifecycle.new_facts("shop-1")
    for one in events:
        facts = lifecycle.add(facts, one)
    return lifecycle.derive(facts, now, 1440)


STARTED = event("started", NOON, uncertainty_ms=2_000)


@pytest.mark.requirement("M4.2")
def test_the_starts_uncertainty_is_granted() -> None:
    running = content(STARTED)

    assert due(running, QUICK) == NOON + 10 * MINUTE + 2_000_000
    assert find_overdue(running, QUICK, now=NOON + 10 * MINUTE) is None


def test_an_overdue_finding_speaks_of_the_due_time_and_not_of_the_tick() -> None:
    early, late = (find_overdue(content(STARTED), QUICK, now=NOON + m * MINUTE) for m in (11, 300))

    assert early == late
    assert early is not None
    assert early["occurred_at"] == NOON + 10 * MINUTE + 2_000_000
    assert early["reason"] == "running_longer_than_expected"
    assert early["policy_version"] == QUICK.documents[0].key


def test_the_general_limit_holds_where_none_is_declared() -> None:
    assert due(content(STARTED), Policies()) == NOON + 60 * MINUTE + 2_000_000


def test_what_has_ended_is_not_overdue() -> None:
    assert find_overdue(content(STARTED, event("failed", NOON + MINUTE)), QUICK, now=NOON + 60 * MINUTE) is None


def test_an_end_that_came_late_but_was_in_time_takes_it_back() -> None:
    overdue = find_overdue(content(STARTED), QUICK, now=NOON + 11 * MINUTE)
    assert overdue is not None
    in_time = find_in_time(content(STARTED, event("succeeded", NOON + 9 * MINUTE)), QUICK, overdue=overdue)
    too_late = find_in_time(content(STARTED, event("succeeded", NOON + 30 * MINUTE)), QUICK, overdue=overdue)

    assert in_time is not None
    assert (in_time["verdict"], in_time["supersedes"]) == ("ok", overdue["finding_id"])
    assert too_late is None
