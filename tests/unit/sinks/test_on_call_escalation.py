"""Who is told, who next, and when nobody else: by the policy of the incident's time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from deploytrail_schemas.policies import SHARED, document
from deploytrail_schemas.policies.in_force import InForce, Versions
from deploytrail_sinks.on_call import ledger
from deploytrail_sinks.on_call.escalation import misses_deployer, plan_for
from deploytrail_sinks.on_call.incidents import Action, Change
from deploytrail_sinks.on_call.ledger import Incident, Status
from deploytrail_sinks.on_call.people import People
from support.values import MINUTE, NOON

PLACE = "deploytrail.findings:1"
ABOUT = {"service": "shop", "environment": "production", "region": "eu-west-1", "deployer": "ada"}
SHOP = {"kind": "service", "name": "shop", "spec": {"team": "web", "tier": "1"}}


def escalation(name: str = "production", **spec: Any) -> dict[str, Any]:
    usual = {
        "levels": [
            {"notify": ["deployer"], "acknowledge_minutes": 5},
            {"notify": ["team", "sre-lead"], "acknowledge_minutes": 15},
        ],
        "scope": {"environments": ["production"]},
    }
    return {"kind": "escalation", "name": name, "spec": usual | spec}


def policies(*documents: dict[str, Any]) -> InForce:
    read = [document.read(one, SHARED) for one in documents]
    assert [problem for one in read for problem in one.problems] == []
    return InForce(tuple(read))


USUAL = policies(SHOP, escalation())


def told(known: Incident, in_force: InForce = USUAL, now: int = NOON) -> Incident:
    """An intended incident as it is sent and answered."""
    telling = ledger.telling(known, plan_for(known.details, known.severity, in_force))
    return ledger.settle(telling, Status.OPEN if known.action is Action.TRIGGER else Status.RESOLVED, "202", now)


def raised(in_force: InForce = USUAL, severity: str = "error") -> Incident:
    intended = ledger.intend(None, Change("k", Action.TRIGGER, NOON, severity, "it failed", ABOUT), PLACE, 0)
    assert intended is not None
    return told(intended, in_force)


def names(known: Incident) -> tuple[str, ...]:
    assert known.plan is not None
    return known.plan.step(known.step).notify


@pytest.mark.requirement("M4.5")
def test_levels_are_told_in_order_each_once_its_predecessor_had_its_time() -> None:
    known = raised(policies(SHOP, escalation(rounds=2)))
    steps = []
    while known.next_at:
        assert not ledger.is_unanswered(known, known.next_at - 1)
        assert ledger.is_unanswered(known, known.next_at)
        steps.append((names(known), (known.next_at - NOON) // MINUTE))
        after = ledger.next_step(known)
        known = told(after, now=known.next_at) if after.status is Status.INTENDED else after

    assert steps == [(("ada",), 5), (("web", "sre-lead"), 20), (("ada",), 25), (("web", "sre-lead"), 40)]
    assert known.status is Status.OPEN


def test_nobody_else_is_told_once_it_is_acknowledged_or_over() -> None:
    known = raised()
    resolving = ledger.intend(known, Change("k", Action.RESOLVE, NOON + MINUTE), PLACE, 1)
    stepping = ledger.telling(ledger.next_step(known), None)
    amid_a_step = ledger.intend(stepping, Change("k", Action.RESOLVE, NOON + MINUTE), PLACE, 1)
    assert (stepping.status, stepping.next_at) == (Status.INTENDED, ledger.STEPPING)
    assert resolving is not None
    assert amid_a_step is not None
    assert resolving.action is amid_a_step.action is Action.RESOLVE

    for after in (ledger.acknowledge(known), resolving, told(resolving), amid_a_step, told(amid_a_step)):
        assert after.next_at == 0
        assert ledger.waited(after, NOON + 60 * MINUTE) is None
        assert not ledger.is_unanswered(after, NOON + 60 * MINUTE)
        assert ledger.waited(replace(after, status=Status.OPEN), NOON + 60 * MINUTE) is None


@pytest.mark.requirement("M5.5")
def test_a_row_says_that_it_is_acknowledged_and_never_by_whom() -> None:
    known = ledger.acknowledge(raised())
    as_it_was = json.dumps(known.to_json() | {"acknowledged": "grace.hopper@example.com"})

    assert known.to_json()["acknowledged"] is True
    assert Incident.from_json(json.loads(as_it_was)) == known


def test_a_step_that_was_interrupted_is_sent_again_as_the_same_step() -> None:
    stepping = ledger.telling(ledger.next_step(raised()), None)
    row = Incident.from_json(json.loads(json.dumps(stepping.to_json())))

    assert row == stepping
    assert ledger.waited(row, NOON) == row
    assert row.labels == {"severity": "error", "escalation_step": "2", "notify": "web,sre-lead"}


def test_a_step_after_a_long_stop_still_gives_its_people_their_time() -> None:
    late = NOON + 300 * MINUTE
    second = told(ledger.next_step(raised()), now=late)

    assert second.next_at == late + 15 * MINUTE


def test_news_of_an_incident_takes_no_step_and_moves_none() -> None:
    known = raised()
    grown = Change("k", Action.TRIGGER, NOON + MINUTE, "error", "it failed", ABOUT | {"alerts": "7"})
    intended = ledger.intend(known, grown, PLACE, 1)
    assert intended is not None
    after = told(intended, now=NOON + MINUTE)

    assert (after.step, after.next_at, after.told) == (1, known.next_at, known.told)


def test_an_incident_that_becomes_graver_begins_anew_though_somebody_has_taken_it() -> None:
    grave = policies(SHOP, escalation(severities=["error"]), escalation("grave", severities=["critical"]))
    known = ledger.acknowledge(raised(grave))
    graver = ledger.intend(known, Change("k", Action.TRIGGER, NOON, "critical", "down", ABOUT), PLACE, 1)
    assert graver is not None
    after = told(graver, grave)

    assert after.plan is not None
    assert (after.plan.policy, after.step, after.acknowledged) == ("escalation/grave/1", 1, False)
    assert [labels["severity"] for labels in after.told] == ["error", "critical"]


def test_an_end_names_everything_that_was_told() -> None:
    second = told(ledger.next_step(raised()))
    resolving = ledger.intend(second, Change("k", Action.RESOLVE, NOON + MINUTE), PLACE, 1)
    assert resolving is not None

    assert resolving.told == (
        {"severity": "error", "escalation_step": "1", "notify": "ada"},
        {"severity": "error", "escalation_step": "2", "notify": "web,sre-lead"},
    )


def test_the_policy_of_the_incidents_day_counts() -> None:
    before = escalation(levels=[{"notify": ["old"]}])
    after = escalation(levels=[{"notify": ["new"]}]) | {"version": 2, "effective_from": "2026-11-03T00:00:00Z"}
    versions = Versions().with_documents(document.read(one, SHARED) for one in (before, after))
    plans = [plan_for(ABOUT, "error", versions.at(at)) for at in (NOON, NOON + 24 * 60 * MINUTE)]

    assert [plan and (plan.policy, plan.step(1).notify) for plan in plans] == [
        ("escalation/production/1", ("old",)),
        ("escalation/production/2", ("new",)),
    ]


@pytest.mark.parametrize(
    ("about", "severity", "notify"),
    [
        (ABOUT, "error", ("ada",)),
        ({**ABOUT, "deployer": ""}, "error", ("web",)),  # who is not known: the team
        ({**ABOUT, "deployer": "", "service": "unowned"}, "error", ()),  # the receiver's own route
        ({**ABOUT, "deployer": "", "service": "unowned", "team": "said"}, "error", ("said",)),
        (ABOUT, "warning", None),
        ({**ABOUT, "environment": "staging"}, "error", None),
    ],
)
def test_who_is_told_first(about: dict[str, str], severity: str, notify: tuple[str, ...] | None) -> None:
    plan = plan_for(about, severity, USUAL)

    assert (plan.step(1).notify if plan else None) == notify


def test_the_scope_of_a_policy_is_asked_for_team_and_tier() -> None:
    web = escalation("web", scope={"teams": ["web"], "tiers": ["1"]}, levels=[{"notify": ["web-oncall"]}])
    plan = plan_for(ABOUT, "error", policies(SHOP, escalation(), web))

    assert plan is not None
    assert plan.policy == "escalation/web/1"


def test_a_page_waits_for_its_deployer_only_where_a_level_names_him() -> None:
    unknown = ABOUT | {"deployer": ""}

    assert misses_deployer(unknown, "error", USUAL)
    assert not misses_deployer(ABOUT, "error", USUAL)
    assert not misses_deployer(unknown, "warning", USUAL)
    assert not misses_deployer(unknown, "error", policies(escalation(levels=[{"notify": ["team"]}])))


def test_people_of_a_finding_are_those_that_records_named() -> None:
    people = People()
    record = {"deployment_id": "shop-1", "deployer": "ada", "team": "", "tier": "1", "kind": "release"}
    people.learn(record)
    people.learn(record | {"deployer": "", "team": "web"})

    assert people.about({"deployment_id": "shop-1", "service": "shop"}) == {
        "deployment_id": "shop-1", "service": "shop", "deployer": "ada", "team": "web", "tier": "1", "kind": "release",
    }  # fmt: skip
    assert people.about({"service": "shop"}) == {"service": "shop"}
