"""What is changed everywhere may be the cause of alerts in each region, and is judged, counted and stored once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from deploytrail_processors.apps.context import MemoryContext
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.apps.elsewhere import partitions_told, tell_regions
from deploytrail_processors.apps.reconciliation import Reconcile
from deploytrail_processors.apps.success_criteria import Success
from deploytrail_processors.replay_command import makers
from deploytrail_processors.rules.policies import PolicySet
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.apps import Handled, tick
from support.story import APPS
from support.values import MINUTE, NOON, event, observation, signal

Value = dict[str, Any]
REGIONS = RegionMap.from_settings(Settings(regions="eu=1,us=3", backfill_partition=15))
HOUR = 60


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def switch(minutes: float = -2, name: str = "flag", **fields: Any) -> Value:
    return event(
        "succeeded", at(minutes), **{"deployment_id": name, "kind": "feature_flag", "region": "global"} | fields
    )


def told(*records: Value, elsewhere: bool = True) -> Handled:
    """Correlation, told of records; of what is global by the copy, or as if it stood in this partition."""
    handled = Handled(Correlation)
    for record in records:
        if elsewhere and "event_id" in record and record["region"] == "global":
            handled.handle(RecordType.GLOBAL_CHANGE, record)
        else:
            handled.tell(record)
    return handled


def answers(handled: Handled) -> dict[str, float]:
    return {found["deployment_id"]: found["probability"] for found in handled.standing}


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize(
    ("region", "own", "partitions"),
    [
        ("global", 0, [1, 3]),
        ("ALL", 0, [1, 3]),
        ("*", 0, [1, 3]),
        ("global", 1, [0, 3]),  # where the settings give it a partition, the others are told
        ("global", 15, []),  # history lies in one partition
        ("eu", 1, []),
        ("mars", 0, []),
    ],
)
def test_every_other_region_is_told_once_of_what_is_changed_everywhere(
    region: str, own: int, partitions: list[int]
) -> None:
    written: list[tuple[Topic, int, RecordType, Value]] = []
    change = switch(region=region)
    tell_regions(lambda topic, partition, _, kind, value: written.append((topic, partition, kind, value)),
                 REGIONS, own, change)  # fmt: skip

    assert partitions_told(REGIONS, region, own) == partitions
    assert written == [(Topic.EVENTS, partition, RecordType.GLOBAL_CHANGE, change) for partition in partitions]


@pytest.mark.requirement("M4.3")
def test_a_global_switch_takes_the_blame_in_another_region_as_it_does_in_its_own() -> None:
    alert = signal(at=at(0))
    found = told(switch(), alert)

    assert answers(found) == answers(told(switch(), alert, elsewhere=False))
    assert answers(found)["flag"] > 0.5
    [words] = [one["explanation"] for one in found.standing if one["deployment_id"] == "flag"]
    assert "changed the service itself in every region" in words
    assert {one["region"] for one in found.standing} == {"eu-west-1"}


@pytest.mark.requirement("M4.3")
def test_order_and_repetition_make_no_difference_to_who_is_blamed_and_what_comes_late_answers_anew() -> None:
    began = event("started", at(-5), deployment_id="mesh", kind="infrastructure", region="global")
    ended = event("succeeded", at(-3), deployment_id="mesh", kind="infrastructure", region="global")
    own = event("succeeded", at(-60), deployment_id="own", kind="release")
    records = [began, ended, own, signal(at=at(0))]
    expected = answers(told(*records))

    assert expected["mesh"] > 0.5
    for order in itertools.permutations(records):
        assert answers(told(*order)) == expected
        assert answers(told(*order, *reversed(order))) == expected


def test_the_same_records_write_the_same_findings_and_a_redelivery_writes_them_again() -> None:
    records = [signal(at=at(0)), switch()]
    first, again = told(*records), told(*records)
    before = len(first.written)
    first.handle(RecordType.GLOBAL_CHANGE, records[1])

    assert first.written[:before] == again.written
    assert {one["finding_id"] for one in first.written[before:]} == {one["finding_id"] for one in again.standing}


def test_a_deployment_that_is_reported_of_everywhere_and_of_a_region_is_one_candidate() -> None:
    global_start = event("started", at(-5), deployment_id="rollout", region="global")
    here = event("succeeded", at(-2), deployment_id="rollout")
    found = told(global_start, here, signal(at=at(0)))

    assert set(answers(found)) == {"rollout", ""}


def test_an_alert_that_follows_another_inherits_its_global_cause() -> None:
    first, second = signal(at=at(0)), signal(at=at(20), service="cart", fingerprint="f2")
    needs = [{"kind": "service", "name": "cart", "spec": {"depends_on": ["shop"]}}]
    handled = Handled(Correlation, needs)
    handled.handle(RecordType.GLOBAL_CHANGE, switch())
    handled.tell(first, second)

    [inherited] = [one for one in handled.standing if one["service"] == "cart" and one["deployment_id"] == "flag"]
    assert inherited["probability"] > 0.2


@pytest.mark.requirement("M1.4")
def test_a_region_gives_no_verdict_on_what_is_global_and_its_own_deployments_are_not_blamed_for_it() -> None:
    policy = {"kind": "success_criteria", "name": "default", "spec": {"incident": {"within_minutes": 60}}}
    own = [event("started", at(-7), deployment_id="own"), event("succeeded", at(-6), deployment_id="own")]
    alert = signal(at=at(0))
    alone = Handled(Success, [policy]).tell(*own, alert, tick(at(70)))
    beside = Handled(Success, [policy]).tell(*own)
    beside.handle(RecordType.GLOBAL_CHANGE, switch(-0.5))
    beside.tell(alert, tick(at(70)), tick(at(30 * HOUR)))

    assert [(one["deployment_id"], one["reason"]) for one in alone.standing] == [("own", "incident_correlated")]
    assert [one["deployment_id"] for one in beside.standing] == ["own"]
    assert beside.standing[0]["reason"] != "incident_correlated"


@pytest.mark.parametrize("name", [name for name in APPS if name not in ("correlation", "success_criteria")])
def test_no_other_app_takes_it_for_a_deployment(name: str) -> None:
    [make] = makers([name], Settings()).values()
    handled = Handled(make).tell(tick(at(-10)))
    for change in (event("started", at(-5), deployment_id="g", region="global"), switch(name="g")):
        handled.handle(RecordType.GLOBAL_CHANGE, change)
    handled.tell(tick(at(1)), tick(at(48 * HOUR)))

    assert handled.written == []
    assert [rows for table, rows in handled.tables.items() if table != "times" and rows] == []


@pytest.mark.requirement("M4.3")
def test_what_is_inferred_of_a_global_place_is_told_to_every_region_too() -> None:
    written: list[tuple[int, RecordType, Value]] = []
    context = MemoryContext(
        "reconciliation",
        Settings(),
        PolicySet(),
        lambda _, partition, __, kind, value: written.append((partition, kind, value)),
    )
    context.keep_time()
    reconcile = Reconcile(context)
    for seen in (observation(at(0), region="global", version="1"), observation(at(5), region="global", version="2")):
        context.handle(reconcile, 0, RecordType.OBSERVATION, seen)
    for minute in range(60):
        context.handle(reconcile, 0, RecordType.TICK, {"at": at(minute)})

    events = [value for _, kind, value in written if kind is RecordType.DEPLOYMENT_EVENT]
    copies = [(partition, value) for partition, kind, value in written if kind is RecordType.GLOBAL_CHANGE]
    assert events
    assert copies == [(partition, value) for value in events for partition in range(1, 8)]
