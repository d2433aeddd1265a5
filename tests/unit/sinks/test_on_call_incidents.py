"""What pages, what clears, and what a repetition changes: nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.policies import SHARED, document
from deploytrail_schemas.policies.in_force import InForce
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.on_call.alerts import Alert, change_of, hear, page_key
from deploytrail_sinks.on_call.incidents import Action, Change, Said, Word, changes
from deploytrail_sinks.on_call.ledger import Incident, Status, intend, read_row, settle, telling, waited
from deploytrail_sinks.on_call.senders import Alertmanager, Webhook, sender_for
from support.apps import Handled
from support.values import MINUTE, NOON, event, signal, stable_id

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
    found = changes(RecordType.RECORD, record(state, **fields), InForce())
    return [(one.key, one.action) for one in found if isinstance(one, Change)]


def of_finding(rule: str, verdict: str, **fields: Any) -> list[tuple[str, Action]]:
    found = changes(RecordType.FINDING, finding(rule, verdict, **fields), InForce())
    return [(one.key, one.action) for one in found if isinstance(one, Change)]


def said(rule: str, verdict: str, **fields: Any) -> list[Word]:
    found = changes(RecordType.FINDING, finding(rule, verdict, **fields), InForce())
    return [one.word for one in found if isinstance(one, Said)]


@pytest.mark.requirement("M4.5")
def test_failed_deployment_in_production_pages() -> None:
    assert of_record("failed")[0] == ("deployment_failed/shop-1", Action.TRIGGER)
    assert of_record("failed", environment="staging") == []


def test_failure_of_a_child_is_paged_about_the_child_alone() -> None:
    assert of_record("failed", outcome_reason="child_failed")[0] == ("deployment_failed/shop-1", Action.RESOLVE)
    assert of_record("failed", outcome_reason="cohort_failed")[0] == ("deployment_failed/shop-1", Action.TRIGGER)


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
    found = changes(
        RecordType.FINDING, finding("alert_suppression", "ok", reason="same_deployment", signal_id="s-1"), InForce()
    )

    assert list(found) == []


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

    assert said("incident_correlation", "violation", **likely) == [Word.RAISE]
    assert said("incident_correlation", "violation", **likely | {"rank": 2}) == []
    assert said("incident_correlation", "violation", **likely, severity="warning") == [Word.TAKE_BACK]
    assert said("incident_correlation", "ok", **likely, deployment_id="") == [Word.TAKE_BACK]


def trigger(at: int = NOON) -> Change:
    return Change("k", Action.TRIGGER, at, "error", "it failed", {"service": "shop"})


RESOLVE = Change("k", Action.RESOLVE, NOON + MINUTE)


def sent(known: Incident | None, change: Change, place: str, offset: int) -> Incident:
    """The row after a change whose page was answered."""
    intended = intend(known, change, place, offset)
    assert intended is not None
    assert intended.status is Status.INTENDED
    return settle(intended, Status.OPEN if change.action is Action.TRIGGER else Status.RESOLVED, "202", NOON)


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
    resolved = settle(resolving, Status.RESOLVED, "202", NOON)
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


DUE = NOON + 3_000_000


class OnCall:
    """Alerts and incidents as the sink keeps them, each page answered at once; `pages` are what was sent."""

    def __init__(self, *, wait_until: int = DUE) -> None:
        self.alerts: dict[str, Alert] = {}
        self.incidents: dict[str, Incident] = {}
        self.pages: list[Incident] = []
        self._wait_until, self._offset = wait_until, -1

    def hear(self, signal_id: str, word: Word, incident: str = "", severity: str = "error", at: int = 0) -> None:
        self._offset += 1
        what = Said(signal_id, word, NOON + (at or self._offset * MINUTE), incident, severity, f"{signal_id} fires")
        self.redeliver(what, self._offset)

    def redeliver(self, what: Said, offset: int) -> None:
        alert = hear(self.alerts.get(what.signal_id), what, FINDINGS, offset)
        if alert is None:
            return
        self.alerts[what.signal_id] = alert
        for page in alert.pages:
            about = [one for one in self.alerts.values() if one.page == page]
            change = change_of(page, about, at=what.at, word=what.word)
            wait_until = self._wait_until if change.may_wait else 0
            self._take(intend(self.incidents.get(page), change, FINDINGS, offset, wait_until=wait_until))

    def wait(self, now: int = DUE) -> None:
        for known in list(self.incidents.values()):
            self._take(waited(known, now))

    def _take(self, after: Incident | None) -> None:
        if after is not None and after.status is Status.INTENDED:
            after = telling(after, None)
            self.pages.append(after)
            after = settle(after, Status.OPEN if after.action is Action.TRIGGER else Status.RESOLVED, "202", NOON)
        if after is not None:
            self.incidents[after.key] = after

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(page.key.removeprefix("incident_correlation/"), page.action.value) for page in self.pages]


def of_alert(*words: Word) -> tuple[Status | None, bool]:
    """What becomes of the page about an alert after words about it, read one behind the other; whether it is held."""
    on_call = OnCall()
    for word in words:
        on_call.hear("s", word)
    page = on_call.incidents.get(page_key("s"))
    return page.status if page is not None else None, "s" in on_call.alerts and on_call.alerts["s"].held


RAISE, TAKE_BACK, HOLD, LET_GO = Word.RAISE, Word.TAKE_BACK, Word.HOLD, Word.LET_GO


@pytest.mark.requirement("M4.4", "M4.5")
@pytest.mark.parametrize(
    ("words", "status", "held"),
    [
        ([RAISE], Status.WAITING, False),
        ([RAISE, HOLD], Status.RESOLVED, True),
        ([HOLD, RAISE], None, True),
        ([HOLD, HOLD, RAISE, RAISE], None, True),
        ([RAISE, HOLD, LET_GO], Status.OPEN, False),
        ([HOLD, RAISE, LET_GO], Status.OPEN, False),
        ([RAISE, LET_GO], Status.OPEN, False),
        ([HOLD, LET_GO, RAISE], Status.WAITING, False),
        ([HOLD, LET_GO], None, False),
        ([RAISE, TAKE_BACK], Status.RESOLVED, False),
        ([RAISE, HOLD, TAKE_BACK], Status.RESOLVED, True),
        ([RAISE, HOLD, TAKE_BACK, LET_GO], Status.RESOLVED, False),
        ([RAISE, HOLD, TAKE_BACK, RAISE, LET_GO], Status.OPEN, False),
        ([RAISE, LET_GO, HOLD], Status.OPEN, True),
        ([RAISE, HOLD, LET_GO, TAKE_BACK], Status.RESOLVED, False),
        ([TAKE_BACK], None, False),
        ([LET_GO], None, False),
    ],
)
def test_a_page_about_a_suppressed_alert_is_kept_until_it_is_let_go(
    words: list[Word], status: Status | None, held: bool
) -> None:
    assert of_alert(*words) == (status, held)


def test_a_page_that_was_let_go_speaks_of_that_moment() -> None:
    on_call = OnCall()
    for word in (RAISE, HOLD, LET_GO):
        on_call.hear("s", word)

    assert [(page.at, page.title) for page in on_call.pages] == [(NOON + 2 * MINUTE, "s fires")]


def test_a_page_that_waited_long_enough_is_sent_and_so_is_one_that_was_interrupted_then() -> None:
    on_call = OnCall()
    on_call.hear("s", RAISE)
    waiting = on_call.incidents[page_key("s")]
    due = waited(waiting, DUE)

    assert waited(waiting, DUE - 1) is None
    assert due is not None
    assert (due.status, due.action) == (Status.INTENDED, Action.TRIGGER)
    assert waited(due, DUE) == due
    assert waited(settle(due, Status.OPEN, "202", NOON), DUE) is None


def test_a_critical_page_waits_for_nothing() -> None:
    on_call = OnCall()
    on_call.hear("grave", RAISE, severity="critical")
    on_call.hear("s", RAISE)

    assert on_call.sent == [("grave", "trigger")]


@pytest.mark.requirement("M4.3", "M4.5")
def test_fifty_alerts_of_one_incident_are_one_page_that_is_updated() -> None:
    on_call = OnCall()
    for number in range(4):  # not yet known to be a storm: each would have a page of its own
        on_call.hear(f"s{number}", RAISE)
    for number in range(50):
        on_call.hear(f"s{number}", RAISE, "s0")
    on_call.wait()
    for number in range(50, 60):
        on_call.hear(f"s{number}", RAISE, "s0")
    on_call.wait()

    assert on_call.sent == [("s0", "trigger"), ("s0", "trigger")]
    first, second = on_call.pages
    assert first.title == "50 alerts of one incident, the gravest: s0 fires"
    assert (second.details["alerts"], second.details["incident"]) == ("60", "s0")
    assert second.at == first.at


@pytest.mark.requirement("M4.3", "M4.5", "M6.2")
def test_what_correlation_says_of_a_storm_is_one_page_by_the_alert_that_began_it() -> None:
    """The findings of the app itself, not of this test's making; each is read twice, as after a crash."""
    judged = Handled(Correlation)
    judged.tell(event("started", NOON), event("succeeded", NOON + MINUTE))
    storm = [signal(at=NOON + 2 * MINUTE + n, fingerprint=f"f{n}", severity="error") for n in range(50)]
    on_call = OnCall()
    for offset, finding in enumerate(judged.tell(*storm).written):
        for one in [*changes(RecordType.FINDING, finding, InForce())] * 2:
            assert isinstance(one, Said)
            on_call.redeliver(one, offset)
    on_call.wait()
    [page] = on_call.pages

    assert page.key == f"incident_correlation/{storm[0]['signal_id']}"
    assert (page.details["alerts"], page.details["deployment_id"]) == ("50", "shop-1")


def test_a_page_that_was_sent_before_the_storm_was_known_is_ended_behind_that_of_the_incident() -> None:
    on_call = OnCall(wait_until=0)
    on_call.hear("s0", RAISE)
    on_call.hear("s1", RAISE)
    on_call.hear("s0", RAISE, "s0")
    on_call.hear("s1", RAISE, "s0")

    assert on_call.sent == [("s0", "trigger"), ("s1", "trigger"), ("s0", "trigger"), ("s1", "resolve")]


def test_the_page_of_an_incident_ends_with_the_last_alert_that_needs_somebody() -> None:
    on_call = OnCall(wait_until=0)
    for word in (RAISE, TAKE_BACK):
        on_call.hear("s0", word, "s0")
        on_call.hear("s1", word, "s0")

    assert on_call.sent == [("s0", "trigger"), ("s0", "trigger"), ("s0", "resolve")]


def test_an_incident_pages_though_the_alert_that_began_it_is_held_back() -> None:
    on_call = OnCall()
    on_call.hear("s0", HOLD)
    on_call.hear("s0", RAISE, "s0")
    on_call.hear("s1", RAISE, "s0")
    on_call.wait()
    on_call.hear("s0", LET_GO)
    on_call.wait()

    assert [(page.title, page.details["alerts"]) for page in on_call.pages] == [
        ("s1 fires", "1"),
        ("2 alerts of one incident, the gravest: s1 fires", "2"),
    ]


def test_an_incident_that_becomes_critical_says_so_at_once_and_its_end_ends_both() -> None:
    on_call = OnCall()
    on_call.hear("s0", RAISE, "s0")
    on_call.wait()
    on_call.hear("s1", RAISE, "s0", severity="critical")
    for name in ("s0", "s1"):
        on_call.hear(name, TAKE_BACK, "s0")

    assert [(page.severity, page.action) for page in on_call.pages] == [
        ("error", Action.TRIGGER),
        ("critical", Action.TRIGGER),
        ("critical", Action.RESOLVE),
    ]
    assert on_call.pages[-1].told == ({"severity": "error"}, {"severity": "critical"})


def test_redelivery_of_a_storm_sends_nothing_again() -> None:
    on_call = OnCall(wait_until=0)
    storm = [Said(f"s{number}", RAISE, NOON, "s0", "error", "fires") for number in range(5)]
    for _ in range(2):
        for offset, what in enumerate(storm):
            on_call.redeliver(what, offset)

    assert len(on_call.pages) == 5


def test_a_crash_between_the_row_of_an_alert_and_that_of_its_page_loses_no_page() -> None:
    on_call = OnCall(wait_until=0)
    what = Said("s0", RAISE, NOON, "", "error", "fires")
    heard = hear(None, what, FINDINGS, 7)
    assert heard is not None
    on_call.alerts["s0"] = heard
    on_call.redeliver(what, 7)

    assert on_call.sent == [("s0", "trigger")]


def test_news_that_is_refused_leaves_the_page_open() -> None:
    on_call = OnCall(wait_until=0)
    on_call.hear("s0", RAISE, "s0")
    grown = replace(on_call.incidents[page_key("s0")], status=Status.INTENDED)
    refused = settle(grown, Status.REFUSED, "422", NOON)

    assert refused.status is Status.OPEN


@pytest.mark.requirement("M4.4")
@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("suppressed_during_deployment", HOLD),
        ("resolved_while_suppressed", TAKE_BACK),
        ("released_at_end", LET_GO),
        ("released_lost", LET_GO),
        ("released_at_limit", LET_GO),
        ("never_seen_before", LET_GO),
    ],
)
def test_what_is_said_of_an_alert_holds_its_page_or_lets_it_go(reason: str, word: Word) -> None:
    assert said("alert_suppression", "ok", reason=reason, signal_id="s-1") == [word]


OLD_ROW = {
    "v": 1, "key": "incident_correlation/s", "status": "open", "action": "trigger", "at": NOON, "severity": "error",
    "title": "it failed", "details": {"service": "shop"}, "seen": {FINDINGS: 5}, "answer": "202",
}  # fmt: skip


def test_row_of_an_earlier_version_is_read() -> None:
    incident, alert = read_row(OLD_ROW)

    assert incident is not None
    assert (incident.status, incident.sent, incident.told, incident.due) == (
        Status.OPEN,
        1,
        ({"severity": "error"},),
        0,
    )
    assert alert is not None
    assert (alert.signal_id, alert.page, alert.raised, alert.held) == ("s", "incident_correlation/s", True, False)


def test_page_that_an_earlier_version_kept_back_is_sent_when_it_is_let_go() -> None:
    incident, alert = read_row(OLD_ROW | {"status": "suppressed", "answer": ""})
    on_call = OnCall()
    assert incident is None
    assert alert is not None
    on_call.alerts["s"] = alert
    on_call.redeliver(Said("s", LET_GO, NOON + MINUTE), 6)

    assert [(page.key, page.title) for page in on_call.pages] == [("incident_correlation/s", "it failed")]


def test_rows_are_plain_json_and_back() -> None:
    known = sent(None, trigger(), RECORDS, 5)
    alert = hear(None, Said("s", RAISE, NOON, "i", "error", "fires", {"service": "shop"}), FINDINGS, 5)
    assert alert is not None

    assert read_row(json.loads(json.dumps(known.to_json()))) == (known, None)
    assert read_row(json.loads(json.dumps(alert.to_json()))) == (None, alert)


def test_address_decides_the_sender() -> None:
    assert isinstance(sender_for("alertmanager+http://127.0.0.1:9093"), Alertmanager)
    assert isinstance(sender_for("https://hooks.example/t/1"), Webhook)
    for wrong in ("", "ftp://x", "alertmanager+", "hooks.example"):
        with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_ONCALL_URL"):
            sender_for(wrong)


def test_what_is_production_says_policy() -> None:
    live = record("failed", environment="live-eu")
    flag = {"kind": "environment", "name": "live-eu", "spec": {"production": True}}
    flagged = InForce((document.read(flag, SHARED),))

    assert list(changes(RecordType.RECORD, live, InForce())) == []
    assert [type(one) for one in changes(RecordType.RECORD, live, flagged)] == [Change, Change]
