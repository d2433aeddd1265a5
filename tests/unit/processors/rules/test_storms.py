"""Related alerts within a time are one incident, which each of their answers names; whatever order they come in."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.rules.policies import Policies, PolicySet, read_document
from deploytrail_processors.rules.storms import incidents, storms
from deploytrail_schemas.records import RecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processors import MemoryContext
from support.values import MINUTE, NOON, SECOND, event, signal

SPECS = {
    ("service", "shop"): {"team": "retail", "depends_on": ["cart"]},
    ("service", "cart"): {"team": "retail"},
    ("service", "mail"): {"team": "office"},
    ("thresholds", "default"): {"storm_alerts": 3, "storm_minutes": 10},
}
POLICIES = PolicySet().with_documents(read_document({"kind": k, "name": n, "spec": s}) for (k, n), s in SPECS.items())


def alert(minute: float, service: str = "shop", name: str = "", **more: Any) -> dict[str, Any]:
    at = NOON + int(minute * MINUTE)
    return signal(at=at, service=service, signal_id=name or f"{service}-{minute}", **more)


def incidents_of(*signals: dict[str, Any]) -> list[str]:
    return incidents(signals, [], POLICIES.at)


def standing(*records: dict[str, Any], policies: Policies | None = None) -> dict[str, str]:
    """The incident that the answers about each alert name in the end."""
    context = MemoryContext(policies or POLICIES.at(NOON))
    context.now = NOON
    app = Correlation(cast("Any", context))
    for one in records:
        app.on_record(1, RecordType.SIGNAL if "signal_id" in one else RecordType.DEPLOYMENT_EVENT, one)
    found: dict[str, set[str]] = {}
    for (signal_id, _), finding in context.standing().items():
        if finding["probability"]:
            found.setdefault(signal_id, set()).add(finding["evidence"].get("incident", ""))
    assert all(len(said) == 1 for said in found.values())
    return {signal_id: said.pop() for signal_id, said in sorted(found.items())}


@pytest.mark.requirement("M6.2")
def test_related_alerts_are_one_incident_and_others_are_not() -> None:
    found = incidents_of(alert(0), alert(1, "cart"), alert(2, "mail"), alert(3, environment="staging"), alert(4))

    assert found == ["shop-0", "shop-0", "mail-2", "shop-3", "shop-0"]


@pytest.mark.requirement("M6.2")
def test_an_incident_takes_in_no_more_after_its_longest_time_however_long_alerts_go_on() -> None:
    found = incidents_of(*(alert(minute) for minute in range(0, 25, 2)))

    assert found == ["shop-0"] * 6 + ["shop-12"] * 6 + ["shop-24"]


@pytest.mark.requirement("M6.2")
def test_a_storm_is_as_many_alerts_as_policy_says() -> None:
    two, three = [alert(0), alert(1)], [alert(0), alert(1), alert(2)]

    assert storms(two, incidents_of(*two), POLICIES.at) == ["", ""]
    assert storms(three, incidents_of(*three), POLICIES.at) == ["shop-0"] * 3
    assert Policies().thresholds.storm_alerts == 5
    assert Policies().thresholds.storm_minutes == 30


@pytest.mark.requirement("M4.3", "M6.2")
def test_the_answers_name_the_storm_also_those_given_before_it_was_one() -> None:
    deployed = [event(kind, NOON - minute * MINUTE, deployment_id="d", service="cart")
                for kind, minute in (("started", 3), ("succeeded", 1))]  # fmt: skip
    alerts = [alert(0, "cart"), alert(1), alert(2), alert(30)]

    assert standing(*deployed, *alerts[:2]) == {"cart-0": "", "shop-1": ""}
    expected = {"cart-0": "cart-0", "shop-1": "cart-0", "shop-2": "cart-0", "shop-30": ""}
    assert standing(*deployed, *alerts) == expected
    assert standing(*alerts, *deployed) == expected
    assert standing(*deployed, *alerts, alerts[1]) == expected


@pytest.mark.requirement("M4.3")
def test_a_storm_is_the_same_for_every_order_of_its_alerts() -> None:
    alerts = [alert(0, "cart"), alert(1, "mail"), alert(2), alert(9, "cart"), alert(11)]
    found = {tuple(standing(*order).items()) for order in itertools.permutations(alerts)}

    assert found == {
        (("cart-0", "cart-0"), ("cart-9", "cart-0"), ("mail-1", ""), ("shop-11", ""), ("shop-2", "cart-0")),
    }


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_random_alerts_fall_into_the_same_storms_in_every_order(data: st.DataObject) -> None:
    drawn = data.draw(
        st.lists(st.tuples(st.integers(0, 1800), st.sampled_from(["shop", "cart", "mail"])), max_size=10, unique=True)
    )
    alerts = [alert(at / 60, service, f"{service}-{at}") for at, service in drawn]
    shuffled = data.draw(st.permutations(alerts))

    assert standing(*shuffled) == standing(*sorted(alerts, key=lambda one: (one["corrected_at"], one["signal_id"])))
    for name in set(standing(*alerts).values()) - {""}:
        its = [one["corrected_at"] for one in alerts if standing(*alerts)[one["signal_id"]] == name]
        assert len(its) >= 3
        assert max(its) - min(its) <= 600 * SECOND
