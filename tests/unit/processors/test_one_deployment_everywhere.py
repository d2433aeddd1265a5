"""Every app that judges deployments sees one, whatever names it was reported under, and finds nothing twice."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from deploytrail_processors.apps.approval import Approval
from deploytrail_processors.apps.change_window import ChangeWindow
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.apps.governance import Governance
from deploytrail_processors.apps.impact import Impact
from deploytrail_processors.apps.overdue import Overdue
from deploytrail_processors.apps.rollback_verification import Verification
from deploytrail_processors.apps.success_criteria import Success
from deploytrail_processors.apps.suppression import Suppress
from deploytrail_processors.rules.policies import Policies, PolicySet, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from support.processors import MemoryContext
from support.values import MINUTE, NOON, SECOND, event, signal

Event = dict[str, Any]
DAY = 24 * 60 * MINUTE
RUN = {"build_system": "github_actions", "build_id": "77"}
STARTED = event("started", NOON, deployment_id="lib", **RUN)
HOOK = event("started", NOON + SECOND, deployment_id="github:5", source="github", **RUN)
SYNC = event("started", NOON + MINUTE, deployment_id="argocd:1", source="argocd", parent_deployment_id="github:5")
ENDED = event("succeeded", NOON + 2 * MINUTE, deployment_id="github:5", source="github")
# An alert that had fired before, so that a deployment may keep it quiet.
EARLIER = signal(at=NOON - 60 * MINUTE, severity="error")
ALERT = signal(at=NOON + MINUTE + 30 * SECOND, severity="error")
BEFORE = [event(kind, NOON - 50 * MINUTE, deployment_id="before", version="1") for kind in ("started", "succeeded")]
UNDO = [one | {"kind": "rollback", "rollback_of": "before", "version": "0"} for one in (STARTED, HOOK, SYNC, ENDED)]
SPECS = {
    "change_window": {"effect": "deny", "zone": "UTC", "start": "2026-11-02T00:00", "duration": "PT23H"},
    "thresholds": {"overdue_after_minutes": 30},
    "suppression": {"severities": ["error"]},
    "success_criteria": {"observe_minutes": 5},
    "required_fields": {"fields": ["change_ticket", "feature_ticket"]},
    "velocity": {"burst": 1, "burst_minutes": 30},
    "service": {"team": "retail", "depends_on": ["cart"]},
}


def policies() -> Policies:
    names = {"thresholds": "default", "service": "shop"}
    documents = [{"kind": kind, "name": names.get(kind, "all"), "spec": spec} for kind, spec in SPECS.items()]
    return PolicySet().with_documents(map(read_document, documents)).at(NOON)


def told(make: Any, records: list[Event], ticks: tuple[int, ...]) -> list[Event]:
    """Findings of an app to which a trail is told, with ticks behind it."""
    context = MemoryContext(policies())
    context.now = NOON - 2 * 60 * MINUTE
    app = make(context)
    for one in records:
        app.on_record(1, RecordType.SIGNAL if "signal_id" in one else RecordType.DEPLOYMENT_EVENT, one)
    for now in ticks:
        context.now = now
        app.on_tick(1, now)
    return [value for _, _, value in context.forwarded if encode(RecordType.FINDING, value)]


def standing(findings: list[Event]) -> set[tuple[str, ...]]:
    """What stands in the end, by the order on the topic and by what supersedes what, which must agree."""
    newest = {(f["rule"], f.get("signal_id", ""), f.get("deployment_id", "")): f for f in findings}
    left = {key: f for key, f in newest.items() if f["reason"] not in ("same_deployment", "another_name_of_one")}
    superseded = {f.get("supersedes") for f in findings}

    assert not any(f["finding_id"] in superseded for f in left.values())
    return {(*key, f["verdict"], f["reason"]) for key, f in left.items()}


APPS: dict[str, tuple[Any, list[Event], tuple[int, ...], int]] = {
    "change_window": (ChangeWindow, [STARTED, HOOK, SYNC, ENDED], (), 1),
    "overdue": (Overdue, [STARTED, HOOK, SYNC], (NOON + 31 * MINUTE, NOON + 62 * MINUTE), 1),
    "approval": (Approval, [STARTED, HOOK, SYNC, ENDED], (NOON + 5 * MINUTE,), 1),
    "impact": (Impact, [STARTED, HOOK, SYNC, ENDED], (), 1),
    "success_criteria": (Success, [STARTED, HOOK, SYNC, ENDED], (NOON + 60 * MINUTE,), 1),
    "rollback_verification": (Verification, UNDO, (NOON + 60 * MINUTE, NOON + 61 * MINUTE), 1),
}


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("name", APPS)
def test_one_deployment_is_judged_once_in_whatever_order_its_names_came(name: str) -> None:
    make, events, ticks, expected = APPS[name]
    found = {frozenset(standing(told(make, list(order), ticks))) for order in itertools.permutations(events)}

    assert len(found) == 1
    [stands] = found
    assert {key[2] for key in stands} == {"lib"}
    assert len({key[:3] for key in stands}) >= expected


@pytest.mark.parametrize("name", APPS)
def test_what_was_found_under_another_name_is_taken_back(name: str) -> None:
    make, events, ticks, _ = APPS[name]
    hook, rest = (
        [one for one in events if one["source"] == "github"],
        [one for one in events if one["source"] != "github"],
    )
    if len(hook) == 1 and name != "overdue":
        hook = [*hook, ENDED]
    context = MemoryContext(policies())
    context.now = NOON - 2 * 60 * MINUTE
    app = make(context)
    for one in hook:
        app.on_record(1, RecordType.DEPLOYMENT_EVENT, one)
    for now in ticks:
        context.now = now
        app.on_tick(1, now)
    early = {f["deployment_id"] for _, _, f in context.forwarded}
    for one in rest:
        app.on_record(1, RecordType.DEPLOYMENT_EVENT, one)
    for now in ticks:
        context.now = now + DAY // 24
        app.on_tick(1, context.now)
    findings = [value for _, _, value in context.forwarded]

    assert early == {"github:5"}
    assert {key[2] for key in standing(findings)} == {"lib"}


@pytest.mark.requirement("M4.2")
def test_an_alert_has_one_cause_whatever_names_it_was_reported_under() -> None:
    answers = set()
    for order in itertools.permutations([STARTED, HOOK, SYNC, ALERT]):
        findings = told(Correlation, [*order, ENDED], ())
        newest = {f["deployment_id"]: f for f in findings}
        answers.add(frozenset((d, round(f["probability"], 9)) for d, f in newest.items() if f["probability"]))

    assert len(answers) == 1
    assert {d for d, _ in next(iter(answers))} == {"", "lib"}


def test_an_alert_kept_quiet_under_another_name_stays_so_and_is_released_once() -> None:
    quiet = told(Suppress, [EARLIER, HOOK, ALERT, STARTED], ())
    ended = told(Suppress, [EARLIER, HOOK, ALERT, STARTED, ENDED], ())
    about = ALERT["signal_id"]

    assert {key[2:] for key in standing(quiet) if key[1] == about} == {("lib", "ok", "suppressed_during_deployment")}
    assert {key[2:] for key in standing(ended) if key[1] == about} == {("lib", "ok", "released_at_end")}
    assert standing(told(Suppress, [EARLIER, HOOK, STARTED, ALERT, ENDED], ())) == standing(ended)


@pytest.mark.requirement("M1.6", "M3.6")
def test_what_governs_deployments_counts_one_and_asks_one() -> None:
    events = [STARTED | {"change_ticket": "CHG-1"}, HOOK | {"feature_ticket": "F-1"}, SYNC]
    early = told(Governance, [HOOK], ())

    # One has the ticket, the other the feature: nothing is missing of the deployment, and one start is no burst.
    for order in itertools.permutations(events):
        stands = standing(told(Governance, list(order), (NOON + 5 * MINUTE, NOON + 6 * MINUTE)))

        assert {key[2:] for key in stands} <= {("lib", "ok", "healed")}
    assert [f["deployment_id"] for f in early if f["rule"] == "required_fields"] == ["github:5"]


def test_an_id_that_stands_for_itself_again_is_judged_anew() -> None:
    apart = event("amended", NOON + 3 * MINUTE, deployment_id="github:5", source="github", build_id="78")
    findings = told(ChangeWindow, [STARTED, HOOK, apart, ENDED], ())

    assert {key[2] for key in standing(findings)} == {"lib", "github:5"}
