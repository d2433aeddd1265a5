"""Alerts of one incident are judged together: what explains one of them is asked about all, in whatever order."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.apps.success_criteria import Success
from deploytrail_processors.rules.causes import Link
from deploytrail_processors.rules.past import MOST_BESIDE, beside, link
from deploytrail_processors.rules.policies import Policies
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, signal

Value = dict[str, Any]
HOUR = 60
STORMS = [{"kind": "thresholds", "name": "default", "spec": {"storm_alerts": 2, "storm_minutes": 30}}]


def alert(minute: float, service: str, incident: str = "INC-1", **fields: Any) -> Value:
    return signal(at=NOON + int(minute * MINUTE), service=service, incident_id=incident, **fields)


def deploy(name: str, minute: float, service: str, **fields: Any) -> list[Value]:
    at = NOON + int(minute * MINUTE)
    return [event("started", at, deployment_id=name, service=service, **fields),
            event("succeeded", at + MINUTE, deployment_id=name, service=service, **fields)]  # fmt: skip


def told(*records: Value, policies: list[Value] = STORMS) -> Handled:
    return Handled(Correlation, policies).tell(*records)


def answers(handled: Handled) -> dict[str, dict[str, float]]:
    """By service of the alert: how likely each deployment is its cause."""
    found: dict[str, dict[str, float]] = {}
    for one in handled.standing:
        if one["probability"]:
            found.setdefault(one["service"], {})[one["deployment_id"]] = one["probability"]
    return found


@pytest.mark.requirement("M4.3", "M6.2")
def test_alerts_that_name_one_incident_are_one_whatever_services_they_are_of() -> None:
    together = told(alert(0, "shop"), alert(2, "ledger"))
    apart = told(alert(0, "shop", "INC-1"), alert(2, "ledger", "INC-2"))
    nameless = told(alert(0, "shop", ""), alert(2, "ledger", ""))

    assert len({one["evidence"].get("incident") for one in together.standing}) == 1
    assert {"incident" in one["evidence"] for one in together.standing} == {True}
    assert {"incident" in one["evidence"] for one in (*apart.standing, *nameless.standing)} == {False}
    assert {one["evidence"]["incident_id"] for one in together.standing} == {"INC-1"}


@pytest.mark.requirement("M4.3")
def test_what_explains_the_second_alert_explains_the_first_and_the_order_makes_no_difference() -> None:
    alerts = [alert(0, "shop"), alert(3, "ledger")]
    found = [
        answers(told(*itertools.chain.from_iterable(order)))
        for order in itertools.permutations([[alerts[0]], [alerts[1]], deploy("d", -5, "ledger")])
    ]

    assert found[0]["shop"]["d"] > 0.5
    assert found[0]["ledger"]["d"] > 0.8
    for one in found:  # how often alerts fire is counted as they come: a hundredth
        assert {place: pytest.approx(given, abs=0.02) for place, given in one.items()} == found[0]
    assert answers(told(alert(0, "shop"), *deploy("d", -5, "ledger")))["shop"] == {"": 1.0}


@pytest.mark.requirement("M4.3")
def test_what_was_changed_after_the_incident_began_is_not_its_cause() -> None:
    found = answers(told(alert(0, "shop"), *deploy("fix", 2, "ledger"), alert(5, "ledger")))

    assert found["shop"] == {"": 1.0}
    assert found["ledger"][""] > 0.5 > found["ledger"]["fix"]


@pytest.mark.requirement("M4.3")
def test_a_redelivery_says_the_answers_of_the_whole_incident_again() -> None:
    trail = [*deploy("d", -5, "ledger"), alert(0, "shop"), alert(100, "ledger")]
    handled = told(*trail)
    before = len(handled.written)
    said = {one["finding_id"] for one in handled.standing}
    handled.tell(trail[-1])

    assert {one["finding_id"] for one in handled.written[before:]} == said
    assert {one["service"] for one in handled.standing} == {"shop", "ledger"}


@pytest.mark.requirement("M4.3")
def test_a_canary_is_accused_by_the_alerts_of_its_cohort_also_once_it_got_all() -> None:
    canary = [event("started", NOON - 5 * MINUTE, deployment_id="d", cohort="canary", cohort_weight=0.05)]
    widened = [event("progressed", NOON + 10 * MINUTE, deployment_id="d", cohort="canary", cohort_weight=1.0)]
    alerts = [alert(0, "shop", "", labels={"cohort": "canary", "pod": "shop-7"})]
    found = answers(told(*deploy("e", -5, "shop"), *canary, *alerts))

    assert found["shop"]["d"] > 0.9
    assert answers(told(*deploy("e", -5, "shop"), *canary, *alerts, *widened)) == found
    assert answers(told(*widened, *canary, *alerts, *deploy("e", -5, "shop"))) == found


def test_success_is_judged_by_the_same_incident() -> None:
    spec = {"incident": {"severity": "error", "within_minutes": 60}}
    handled = Handled(Success, [{"kind": "success_criteria", "name": "default", "spec": spec}])
    handled.tell(*deploy("d", -5, "ledger"), alert(0, "shop"), tick(NOON + 90 * MINUTE))
    assert [one["verdict"] for one in handled.standing] == ["ok"]
    handled.tell(alert(3, "ledger", severity="warning"))

    assert [(one["verdict"], one["reason"]) for one in handled.standing] == [("violation", "incident_correlated")]


def test_an_incident_of_many_alerts_answers_anew_only_for_each_service_that_joins() -> None:
    answered: Counter[str] = Counter()

    def tell(_: int, row: Value, __: list[Value]) -> None:
        answered.update([row["signal"]["service"]])

    handled = Handled(lambda context: Correlation(context, tell=tell))
    handled.tell(*(alert(n / 10, f"s{n % 3}", fingerprint=f"f{n}") for n in range(150)))

    assert sum(answered.values()) < 150 + 3 * 3


def test_an_incident_reaches_as_far_as_alerts_are_remembered_and_into_so_many_services() -> None:
    near, far = alert(0, "shop"), alert(9 * HOUR, "ledger")
    crowd = [alert(n, f"s{n:03}") for n in range(40)]

    assert beside([near, far]) == [(), ()]
    assert beside([near, alert(7 * HOUR, "ledger")]) == [("ledger",), ("shop",)]
    assert beside([near, alert(1, "ledger", environment="staging")]) == [(), ()]
    assert beside([alert(0, "shop", ""), alert(1, "ledger", "")]) == [(), ()]
    assert len(beside(crowd)[0]) == MOST_BESIDE
    assert link(alert(1, "ledger"), near, Policies()) is Link.SAME_INCIDENT
    assert link(alert(1, "shop"), near, Policies()) is Link.SAME_ALERT
    nameless = {"fingerprint": "", "title": "", "incident": ""}
    assert link(alert(1, "shop", **nameless), alert(0, "shop", **nameless), Policies()) is Link.SAME_SERVICE


@pytest.mark.requirement("M4.3")
def test_a_global_switch_answers_anew_the_alerts_of_regions_in_its_partition_also_where_it_is_reported_late() -> None:
    switched = event("succeeded", NOON - 2 * MINUTE, deployment_id="flag", kind="feature_flag", region="global")
    other = alert(0, "shop", "", region="eu-north-1")
    late, in_time = told(other, switched), told(switched, other)

    assert answers(late) == answers(in_time)
    assert answers(late)["shop"]["flag"] > 0.5


@pytest.mark.requirement("M4.3", "M2.5")
def test_a_deployment_of_several_services_may_be_the_cause_at_each_of_them_in_every_order() -> None:
    both = [deploy("d", -5, "shop", event_id="s"), deploy("d", -5, "ledger", event_id="l")]
    parts = [one | {"event_id": f"{one['event_id']}-{n}"} for steps in both for n, one in enumerate(steps)]
    alerts = [alert(0, "shop", ""), alert(0, "ledger", ""), alert(0, "search", "")]
    needs = [{"kind": "service", "name": "search", "spec": {"depends_on": ["ledger"]}}]
    found = []
    for order in ([*parts, *alerts], [*alerts, *parts], [*parts[2:], *alerts, *parts[:2]]):
        handled = told(*order, policies=needs)
        found.append(answers(handled))
        [words] = [f["explanation"] for f in handled.standing if f["deployment_id"] == "d" and f["service"] == "ledger"]
        assert "ledger  (d) changed the service itself" in words

    assert found[0]["shop"]["d"] > 0.8
    assert found[0]["ledger"]["d"] > 0.8
    assert 0.3 < found[0]["search"]["d"] < found[0]["ledger"]["d"]
    assert found[1] == found[0]
    assert found[2] == found[0]
