"""The change_window app's own handler, over tables in memory: records and ticks in any order, findings out."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.apps.approvals import MOST_STEPS
from deploytrail_processors.apps.base import MemoryContext
from deploytrail_processors.apps.change_window import ChangeWindow
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from support.apps import Handled, tick
from support.values import MINUTE, NOON, approval, event

HOUR = 60 * MINUTE
CLOSE = NOON + 4 * HOUR
POLICIES = (
    {"kind": "change_window", "name": "weekdays", "spec": {
        "effect": "allow", "zone": "Europe/Berlin", "start": "2026-01-05T09:00", "duration": "PT8H",
        "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", "overrun": "violation"}},
    {"kind": "break_glass", "name": "hotfixes", "spec": {"scope": {"kinds": ["hotfix"]}}},
)  # fmt: skip
NIGHT = NOON + 9 * HOUR


class Harness:
    """What the handler is given besides the stream: tables, policies, outputs."""

    def __init__(self, *more: dict[str, Any]) -> None:
        self.written: list[dict[str, Any]] = []
        policies = PolicySet().with_documents(map(read_document, (*POLICIES, *more)))
        self.context = MemoryContext(
            "change_window", Settings(), policies, lambda *record: self.written.append(record[-1])
        )
        self.context.keep_time()
        self.handler = ChangeWindow(self.context)

    def tell(self, *values: dict[str, Any]) -> None:
        for value in values:
            kind = RecordType.APPROVAL if "approval_id" in value else RecordType.DEPLOYMENT_EVENT
            self.handler.on_record(1, kind, value)

    def tick(self, now: int) -> None:
        if self.context.advance(1, now):
            self.handler.on_tick(1, now)

    def restart(self) -> None:
        """The same tables under a new handler, as after a crash."""
        self.handler = ChangeWindow(self.context)
        self.handler.on_recovered()

    def standing(self) -> set[tuple[str, str, str, str]]:
        """Findings that nothing supersedes: deployment, rule, verdict, reason."""
        gone = {f.get("supersedes") for f in self.written}
        left = [f for f in self.written if f["finding_id"] not in gone]
        return {(f["deployment_id"], f["rule"], f["verdict"], f["reason"]) for f in left}


def hotfix(event_type: str, at: int = NIGHT, deployment_id: str = "fix", **fields: Any) -> dict[str, Any]:
    return event(event_type, at, deployment_id=deployment_id, kind="hotfix", deployer="ada", change_ticket="CHG-7",
                 **fields)  # fmt: skip


def emergency(approval_type: str = "approved", at: int = NIGHT - 10 * MINUTE, **fields: Any) -> dict[str, Any]:
    usual = {"deployment_id": "fix", "approver": "grace", "emergency": True, "justification": "down",
             "valid_until": NIGHT + HOUR}  # fmt: skip
    return approval(approval_type, at, **usual | fields)


PASSED = {("fix", "change_window", "ok", "break_glass")}


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("about", [{}, {"deployment_id": "", "change_ticket": "CHG-7"}])
def test_a_late_approval_reopens_the_verdict_and_supersedes_it(about: dict[str, str]) -> None:
    app = Harness()
    app.tell(hotfix("started"), hotfix("succeeded", NIGHT + MINUTE))
    before = app.standing()
    app.tell(emergency(**about))

    assert before == {("fix", "change_window", "violation", "outside_allowed_windows")}
    assert app.standing() == PASSED
    assert app.written[-1]["policy_version"] == "change_window/weekdays/1, break_glass/hotfixes/1"
    assert app.written[-1]["supersedes"] == app.written[0]["finding_id"]


@pytest.mark.requirement("M4.2")
def test_every_order_and_repetition_gives_the_same_standing_findings() -> None:
    told = [
        hotfix("started"),
        hotfix("succeeded", NIGHT + MINUTE),
        emergency(deployment_id="", change_ticket="CHG-7"),
        emergency(approver="ada", at=NIGHT - MINUTE),
        emergency("revoked", at=NIGHT + 5 * MINUTE, deployment_id="", change_ticket="CHG-7"),
    ]
    for order in permutations(told):
        app = Harness()
        app.tell(*order, *order)
        assert app.standing() == PASSED


@pytest.mark.requirement("M4.2")
def test_an_answer_that_comes_back_is_not_taken_for_the_one_that_was_superseded() -> None:
    first, second = sorted((emergency(at=NIGHT - n * MINUTE) for n in (10, 5)), key=lambda a: str(a["approval_id"]))
    app = Harness()
    app.tell(hotfix("started"), second, first)
    app.tell(emergency("revoked", at=NIGHT - MINUTE), emergency(at=NIGHT - MINUTE + 1, approver="linus"))

    assert app.standing() == PASSED
    assert len({f["finding_id"] for f in app.written}) == len(app.written)


def test_an_overrun_is_decided_by_the_tick_that_is_due() -> None:
    app = Harness()
    app.tick(NOON)
    app.tell(event("started", NOON, deployment_id="slow"))
    app.tick(CLOSE - 1)
    assert app.standing() == {("slow", "change_window", "ok", "inside_allowed_window")}
    app.restart()
    app.tick(CLOSE)
    overrun = app.standing() - {("slow", "change_window", "ok", "inside_allowed_window")}
    count = len(app.written)
    app.tick(CLOSE + HOUR)

    assert overrun == {("slow", "change_window_overrun", "violation", "still_running_after_close")}
    assert len(app.written) == count
    app.tell(event("succeeded", CLOSE - MINUTE, deployment_id="slow"))
    assert app.standing() - overrun == {
        ("slow", "change_window", "ok", "inside_allowed_window"),
        ("slow", "change_window_overrun", "ok", "ended_before_close"),
    }


def test_an_overrun_whose_output_a_crash_took_is_written_again() -> None:
    app = Harness()
    app.tick(NOON)
    app.tell(event("started", NOON, deployment_id="slow"))
    app.tick(CLOSE)
    found = app.written.pop()
    app.restart()
    app.tick(CLOSE)  # delivered again, and old by now
    app.tick(CLOSE + MINUTE)
    again = [f for f in app.written if f["rule"] == "change_window_overrun"]
    app.tick(CLOSE + 2 * MINUTE)

    assert again == [found]
    assert [f for f in app.written if f["rule"] == "change_window_overrun"] == again
    app.restart()
    app.tick(CLOSE + 48 * HOUR)
    assert [f for f in app.written if f["rule"] == "change_window_overrun"] == again


def test_a_voided_deployment_is_looked_at_no_more() -> None:
    app = Harness()
    app.tell(event("started", NOON, deployment_id="slow"), event("voided", NOON + 1, deployment_id="slow"))
    count = len(app.written)
    app.tick(CLOSE + HOUR)

    assert len(app.written) == count


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_a_warning_of_a_deployment_that_was_none_is_taken_back(environment: str) -> None:
    office = {"effect": "allow", "zone": "UTC", "start": "2026-11-02T09:00", "end": "2026-11-02T12:30"}
    warns = {"kind": "change_window", "name": "office", "spec": office | {"overrun": "warn"}}
    told = Handled(ChangeWindow, [warns]).tell(event("started", environment=environment), tick(NOON + HOUR))
    before = [f["reason"] for f in told.standing if f["rule"] == "change_window_overrun"]
    told.tell(event("voided", NOON + HOUR, environment=environment))

    assert before == ["still_running_after_close"]
    assert {f["rule"]: f["reason"] for f in told.standing} == {
        "change_window": "inside_allowed_window",
        "change_window_overrun": "deployment_voided",
    }


def test_what_a_void_took_back_is_told_again_where_a_crash_took_it() -> None:
    app = Harness()
    app.tell(event("started", NIGHT), event("voided", NIGHT + 1))
    taken_back = app.written.pop()
    app.restart()
    app.tell(event("voided", NIGHT + 1))

    assert taken_back["reason"] == "deployment_voided"
    assert app.written[-1] == taken_back


def test_a_redelivery_writes_the_same_again() -> None:
    app = Harness()
    app.tell(hotfix("started"), emergency())
    last = app.written[-1]
    app.restart()
    app.tell(emergency())

    assert app.written[-1] == last


def test_approvals_that_can_let_nothing_pass_are_not_kept() -> None:
    app = Harness()
    app.tell(approval("approved", deployment_id="fix"), approval("requested", deployment_id="fix", emergency=True))
    app.tell(emergency(deployment_id="", change_ticket=""))

    assert app.context.tables["approvals"] == {}


def test_what_is_kept_of_one_ticket_is_bounded_and_the_latest_stays() -> None:
    app = Harness()
    for n in range(MOST_STEPS + 50):
        app.tell(emergency(deployment_id="", change_ticket="CHG-7", approver=f"a{n}", at=NIGHT - HOUR + n))
    [row] = app.context.tables["tickets"].values()

    assert {step["approver"] for step in row["steps"].values()} == {f"a{n}" for n in range(50, MOST_STEPS + 50)}


def test_what_has_been_quiet_for_long_is_forgotten() -> None:
    app = Harness()
    app.tell(hotfix("started"), emergency(), emergency(deployment_id="", change_ticket="CHG-7"))
    assert [len(app.context.tables[name]) for name in ("approvals", "tickets")] == [1, 1]
    app.tick(NIGHT + 89 * 24 * HOUR)
    assert [len(app.context.tables[name]) for name in ("approvals", "tickets")] == [1, 1]
    app.tick(NIGHT + 91 * 24 * HOUR)

    assert app.context.tables["approvals"] == app.context.tables["tickets"] == {}
    assert app.context.tables["deployments"] == {}


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("kind", ["feature_flag", "configuration_change"])
def test_a_switch_of_which_only_its_end_is_reported_is_judged_by_that(kind: str) -> None:
    told = Harness()
    told.tell(event("succeeded", NIGHT, kind=kind))

    assert [(f["verdict"], f["reason"], f["occurred_at"]) for f in told.written] == [
        ("violation", "outside_allowed_windows", NIGHT)
    ]
    # When a release of which only the end is known began, nobody can tell.
    other = Harness()
    other.tell(event("succeeded", NIGHT, kind="release"))
    assert other.written == []


def test_severity_asks_policy_which_environments_are_production_on_that_day() -> None:
    flag = {"kind": "environment", "name": "live-eu", "version": 2, "effective_from": "2026-11-03T00:00:00Z",
            "spec": {"production": True}}  # fmt: skip
    harness = Harness({"kind": "environment", "name": "live-eu", "spec": {"aliases": ["prod-eu"]}}, flag)
    day = 24 * HOUR
    for name, at in (("before", NIGHT), ("after", NIGHT + day), ("usual", NIGHT)):
        environment = "production" if name == "usual" else "live-eu"
        harness.tell(event("started", at, deployment_id=name, environment=environment))

    assert {f["deployment_id"]: (f["reason"], f["severity"]) for f in harness.written} == {
        "before": ("outside_allowed_windows", "warning"),
        "after": ("outside_allowed_windows", "error"),
        "usual": ("outside_allowed_windows", "error"),
    }


ENDS_BY_ANOTHER = {
    "a newer one": [("newer", "started", 1, {}), ("newer", "succeeded", 2, {})],
    "its rollback": [("undo", "succeeded", 2, {"kind": "rollback", "rollback_of": "shop-1"})],
    "its children": [("child", "succeeded", 2, {"service": "cart", "parent_deployment_id": "shop-1"})],
}


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("others", ENDS_BY_ANOTHER.values(), ids=ENDS_BY_ANOTHER)
def test_what_another_deployment_brought_to_an_end_does_not_run_beyond_the_window(others: list[Any]) -> None:
    def told(*, late: bool) -> set[tuple[str, str, str, str]]:
        harness = Harness()
        harness.tell(event("started", NOON))
        if late:
            harness.tick(CLOSE + MINUTE)
            assert ("shop-1", "change_window_overrun", "violation", "still_running_after_close") in harness.standing()
        for name, kind, hours, fields in others:
            harness.tell(event(kind, NOON + hours * HOUR, deployment_id=name, **fields))
        harness.tick(CLOSE + 2 * MINUTE)
        harness.restart()
        harness.tick(CLOSE + 3 * MINUTE)
        return {one for one in harness.standing() if one[:2] == ("shop-1", "change_window_overrun")}

    assert told(late=False) == set()
    assert told(late=True) == {("shop-1", "change_window_overrun", "ok", "ended_before_close")}


@pytest.mark.requirement("M2.5", "M4.2")
@pytest.mark.parametrize("at", [NIGHT, NIGHT + 12 * HOUR], ids=["outside", "inside"])
def test_a_switch_that_turns_out_to_be_a_release_of_unknown_start_has_its_finding_taken_back(at: int) -> None:
    switched = event("succeeded", at, kind="feature_flag")
    release, switch = (
        event("amended", at + HOUR + n, kind=kind, event_id=f"amended-{n}")
        for n, kind in enumerate(("release", "feature_flag"))
    )
    told = Harness()
    told.tell(switched, release, release)
    back = Harness()
    back.tell(switched, release, switch, switch)
    started = Harness()
    started.tell(switched, release, event("started", at - HOUR, kind="release"))
    voided = Harness()
    voided.tell(switched, release, event("voided", at + 2 * HOUR))

    assert [(f["verdict"], f["reason"]) for f in standing(told)] == [("ok", "start_unknown")]
    assert [f["reason"] for f in standing(back)] == [told.written[0]["reason"]]
    assert [f["reason"] for f in standing(voided)] == ["start_unknown"]
    [judged] = standing(started)
    assert judged["occurred_at"] == at - HOUR
    assert len({f["finding_id"] for f in back.written}) == 3


def standing(harness: Harness) -> list[dict[str, Any]]:
    """Findings that none other supersedes."""
    replaced = {f["supersedes"] for f in harness.written if f.get("supersedes")}
    return list({f["finding_id"]: f for f in harness.written if f["finding_id"] not in replaced}.values())
