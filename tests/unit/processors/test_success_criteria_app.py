"""Every finished deployment gets a verdict, cites what it rests on, and gets another one when later facts change it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.apps.success_criteria import Success
from hypothesis import given, settings
from hypothesis import strategies as st
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, signal

Value = dict[str, Any]
HOUR = 60


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def deploy(name: str, begin: float, end: float, what: str = "succeeded", **fields: Any) -> list[Value]:
    return [event(kind, at(when), deployment_id=name, **fields) for kind, when in (("started", begin), (what, end))]


def policy(name: str = "default", **spec: Any) -> Value:
    return {"kind": "success_criteria", "name": name, "spec": spec}


def handled(*records: Value, **spec: Any) -> Handled:
    return Handled(Success, [policy(**spec)] if spec else []).tell(*records)


def verdicts(told: Handled) -> dict[str, tuple[str, str]]:
    return {found["deployment_id"]: (found["verdict"], found["reason"]) for found in told.standing}


@pytest.mark.requirement("M1.4")
def test_a_verdict_comes_at_the_tick_behind_its_observation() -> None:
    told = handled(*deploy("shop-1", 0, 5), tick(at(64)), max_duration_minutes=10, incident={"within_minutes": 60})
    assert told.findings == []
    told.tell(tick(at(65)))

    [found] = told.findings
    assert (found["rule"], found["verdict"], found["reason"]) == ("success_criteria", "ok", "criteria_met")
    assert (found["deployment_id"], found["occurred_at"]) == ("shop-1", at(65))
    assert found["policy_version"] == "success_criteria/default/1"
    assert found["evidence"]["duration"] == "met: 5.0 of at most 10 minutes"
    assert found["evidence"]["incident"] == "met: none of the severity error or graver within 60 minutes"


@pytest.mark.requirement("M1.4")
def test_an_incident_is_cited_by_the_very_finding_that_correlation_writes() -> None:
    trail = [*deploy("shop-1", 0, 5), signal(at=at(6)), tick(at(80))]
    told = handled(*trail, incident={"severity": "error", "within_minutes": 60})
    correlated = Handled(Correlation).tell(*trail)

    [found] = told.standing
    assert (found["verdict"], found["reason"]) == ("violation", "incident_correlated")
    [cause] = [f for f in correlated.standing if f["deployment_id"] == "shop-1"]
    assert found["evidence"]["incident_finding"] == cause["finding_id"]
    assert cause["probability"] >= 0.5


def test_correlation_inside_writes_no_findings_of_its_own() -> None:
    told = handled(*deploy("shop-1", 0, 5), signal(at=at(6)), tick(at(80)), incident={})

    assert {found["rule"] for found in told.written} == {"success_criteria"}


@pytest.mark.requirement("M1.4")
def test_an_alert_that_is_reported_late_changes_the_verdict() -> None:
    told = handled(*deploy("shop-1", 0, 5), tick(at(70)), incident={"within_minutes": 60})
    assert verdicts(told) == {"shop-1": ("ok", "criteria_met")}
    first = told.standing[0]["finding_id"]
    told.tell(signal(at=at(7)))

    [found] = told.standing
    assert (found["reason"], found["supersedes"]) == ("incident_correlated", first)


@pytest.mark.requirement("M1.4")
def test_another_change_that_is_reported_late_and_explains_the_alert_better_changes_it_back() -> None:
    told = handled(*deploy("shop-1", 0, 5), signal(at=at(50)), tick(at(70)), incident={"within_minutes": 60})
    assert verdicts(told)["shop-1"][0] != "ok"
    told.tell(*deploy("shop-2", 48, 49.5, "failed"), tick(at(71)))

    assert verdicts(told)["shop-1"] == ("ok", "criteria_met")


@pytest.mark.requirement("M1.4")
def test_a_rollback_however_late_changes_the_verdict_of_what_it_undoes() -> None:
    told = handled(*deploy("shop-1", 0, 5), tick(at(6)), max_duration_minutes=10)
    assert verdicts(told) == {"shop-1": ("ok", "criteria_met")}
    told.tell(*deploy("undo", 3000, 3010, kind="rollback", rollback_of="shop-1"), tick(at(3020)))

    assert verdicts(told) == {"shop-1": ("violation", "deployment_rolled_back"), "undo": ("ok", "criteria_met")}


def test_a_retry_under_the_same_id_is_judged_by_its_last_end() -> None:
    told = handled(*deploy("shop-1", 0, 5, "failed"), tick(at(6)), max_duration_minutes=10)
    assert verdicts(told) == {"shop-1": ("violation", "deployment_failed")}
    told.tell(event("succeeded", at(9)), tick(at(10)))

    assert verdicts(told) == {"shop-1": ("ok", "criteria_met")}


def test_what_was_voided_has_no_verdict_to_stand_by() -> None:
    told = handled(*deploy("shop-1", 0, 5), tick(at(6))).tell(event("voided", at(7)))
    never = handled(*deploy("shop-1", 0, 5), event("voided", at(5.5)), tick(at(6)))

    assert verdicts(told) == {"shop-1": ("inconclusive", "deployment_voided")}
    assert never.findings == []


@pytest.mark.requirement("M1.4")
def test_too_many_rollbacks_of_a_service_speak_against_each_change_while_they_do() -> None:
    trail: list[Value] = []
    for n in range(12):
        trail += [*deploy(f"shop-{n}", 60 * n, 60 * n + 5, version=str(n)), tick(at(60 * n + 20))]
        if n in (3, 4):  # undone within what is observed, ten minutes behind the end
            undo = {"kind": "rollback", "rollback_of": f"shop-{n}"}
            trail[-1:-1] = deploy(f"undo-{n}", 60 * n + 7, 60 * n + 9, **undo)
    rate = {"max_percent": 20, "deployments": 5, "minimum": 5}
    told = handled(*trail, rollback_rate=rate, incident={"within_minutes": 10})

    found = verdicts(told)
    assert [found[f"shop-{n}"][1] for n in range(12)] == [
        *["too_few_deployments"] * 3,
        *["deployment_rolled_back"] * 2,  # and too many of the last, too
        *["too_many_rollbacks"] * 3,
        *["criteria_met"] * 4,
    ]


@pytest.mark.requirement("M1.4")
def test_a_rollback_that_is_reported_late_changes_the_rate_of_those_behind_it() -> None:
    trail = [record for n in range(5) for record in [*deploy(f"shop-{n}", 60 * n, 60 * n + 5), tick(at(60 * n + 20))]]
    told = handled(*trail, rollback_rate={"max_percent": 0, "deployments": 2, "minimum": 1})
    assert set(verdicts(told).values()) == {("ok", "criteria_met")}
    told.tell(*deploy("undo", 62, 64, kind="rollback", rollback_of="shop-0"))

    reasons = {name: reason for name, (_, reason) in verdicts(told).items()}
    assert reasons["shop-0"] == "deployment_rolled_back"
    assert reasons["shop-1"] == "too_many_rollbacks"
    assert [reasons[f"shop-{n}"] for n in (2, 3, 4)] == ["criteria_met"] * 3


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([True, True, True], ("ok", "criteria_met")),
        ([False, False, False], ("violation", "health_out_of_band")),
        ([], ("inconclusive", "no_health_seen")),
    ],
)
def test_health_after_it_is_as_before(after: list[bool], expected: tuple[str, str]) -> None:
    def check(minutes: float, healthy: bool) -> Value:
        # An id is whatever a source calls a check by.
        name = f"probe/{minutes}"
        return signal("health_check", at(minutes), fingerprint="ready", healthy=healthy, signal_id=name)

    before = [check(-minute, True) for minute in range(1, 10)]
    seen = [check(6 + 3 * n, healthy) for n, healthy in enumerate(after)]
    told = handled(*before, *deploy("shop-1", 0, 5), *seen, tick(at(21)), health={"within_minutes": 15})
    late = handled(*deploy("shop-1", 0, 5), tick(at(21)), health={"within_minutes": 15}).tell(*before, *seen)

    assert verdicts(told) == {"shop-1": expected}
    assert verdicts(late) == {"shop-1": expected}


def test_a_thousand_checks_a_minute_are_rows_of_one_each_and_are_forgotten() -> None:
    checks = [
        signal(
            "health_check", at(6) + number, fingerprint=f"pod-{number}", healthy=True, signal_id=f"check-{number:04}"
        )
        for number in range(1000)
    ]
    told = handled(*deploy("shop-1", 0, 5), *checks, health={"within_minutes": 15})
    sizes = [len(json.dumps(row)) for row in told.tables["health"].values()]
    judged = told.tell(tick(at(21))).standing[0]["evidence"]["health"]

    assert (len(sizes), max(sizes) < 300) == (1000, True)
    assert judged.startswith("met")
    for minute in (700, 701, 702, 703):
        told.tell(tick(at(minute)))
    assert told.tables["health"] == {}


@pytest.mark.requirement("M1.4")
def test_a_deployment_is_judged_by_the_policy_of_its_day_whatever_came_later() -> None:
    old = policy(max_duration_minutes=10) | {"version": 1, "effective_from": "2026-01-01T00:00:00Z"}
    new = policy(max_duration_minutes=1) | {"version": 2, "effective_from": "2027-01-01T00:00:00Z"}
    trail = [*deploy("shop-1", 0, 5), tick(at(6))]
    then, years_later = Handled(Success, [old]).tell(*trail), Handled(Success, [old, new]).tell(*trail)

    assert then.written == years_later.written
    assert verdicts(then) == {"shop-1": ("ok", "criteria_met")}


def mixed_day() -> list[Value]:
    trail: list[Value] = []
    random = Random(7)
    for n in range(14):
        begin = 45 * n
        trail += deploy(f"shop-{n}", begin, begin + random.choice((4, 12)), random.choice(("succeeded", "failed")))
        if n % 3 == 0:
            trail.append(signal(at=at(begin + 14), fingerprint=f"f{n}"))
        if n % 5 == 2:
            trail += deploy(f"undo-{n}", begin + 20, begin + 22, kind="rollback", rollback_of=f"shop-{n}")
        trail.append(tick(at(begin + 40)))
    return [*trail, tick(at(2000))]


ALL = {
    "max_duration_minutes": 10,
    "rollback_rate": {"max_percent": 20, "days": 2, "minimum": 3},
    "incident": {"within_minutes": 60},
}


@pytest.mark.requirement("M1.4")
def test_the_same_trail_gives_the_same_findings_in_the_same_order() -> None:
    trail = mixed_day()

    assert handled(*trail, **ALL).written == handled(*trail, **ALL).written
    assert len(verdicts(handled(*trail, **ALL))) == 17


def test_a_redelivery_of_every_record_changes_nothing() -> None:
    trail = mixed_day()
    twice = [again for record in trail for again in (record, record)]

    assert handled(*twice, **ALL).findings == handled(*trail, **ALL).findings


@settings(max_examples=40, deadline=None)
@given(st.randoms())
def test_what_is_known_before_the_tick_is_judged_alike_in_every_order(random: Any) -> None:
    records = [
        *[record for n in range(4) for record in deploy(f"shop-{n}", 10 * n, 10 * n + 4)],
        *deploy("undo", 32, 33, kind="rollback", rollback_of="shop-1"),
    ]
    spec = {"max_duration_minutes": 5, "rollback_rate": {"max_percent": 20, "deployments": 4, "minimum": 2}}
    in_order = handled(*records, tick(at(60)), **spec)
    random.shuffle(records)

    shuffled = handled(*records, tick(at(60)), **spec)
    assert verdicts(shuffled) == verdicts(in_order)


def test_after_a_restart_the_verdicts_of_the_last_day_are_written_again() -> None:
    told = handled(*deploy("old", -3000, -2990), tick(at(-2980)), *deploy("shop-1", 0, 5), tick(at(6)))
    before = len(told.written)
    told.handler.on_recovered()
    told.tell(tick(at(7)))

    again = told.written[before:]
    assert [found["deployment_id"] for found in again] == ["shop-1"]
    assert again[0] in told.written[:before]
