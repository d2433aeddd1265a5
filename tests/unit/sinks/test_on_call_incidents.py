"""What pages, what clears, and what a repetition changes: nothing."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.on_call.incidents import Action, Change, changes
from deploytrail_sinks.on_call.ledger import Incident, Status, intend, settle, waited
from deploytrail_sinks.on_call.senders import Alertmanager, Webhook, sender_for
from support.values import MINUTE, NOON, stable_id

FINDINGS, RECORDS = "deploytrail.findings:1", "deploytrail.records:1"


def record(state: str, **fields: Any) -> dict[str, Any]:
    value = {
        "deployment_id": "shop-1",
        "revision": 2,
        "state": state,
        "recorded_at": NOON + MINUTE,
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "version": "4.2.0",
        "finished_at": NOON,
    }
    return decode(encode(RecordType.RECORD, value | fields))[1]


def finding(rule: str, verdict: str, **fields: Any) -> dict[str, Any]:
    value = {
        "finding_id": stable_id(f"{rule}/{verdict}"),
        "rule": rule,
        "verdict": verdict,
        "reason": "r",
        "severity": "error",
        "occurred_at": NOON,
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "deployment_id": "shop-1",
        "explanation": "shop started outside every allowed change window",
    }
    return decode(encode(RecordType.FINDING, value | fields))[1]


def of_record(state: str, **fields: Any) -> list[tuple[str, Action]]:
    return [(c.key, c.action) for c in changes(RecordType.RECORD, record(state, **fields))]


def of_finding(rule: str, verdict: str, **fields: Any) -> list[tuple[str, Action]]:
    return [(c.key, c.action) for c in changes(RecordType.FINDING, finding(rule, verdict, **fields))]


@pytest.mark.requirement("M4.5")
def test_failed_deployment_in_production_pages() -> None:
    assert of_record("failed")[0] == ("deployment_failed/shop-1", Action.TRIGGER)
    assert of_record("failed", environment="staging") == []


@pytest.mark.parametrize("state", ["succeeded", "rolled_back", "running", "merged"])
def test_what_is_no_longer_failed_clears_the_page(state: str) -> None:
    assert of_record(state)[0] == ("deployment_failed/shop-1", Action.RESOLVE)


def test_deployment_that_ended_is_no_longer_overdue() -> None:
    assert ("overdue/shop-1", Action.RESOLVE) in of_record("succeeded")
    assert ("overdue/shop-1", Action.RESOLVE) in of_record("superseded")
    assert ("overdue/shop-1", Action.RESOLVE) in of_record("merged")
    assert ("overdue/shop-1", Action.RESOLVE) not in of_record("running")
    assert ("overdue/shop-1", Action.RESOLVE) not in of_record("lost")
    assert ("overdue/shop-1", Action.RESOLVE) in of_record("lost", superseded_by="shop-2")


def test_an_alert_stays_held_while_its_deployment_changes_its_name() -> None:
    assert of_finding("alert_suppression", "ok", reason="same_deployment", signal_id="s-1") == []


@pytest.mark.parametrize("rule", ["change_window", "change_window_overrun", "overdue"])
@pytest.mark.parametrize(
    ("verdict", "action"),
    [("violation", Action.TRIGGER), ("ok", Action.RESOLVE), ("inconclusive", Action.RESOLVE)],
)
def test_verdicts_page_and_clear(rule: str, verdict: str, action: Action) -> None:
    assert of_finding(rule, verdict) == [(f"{rule}/shop-1", action)]
    assert of_finding(rule, verdict, environment="staging") == []


def test_likely_cause_of_an_urgent_alert_pages_and_no_cause_does_not() -> None:
    likely = {"signal_id": "s-1", "rank": 1}

    assert of_finding("incident_correlation", "violation", **likely) == [("incident_correlation/s-1", Action.TRIGGER)]
    assert of_finding("incident_correlation", "violation", **likely | {"rank": 2}) == []
    quiet = of_finding("incident_correlation", "violation", **likely, severity="warning")
    assert quiet == [("incident_correlation/s-1", Action.RESOLVE)]
    none = of_finding("incident_correlation", "ok", **likely, deployment_id="")
    assert none == [("incident_correlation/s-1", Action.RESOLVE)]


def trigger(at: int = NOON) -> Change:
    return Change("k", Action.TRIGGER, at, "error", "it failed", {"service": "shop"})


RESOLVE = Change("k", Action.RESOLVE, NOON + MINUTE)


def sent(known: Incident | None, change: Change, place: str, offset: int) -> Incident:
    """The row after a change whose page was answered."""
    intended = intend(known, change, place, offset)
    assert intended is not None
    assert intended.status is Status.INTENDED
    return settle(intended, Status.OPEN if change.action is Action.TRIGGER else Status.RESOLVED, "202")


def test_open_incident_is_not_sent_again() -> None:
    known = sent(None, trigger(), RECORDS, 5)

    assert intend(known, trigger(), RECORDS, 5) is None
    assert intend(known, trigger(), RECORDS, 9) is None
    assert intend(known, trigger(), FINDINGS, 0) is None


def test_interrupted_page_is_sent_again_as_it_was() -> None:
    intended = intend(None, trigger(), RECORDS, 5)

    assert intend(intended, trigger(), RECORDS, 5) == intended


def test_resolve_names_what_was_raised_and_comes_once() -> None:
    known = sent(None, trigger(), RECORDS, 5)
    resolving = intend(known, RESOLVE, RECORDS, 6)

    assert resolving is not None
    assert (resolving.action, resolving.title, resolving.severity) == (Action.RESOLVE, "it failed", "error")
    resolved = settle(resolving, Status.RESOLVED, "202")
    assert intend(resolved, RESOLVE, RECORDS, 7) is None


def test_resolve_of_what_was_never_raised_is_not_sent() -> None:
    assert intend(None, RESOLVE, RECORDS, 6) is None


def test_replay_of_old_changes_sends_nothing() -> None:
    resolved = sent(sent(None, trigger(), RECORDS, 5), RESOLVE, RECORDS, 6)

    assert intend(resolved, trigger(), RECORDS, 5) is None
    assert intend(resolved, RESOLVE, RECORDS, 6) is None


def test_it_can_fail_again_after_it_was_resolved() -> None:
    resolved = sent(sent(None, trigger(), RECORDS, 5), RESOLVE, RECORDS, 6)
    again = intend(resolved, trigger(NOON + 2 * MINUTE), RECORDS, 8)

    assert again is not None
    assert (again.action, again.at) == (Action.TRIGGER, NOON + 2 * MINUTE)


WAITS = Change("k", Action.TRIGGER, NOON, "error", "an alert", {"service": "shop"}, may_wait=True)
DUE = NOON + 3_000_000


def of_alert(*actions: Action) -> Incident | None:
    """The row after changes about an alert that is not critical, read one behind the other; sent ones were answered."""
    known: Incident | None = None
    for offset, action in enumerate(actions):
        change = WAITS if action is Action.TRIGGER else Change("k", action, NOON + offset * MINUTE)
        after = intend(known, change, FINDINGS, offset, wait_until=DUE) or known
        if after is not None and after.status is Status.INTENDED:
            after = settle(after, Status.OPEN if after.action is Action.TRIGGER else Status.RESOLVED, "202")
        known = after
    return known


TRIGGER, RESOLVES, HOLD, LET_GO = Action.TRIGGER, Action.RESOLVE, Action.HOLD, Action.LET_GO


@pytest.mark.requirement("M4.4", "M4.5")
@pytest.mark.parametrize(
    ("actions", "status"),
    [
        ([TRIGGER], Status.WAITING),
        ([TRIGGER, HOLD], Status.SUPPRESSED),
        ([HOLD, TRIGGER], Status.SUPPRESSED),
        ([HOLD, HOLD, TRIGGER, TRIGGER], Status.SUPPRESSED),
        ([TRIGGER, HOLD, LET_GO], Status.OPEN),
        ([HOLD, TRIGGER, LET_GO], Status.OPEN),
        ([TRIGGER, LET_GO], Status.OPEN),
        ([HOLD, LET_GO, TRIGGER], Status.WAITING),
        ([HOLD, LET_GO], Status.RESOLVED),
        ([TRIGGER, RESOLVES], Status.RESOLVED),
        ([TRIGGER, HOLD, RESOLVES], Status.SUPPRESSED),
        ([TRIGGER, HOLD, RESOLVES, LET_GO], Status.RESOLVED),
        ([TRIGGER, HOLD, RESOLVES, TRIGGER, LET_GO], Status.OPEN),
        ([TRIGGER, LET_GO, HOLD], Status.OPEN),
        ([TRIGGER, HOLD, LET_GO, RESOLVES], Status.RESOLVED),
    ],
)
def test_a_page_about_a_suppressed_alert_is_kept_until_it_is_let_go(actions: list[Action], status: Status) -> None:
    found = of_alert(*actions)

    assert found is not None
    assert found.status is status


def test_a_page_that_was_let_go_speaks_of_that_moment() -> None:
    released = of_alert(TRIGGER, HOLD, LET_GO)

    assert released is not None
    assert (released.at, released.title) == (NOON + 2 * MINUTE, "an alert")


def test_a_page_that_waited_long_enough_is_sent_and_so_is_one_that_was_interrupted_then() -> None:
    waiting = of_alert(TRIGGER)
    assert waiting is not None
    due = waited(waiting, DUE)

    assert waited(waiting, DUE - 1) is None
    assert due is not None
    assert (due.status, due.action) == (Status.INTENDED, Action.TRIGGER)
    assert waited(due, DUE) == due
    assert waited(settle(due, Status.OPEN, "202"), DUE) is None


def test_a_critical_page_waits_for_nothing() -> None:
    critical, error = (
        changes(RecordType.FINDING, finding("incident_correlation", "violation", rank=1, signal_id="s", severity=level))
        for level in ("critical", "error")
    )

    assert (critical[0].may_wait, error[0].may_wait) == (False, True)


@pytest.mark.requirement("M4.4")
@pytest.mark.parametrize(
    ("reason", "action"),
    [
        ("suppressed_during_deployment", HOLD),
        ("resolved_while_suppressed", RESOLVES),
        ("released_at_end", LET_GO),
        ("released_lost", LET_GO),
        ("released_at_limit", LET_GO),
        ("never_seen_before", LET_GO),
    ],
)
def test_what_is_said_of_an_alert_holds_its_page_or_lets_it_go(reason: str, action: Action) -> None:
    found = changes(RecordType.FINDING, finding("alert_suppression", "ok", reason=reason, signal_id="s-1"))

    assert [(c.key, c.action) for c in found] == [("incident_correlation/s-1", action)]


def test_row_of_an_earlier_version_is_read() -> None:
    known = sent(None, trigger(), RECORDS, 5)
    row = known.to_json()
    del row["due"]

    assert Incident.from_json(row) == known


def test_row_is_plain_json_and_back() -> None:
    known = sent(None, trigger(), RECORDS, 5)

    assert Incident.from_json(known.to_json()) == known


def test_address_decides_the_sender() -> None:
    assert isinstance(sender_for("alertmanager+http://127.0.0.1:9093"), Alertmanager)
    assert isinstance(sender_for("https://hooks.example/t/1"), Webhook)
    for wrong in ("", "ftp://x", "alertmanager+", "hooks.example"):
        with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_ONCALL_URL"):
            sender_for(wrong)
