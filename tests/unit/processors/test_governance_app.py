"""The governance app over tables in memory: it says things once, again at a redelivery, and takes them back."""

from __future__ import annotations

from typing import Any, cast

import pytest
from deploytrail_processors.apps.governance import MOST_A_DAY, Governance
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.records import RecordType
from support.apps import Handled
from support.processors import MemoryContext
from support.values import MINUTE, NOON, approval, event

EU = 1
DAY = 24 * 60 * MINUTE
TICKETED = {
    "kind": "required_fields",
    "name": "business",
    "spec": {"fields": ["sprint"], "heal": {"sprint": ["feature_ticket"]}},
}


def app_of(*documents: dict[str, Any]) -> tuple[Governance, MemoryContext]:
    context = MemoryContext(Policies(tuple(map(read_document, documents))))
    return Governance(cast("Any", context)), context


def report(app: Governance, *records: dict[str, Any]) -> None:
    for record in records:
        kind = RecordType.DEPLOYMENT_EVENT if "event_id" in record else RecordType.APPROVAL
        app.on_record(EU, kind, record)


def tick(app: Governance, context: MemoryContext, now: int) -> None:
    context.now = now
    app.on_tick(EU, now)


def said(context: MemoryContext) -> list[tuple[str, str, str]]:
    return [(found["rule"], found["reason"], found["deployment_id"]) for _, _, found in context.forwarded]


def standing(context: MemoryContext) -> dict[str, dict[str, Any]]:
    """The findings that no other one supersedes."""
    found = {f["finding_id"]: f for _, _, f in context.forwarded}
    for one in list(found.values()):
        found.pop(one.get("supersedes", ""), None)
    return found


@pytest.mark.requirement("M2.4")
def test_an_unmapped_name_is_said_once_a_day_and_again_at_a_redelivery() -> None:
    app, context = app_of()
    first = event("started", environment="moon")
    report(
        app,
        first,
        event("succeeded", NOON + MINUTE, environment="moon"),
        event("started", deployment_id="b-1", service="b", environment="moon"),
    )
    assert said(context) == [("unmapped_name", "unknown_environment", "shop-1")]

    report(app, first)
    assert len(context.forwarded) == 2
    assert context.forwarded[0] == context.forwarded[1]

    context.now = NOON + DAY
    report(app, event("started", NOON + DAY, environment="moon", deployment_id="next"))
    assert said(context)[2:] == [("unmapped_name", "unknown_environment", "next")]


def test_a_flood_of_names_is_bounded() -> None:
    app, context = app_of()
    report(app, *(event("started", NOON + n, environment=f"moon{n}") for n in range(MOST_A_DAY + 50)))

    assert len(context.forwarded) == MOST_A_DAY
    assert len(context.tables["daily"]) == 1


@pytest.mark.requirement("M3.6")
def test_a_quarantined_deployment_is_healed_when_its_ticket_tells_the_sprint() -> None:
    app, context = app_of(TICKETED)
    report(app, event("started", feature_ticket="SHOP-1"))
    assert said(context) == [("required_fields", "fields_missing", "shop-1")]

    told = event("started", NOON + MINUTE, deployment_id="cart-2", service="cart", feature_ticket="SHOP-1", sprint="S9")
    report(app, told)
    [found] = standing(context).values()
    assert (found["deployment_id"], found["reason"]) == ("shop-1", "healed")
    assert found["evidence"]["healed_by"] == "sprint=S9 of feature_ticket SHOP-1"

    before = len(context.forwarded)
    report(app, told)  # a redelivery: what it healed is said again, and nothing else
    assert len(context.forwarded) == before + 1
    assert list(standing(context).values()) == [found]


@pytest.mark.requirement("M3.6")
def test_a_sprint_that_was_told_before_heals_at_once() -> None:
    app, context = app_of(TICKETED)
    report(app, event("started", NOON, deployment_id="cart-2", feature_ticket="SHOP-1", sprint="S9"))
    report(app, event("started", feature_ticket="SHOP-1"))

    assert context.forwarded == []


APPROVED = (
    {"kind": "regime", "name": "sox", "spec": {"controls": ["approved"]}},
    {"kind": "service", "name": "shop", "spec": {"regimes": ["sox"]}},
)
STARTED = event("started", deployer="dora", artifact_digest="sha256:a")


def approved(at: int = NOON - MINUTE, **fields: Any) -> dict[str, Any]:
    return approval("approved", at, **({"approver": "ada", "artifact_digest": "sha256:a"} | fields))


@pytest.mark.requirement("M1.5")
def test_an_approval_closes_the_gap_of_a_regime() -> None:
    app, context = app_of(*APPROVED)
    report(app, STARTED, approved())

    assert said(context) == [("regime", "controls_missing", "shop-1"), ("regime", "healed", "shop-1")]


@pytest.mark.requirement("M1.5", "M5.3")
@pytest.mark.parametrize(
    "bad",
    [
        approved(NOON + MINUTE),
        approved(approver="dora"),
        approved(approver=""),
        approved(artifact_digest="sha256:b"),
        approved(artifact_digest=""),
        approved(valid_until=NOON - 1),
    ],
)
def test_an_approval_that_does_not_count_closes_no_gap(bad: dict[str, Any]) -> None:
    app, context = app_of(*APPROVED)
    report(app, STARTED, bad)
    [stands] = standing(context).values()

    assert stands["reason"] == "controls_missing"


@pytest.mark.requirement("M1.5")
def test_an_approval_that_is_withdrawn_before_the_start_opens_the_gap_again() -> None:
    app, context = app_of(*APPROVED)
    report(app, approved(NOON - 2 * MINUTE), STARTED, approval("revoked", NOON - MINUTE, approver="ada"))
    [stands] = standing(context).values()

    assert stands["reason"] == "controls_missing"


@pytest.mark.requirement("M1.5")
def test_an_approval_of_the_ticket_that_it_was_registered_with_counts() -> None:
    app, context = app_of(*APPROVED)
    registered = approval(
        "registered", NOON - 3 * MINUTE, change_ticket="CHG-1", artifact_digest="sha256:a", tags={"deployer": "dora"}
    )
    report(app, registered, STARTED, approved(deployment_id="", change_ticket="CHG-1"))

    assert said(context) == [("regime", "controls_missing", "shop-1"), ("regime", "healed", "shop-1")]


def test_an_approval_that_comes_first_counts_when_the_deployment_comes() -> None:
    app, context = app_of(*APPROVED)
    report(app, approved(), STARTED)

    assert context.forwarded == []


@pytest.mark.requirement("M1.6")
def test_a_budget_is_judged_at_ticks_and_taken_back_when_its_time_has_passed() -> None:
    app, context = app_of({"kind": "velocity", "name": "usual", "spec": {"budget": 2, "budget_minutes": 60}})
    tick(app, context, NOON - MINUTE)
    report(app, *(event("started", NOON + n * MINUTE, deployment_id=f"d{n}") for n in range(3)))
    assert context.forwarded == []  # not before partition time says so

    tick(app, context, NOON + MINUTE)
    assert context.forwarded == []
    tick(app, context, NOON + 3 * MINUTE)
    assert said(context) == [("change_budget", "over_budget", "d2")]
    for minute in range(4, 60):
        tick(app, context, NOON + minute * MINUTE)
    # Once more, and no more: the first tick may have been that of a crash.
    assert said(context) == [("change_budget", "over_budget", "d2")] * 2
    tick(app, context, NOON + 60 * MINUTE)
    assert said(context)[2:] == [("change_budget", "within_budget_again", "")]
    [found] = standing(context).values()
    assert found["evidence"]["count"] == "2"


BURST = {"kind": "velocity", "name": "usual", "spec": {"burst": 3, "burst_minutes": 10}}


def found_in(context: MemoryContext) -> list[dict[str, Any]]:
    """The findings, each once: a tick says once more what the one before it said."""
    return list({one["finding_id"]: one for _, _, one in context.forwarded}.values())


def hectic(delay: int, *, every: float = 1.0, count: int = 5, ticks: int = 90) -> list[tuple[str, str]]:
    """What is said of deployments a minute apart that are reported so many minutes late, at ticks of 5 s."""
    app, context = app_of(BURST)
    began = [event("started", NOON + int(n * every * MINUTE), deployment_id=f"d{n}") for n in range(count)]
    due = {one["corrected_at"] + delay * MINUTE: one for one in began}
    for at in range(NOON - MINUTE, NOON + ticks * MINUTE, MINUTE // 12):
        if at in due:
            report(app, due[at])
        tick(app, context, at)
    return [(found["verdict"], found["reason"]) for found in found_in(context)]


@pytest.mark.requirement("M1.6")
@pytest.mark.parametrize("delay", [0, 3, 8, 10, 30, 80])
def test_a_burst_is_found_however_late_it_is_reported(delay: int) -> None:
    assert hectic(delay) == [("violation", "burst_of_changes"), ("ok", "burst_over")]
    assert hectic(delay, every=6) == []


@pytest.mark.requirement("M1.6")
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 4, 0, 3, 1)])
@pytest.mark.parametrize("between", [True, False])
def test_a_burst_that_is_told_in_any_order_is_one(order: tuple[int, ...], between: bool) -> None:
    app, context = app_of(BURST)
    for number, which in enumerate(order):
        report(app, event("started", NOON + which * MINUTE, deployment_id=f"d{which}"))
        if between:
            tick(app, context, NOON + (60 + number) * MINUTE)
    tick(app, context, NOON + 70 * MINUTE)
    violation, over = found_in(context)

    assert (violation["verdict"], over["verdict"]) == ("violation", "ok")
    assert over["supersedes"] == violation["finding_id"]
    assert violation["evidence"]["count"] == ("3" if between else "5")
    assert violation["occurred_at"] <= NOON + 4 * MINUTE


def test_a_late_burst_beside_one_that_stands_is_another_one_and_a_redelivery_says_it_again() -> None:
    app, context = app_of(BURST)
    report(app, *(event("started", NOON + (60 + n) * MINUTE, deployment_id=f"now{n}") for n in range(3)))
    tick(app, context, NOON + 63 * MINUTE)
    late = [event("started", NOON + n * MINUTE, deployment_id=f"then{n}") for n in range(3)]
    report(app, *late)
    tick(app, context, NOON + 64 * MINUTE)

    found = found_in(context)
    assert [(one["reason"], one["deployment_id"]) for one in found] == [
        ("burst_of_changes", "now2"),
        ("burst_of_changes", "then2"),
        ("burst_over", ""),
    ]
    before = len(context.forwarded)
    report(app, late[2])
    assert [one for _, _, one in context.forwarded[before:]] == [found[1], found[2], found[0]]
    tick(app, context, NOON + 73 * MINUTE)
    assert found_in(context)[-1]["supersedes"] == found[0]["finding_id"]


def test_a_late_burst_is_judged_by_the_policy_of_its_day() -> None:
    began = [event("started", NOON + n * MINUTE, deployment_id=f"d{n}") for n in range(3)]
    later = Handled(Governance, [BURST | {"effective_from": "2026-11-02T13:00:00Z"}])
    sooner = Handled(Governance, [BURST | {"effective_from": "2026-11-02T12:00:00Z"}])
    now = [{"tick": NOON + 90 * MINUTE}]

    assert later.tell(*began, *now).findings == []
    assert len(sooner.tell(*began, *now).findings) == 2


def test_a_late_start_does_not_judge_what_came_later_by_the_policy_of_its_own_day() -> None:
    wider = BURST | {"version": 2, "effective_from": "2026-11-02T13:00:00Z", "spec": BURST["spec"] | {"burst": 9}}
    app = Handled(Governance, [BURST, wider])
    app.tell(*(event("started", NOON + (180 + n) * MINUTE, deployment_id=f"d{n}") for n in range(5)))
    app.tell(tick_at(190), event("started", NOON + MINUTE, deployment_id="late"), tick_at(300))

    assert app.findings == []


def test_what_is_yet_to_begin_is_found_though_no_tick_comes_while_it_would_count() -> None:
    app = Handled(Governance, [BURST]).tell(tick_at(0))
    app.tell(*(event("started", NOON + (20 + n) * MINUTE, deployment_id=f"d{n}") for n in range(3)))
    app.tell(event("started", NOON - 20 * MINUTE, deployment_id="before"), tick_at(1), tick_at(90))

    assert [one["reason"] for one in app.findings] == ["burst_of_changes", "burst_over"]


def test_a_word_that_takes_back_what_nobody_reports_is_forgotten_and_not_judged_until_then() -> None:
    app = Handled(Governance, [BURST]).tell(event("voided"), tick_at(1))
    rows = app.tables["services"]
    judged = dict(rows)
    app.tell(tick_at(2), tick_at(3))

    assert dict(rows) == judged
    assert list(app.tell(tick_at(32 * 24 * 60)).tables["services"]) == []


def tick_at(minute: int) -> dict[str, Any]:
    return {"tick": NOON + minute * MINUTE}


def test_state_goes_when_its_time_is_over() -> None:
    app, context = app_of(TICKETED, {"kind": "velocity", "name": "usual", "spec": {"budget": 1}})
    report(app, event("started", feature_ticket="SHOP-1"))
    tick(app, context, NOON + MINUTE)
    assert {name: len(table) for name, table in context.tables.items()} == {
        "deployments": 1,
        "names": 1,
        "tickets": 1,
        "approvals": 0,
        "approved_tickets": 0,
        "services": 1,
        "daily": 0,
    }

    tick(app, context, NOON + 400 * DAY)
    assert {name: len(table) for name, table in context.tables.items()} == dict.fromkeys(context.tables, 0)
