"""GitLab calls environments `review/branch`, monorepos services `team/shop`: two places never meet in one row."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.replay_command import makers
from deploytrail_processors.rules.keys import joined
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from support.apps import Handled
from support.story import APPS, POLICIES, tell
from yaml import safe_load_all

Value = dict[str, Any]
# Fields that name something; in the second story each has another name.
NAMES = ("event_id", "signal_id", "approval_id", "observation_id", "deployment_id", "rollback_of", "fingerprint",
         "change_ticket", "artifact_digest", "instance")  # fmt: skip

HEALTH = {"within_minutes": 3, "baseline_minutes": 60}
MORE = [
    {"kind": "environment", "name": "review", "spec": {"production": True}},
    {"kind": "velocity", "name": "slow", "spec": {"budget": 2, "budget_minutes": 1440, "burst": 2}},
    {"kind": "success_criteria", "name": "all",
     "spec": {"rollback_rate": {"max_percent": 10, "deployments": 9, "minimum": 2}, "health": HEALTH}},
]  # fmt: skip


def at_first(value: Value) -> Value:
    return value | {"environment": f"review/{value['environment']}"}


def at_second(value: Value) -> Value:
    """Where region, environment and service with slashes between them are those of the first place."""
    renamed = {name: f"other-{value[name]}" for name in NAMES if value.get(name)}
    return value | renamed | {"environment": "review", "service": f"{value['environment']}/{value['service']}"}


def findings_of(name: str, *moves: Any) -> dict[str, Value]:
    """What stands after the story was told of places, by id; records by deployment."""
    policies = list(safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")))
    policies = [one for one in policies if one["kind"] != "success_criteria"] + MORE
    [make] = makers([name], Settings()).values()
    handled = Handled(make, policies)
    for _, kind, value in tell(25, 1):
        for move in moves if kind is not RecordType.TICK else moves[:1]:
            handled.handle(kind, move(value) if kind is not RecordType.TICK else value)
            if kind is RecordType.SIGNAL and value["signal_type"] == "alert_resolved":
                check = {"signal_type": "health_check", "healthy": value["fingerprint"] != "f3"}
                handled.handle(kind, move(value | check | {"signal_id": f"health-{value['signal_id']}"}))
    records = {one["deployment_id"]: one for one in handled.written if "finding_id" not in one}
    # That nobody knows the region is said once of both.
    return records | {one["finding_id"]: one for one in handled.standing if one["reason"] != "unknown_region"}


@pytest.mark.parametrize("name", APPS)
def test_two_places_whose_names_are_one_text_between_slashes_are_judged_each_by_itself(name: str) -> None:
    first, second = findings_of(name, at_first), findings_of(name, at_second)
    both = findings_of(name, at_first, at_second)

    assert second
    assert both == first | second


@given(st.lists(st.text("a/%2F", max_size=6), min_size=3, max_size=3),
       st.lists(st.text("a/%2F", max_size=6), min_size=3, max_size=3))  # fmt: skip
def test_different_names_have_different_keys(one: list[str], other: list[str]) -> None:
    assert (joined(*one) == joined(*other)) is (one == other)


def test_usual_names_stay_as_they_are() -> None:
    assert joined("eu-west-1", "production", "shop") == "eu-west-1/production/shop"
