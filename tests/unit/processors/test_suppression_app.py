"""Suppression over the trail: bound to a deployment's life, recorded, and always released."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.apps.suppression import Suppress
from hypothesis import given, settings
from hypothesis import strategies as st
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, signal

DAY = 24 * 60 * MINUTE
Value = dict[str, Any]


def policy(name: str = "quiet", **spec: Any) -> Value:
    return {"kind": "suppression", "name": name, "spec": {"max_minutes": 30, **spec}}


DEPENDS = {"kind": "service", "name": "shop", "spec": {"depends_on": ["cart"]}}
SEEN = signal(at=NOON - DAY, severity="error")
NAMELESS_BEFORE = signal(at=NOON - DAY, severity="warning", fingerprint="", title="")
STARTED = event("started", NOON)
ENDED = event("succeeded", NOON + 10 * MINUTE)


def alert(minutes: float = 3, **fields: Any) -> Value:
    return signal(at=NOON + int(minutes * MINUTE), **{"severity": "error", **fields})


def resolved(minutes: float) -> Value:
    return signal("alert_resolved", NOON + int(minutes * MINUTE))


def later(minutes: float) -> Value:
    return tick(NOON + int(minutes * MINUTE))


def told(*records: Value, policies: tuple[Value, ...] = (policy(), DEPENDS)) -> Handled:
    """The app after an alert that fired and resolved the day before, and these records."""
    return Handled(Suppress, policies).tell(SEEN, signal("alert_resolved", NOON - DAY + MINUTE), *records)


def reasons(handled: Handled) -> list[str]:
    return [f["reason"] for f in handled.findings]


@pytest.mark.requirement("M4.4")
def test_an_alert_keeps_quiet_while_the_deployment_runs_and_comes_back_at_its_end() -> None:
    found = told(STARTED, alert(), ENDED).findings

    assert [f["reason"] for f in found] == ["suppressed_during_deployment", "released_at_end"]
    assert {(f["rule"], f["verdict"], f["deployment_id"], f["signal_id"]) for f in found} == {
        ("alert_suppression", "ok", "shop-1", alert()["signal_id"])
    }
    assert found[0]["evidence"]["until"] == "2026-11-02T12:30:00+00:00"
    assert found[0]["policy_version"] == "suppression/quiet/1"
    assert found[1]["supersedes"] == found[0]["finding_id"]
    assert found[1]["occurred_at"] == NOON + 10 * MINUTE


@pytest.mark.requirement("M4.4")
@pytest.mark.parametrize(
    ("then", "reason", "at"),
    [
        ([ENDED], "released_at_end", 10),
        ([event("failed", NOON + 7 * MINUTE)], "released_at_end", 7),
        ([event("cancelled", NOON + 8 * MINUTE)], "released_at_end", 8),
        ([later(29), later(31)], "released_at_limit", 30),
        ([event("succeeded", NOON + 40 * MINUTE)], "released_at_limit", 30),
        ([resolved(5), ENDED], "resolved_while_suppressed", 5),
        ([ENDED, resolved(5)], "resolved_while_suppressed", 5),
        ([ENDED, resolved(11)], "released_at_end", 10),
        ([event("voided", NOON + 4 * MINUTE)], "released_no_longer_covered", 3),
        ([event("amended", NOON + 4 * MINUTE, service="search")], "released_no_longer_covered", 3),
        ([event("started", NOON + 9 * MINUTE, deployment_id="undo", kind="rollback", rollback_of="shop-1"),
          event("succeeded", NOON + 12 * MINUTE, deployment_id="undo", kind="rollback", rollback_of="shop-1")],
         "released_at_end", 12),
    ],
)  # fmt: skip
def test_a_suppression_ends_with_the_first_of_its_ends(then: list[Value], reason: str, at: int) -> None:
    [standing] = [f for f in told(STARTED, alert(), *then).standing if f["signal_id"] == alert()["signal_id"]]

    assert (standing["reason"], standing["occurred_at"]) == (reason, NOON + at * MINUTE)


@pytest.mark.requirement("M4.4")
def test_a_deployment_that_is_lost_releases_everything() -> None:
    lost = {"kind": "thresholds", "name": "default", "spec": {"lost_after_minutes": 20}}
    handled = told(STARTED, alert(3), alert(4, fingerprint="f1"), later(19), policies=(policy(), lost))
    assert [f["reason"] for f in handled.standing] == ["suppressed_during_deployment"] * 2
    handled.tell(later(21))

    assert [f["reason"] for f in handled.standing] == ["released_lost"] * 2
    assert {f["occurred_at"] for f in handled.standing} == {NOON + 20 * MINUTE}


def newer(event_type: str, minutes: float, **fields: Any) -> Value:
    return event(event_type, NOON + int(minutes * MINUTE), deployment_id="shop-2", **fields)


NEWER = [newer("started", 4), newer("succeeded", 9)]


@pytest.mark.requirement("M4.4", "M2.5")
def test_a_newer_deployment_that_took_the_place_of_one_releases_what_that_keeps_quiet() -> None:
    found = told(STARTED, alert(), *NEWER)
    [standing] = found.standing

    assert (standing["reason"], standing["occurred_at"]) == ("released_superseded", NOON + 9 * MINUTE)
    assert (standing["deployment_id"], standing["evidence"]["superseded_by"]) == ("shop-1", "shop-2")
    assert standing["explanation"].endswith("is shown again: shop-2 has taken the place of shop (shop-1)")
    assert reasons(found.tell(alert(12))) == reasons(found)  # nor does it keep quiet what fires later


@pytest.mark.parametrize(
    "other",
    [
        [newer("started", 4), newer("failed", 9)],
        [newer("started", -4), newer("succeeded", 9)],  # it began before: it is none that is newer
        [newer("started", 4, cohort="canary"), newer("succeeded", 9, cohort="canary")],
        [newer("started", 4, parent_deployment_id="shop-1"), newer("succeeded", 9, parent_deployment_id="shop-1")],
    ],
)
def test_one_that_did_not_take_its_place_releases_nothing(other: list[Value]) -> None:
    found = {f["signal_id"]: f["reason"] for f in told(STARTED, alert(), *other).standing}

    assert found[alert()["signal_id"]] == "suppressed_during_deployment"


def test_any_order_of_a_newer_one_and_an_end_of_its_own_gives_the_same_release() -> None:
    end = event("failed", NOON + 11 * MINUTE)
    for order in permutations([*NEWER, end, resolved(10)]):
        handled = told(STARTED, alert(), *order, later(40), *order)

        assert [(f["reason"], f["occurred_at"]) for f in handled.standing] == [
            ("released_superseded", NOON + 9 * MINUTE)
        ]


def test_a_release_by_a_newer_one_is_written_again_at_its_redelivery() -> None:
    handled = told(STARTED, alert(), *NEWER)
    released = handled.standing[0]["finding_id"]
    handled.tell(NEWER[1])

    assert [f["finding_id"] for f in handled.written].count(released) == 2


@pytest.mark.requirement("M4.4")
@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([STARTED, alert(severity="critical")], "critical_is_never_suppressed"),
        ([STARTED, alert(fingerprint="new")], "never_seen_before"),
        ([STARTED, alert(2, fingerprint="new"), alert(6, fingerprint="new")], "never_seen_before"),
        ([NAMELESS_BEFORE, STARTED, alert(fingerprint="", title="")], "never_seen_before"),
        ([STARTED, alert(severity="unknown")], "severity_not_covered"),
        ([event("started", NOON, uncertainty_ms=240_000), alert()], "start_within_uncertainty"),
        ([STARTED, alert(uncertainty_ms=240_000)], "start_within_uncertainty"),
    ],
)
def test_what_is_grave_new_or_uncertain_is_shown_with_its_reason(records: list[Value], reason: str) -> None:
    assert set(reasons(told(*records))) == {reason}


@pytest.mark.requirement("M4.4", "M2.5")
@pytest.mark.parametrize(
    "records",
    [
        [alert()],
        [STARTED, ENDED, alert()],
        [STARTED, later(31), alert(11)],
        [STARTED, alert(31)],
        [STARTED, alert(-1)],
        [STARTED, alert(source="deploytrail")],
        [STARTED, signal("incident_opened", NOON + MINUTE, severity="error")],
        [event("started", NOON, environment="staging"), alert()],
        [event("started", NOON, service="cart"), alert()],
        [event("started", NOON, cohort="canary"), alert()],
        [event("started", NOON, cohort="canary"), alert(labels={"cohort": "stable"})],
        [event("registered", NOON), event("queued", NOON), alert()],
    ],
)
def test_where_no_deployment_has_to_do_with_it_nothing_is_said(records: list[Value]) -> None:
    assert told(*records).findings == []


def test_without_a_policy_or_with_an_invalid_one_nothing_is_suppressed() -> None:
    other = policy(scope={"services": ["search"]})

    assert told(STARTED, alert(), policies=()).findings == []
    assert told(STARTED, alert(), policies=(other,)).findings == []
    assert reasons(told(STARTED, alert(), policies=(policy(severities=["info"]),))) == ["severity_not_covered"]


@pytest.mark.requirement("M4.4", "M2.5")
def test_a_cohort_that_ended_releases_its_alerts_while_others_go_on() -> None:
    canary, rest = (event("started", NOON, cohort=cohort) for cohort in ("canary", "rest"))
    ours, theirs = (alert(minutes, labels={"cohort": c}) for minutes, c in ((3, "canary"), (4, "rest")))
    handled = told(canary, rest, ours, theirs, event("succeeded", NOON + 5 * MINUTE, cohort="canary"))

    assert {f["signal_id"]: f["reason"] for f in handled.standing} == {
        ours["signal_id"]: "released_at_end",
        theirs["signal_id"]: "suppressed_during_deployment",
    }
    assert reasons(told(canary, rest, alert(), policies=(policy(any_cohort=True),))) == ["suppressed_during_deployment"]


@pytest.mark.requirement("M4.4")
def test_dependents_keep_quiet_only_where_the_policy_says_so() -> None:
    cart = event("started", NOON, service="cart", deployment_id="cart-1")

    assert told(cart, alert(), policies=(policy(), DEPENDS)).findings == []
    found = told(cart, alert(), policies=(policy(dependents=True), DEPENDS))
    assert [(f["reason"], f["deployment_id"]) for f in found.findings] == [("suppressed_during_deployment", "cart-1")]


@pytest.mark.requirement("M4.4")
def test_a_lead_covers_what_fires_before_the_start_once_it_is_announced() -> None:
    lead = (policy(lead_minutes=5),)
    queued, started = event("queued", NOON - 4 * MINUTE), event("started", NOON)

    assert reasons(told(queued, alert(-3), policies=lead)) == ["suppressed_during_deployment"]
    assert told(queued, alert(-3), later(2), policies=lead).standing[0]["reason"] == "released_at_limit"
    assert told(queued, alert(-3), started, later(2), policies=lead).standing[0]["reason"] == (
        "suppressed_during_deployment"
    )
    assert reasons(told(alert(-3), started, policies=lead)) == ["suppressed_during_deployment"]
    assert told(alert(-6), started, policies=lead).findings == []


def test_the_narrowest_policy_counts() -> None:
    strict = policy("strict", severities=[], scope={"services": ["shop"]})

    assert reasons(told(STARTED, alert(), policies=(policy(), strict))) == ["severity_not_covered"]


def test_a_start_that_is_reported_late_suppresses_from_then_on() -> None:
    assert reasons(told(alert(), STARTED)) == ["suppressed_during_deployment"]
    assert told(alert(), ENDED, STARTED).findings == []


def test_what_was_released_is_not_suppressed_again() -> None:
    other = event("started", NOON + MINUTE, deployment_id="shop-2")
    handled = told(STARTED, alert(), event("failed", NOON + 5 * MINUTE), other, later(6), ENDED, other)

    assert [f["reason"] for f in handled.standing] == ["released_at_end"]
    assert handled.standing[0]["occurred_at"] == NOON + 5 * MINUTE


def test_a_redelivery_and_the_tick_after_a_release_write_the_same_again() -> None:
    handled = told(STARTED, alert(), alert(), later(31), later(32), later(33), ENDED)
    ids = [f["finding_id"] for f in handled.written]

    assert ids == [ids[0]] * 2 + [ids[2]] * 2 + [handled.standing[0]["finding_id"]] * (len(ids) - 4)
    assert len(ids) == 5


BEHIND: list[Value] = [
    event("failed", NOON + 8 * MINUTE),
    ENDED,
    resolved(9),
    alert(6),
    event("queued", NOON - MINUTE),
]


@pytest.mark.requirement("M4.4")
def test_any_order_of_what_follows_gives_the_same_release() -> None:
    expected = {alert()["signal_id"]: ("released_at_end", NOON + 8 * MINUTE)}
    for order in permutations(BEHIND):
        handled = told(STARTED, alert(), *order, later(40), *order)
        found = {f["signal_id"]: (f["reason"], f["occurred_at"]) for f in handled.standing}
        # The second alert may come behind the end, when there is nothing to suppress it any more.
        found.pop(alert(6)["signal_id"], None)

        assert found == expected


@st.composite
def days(draw: st.DrawFn) -> list[Value]:
    """Deployments, alerts and their ends in any order and any number, ticks between them."""
    moment = st.integers(-10, 50).map(lambda m: NOON + m * MINUTE)
    one_event = st.builds(
        lambda kind, at, name, cohort, width: event(
            kind, at, deployment_id=name, cohort=cohort, uncertainty_ms=width, service=name.partition("-")[0]
        ),
        st.sampled_from(["queued", "started", "progressed", "succeeded", "failed", "voided"]),
        moment,
        st.sampled_from(["shop-1", "shop-2", "cart-1"]),
        st.sampled_from(["", "", "canary"]),
        st.sampled_from([0, 0, 60_000]),
    )
    one_signal = st.builds(
        lambda kind, at, name, severity, cohort: signal(
            kind, at, fingerprint=name, severity=severity, labels={"cohort": cohort}
        ),
        st.sampled_from(["alert_firing", "alert_firing", "alert_resolved"]),
        moment,
        st.sampled_from(["f1", "f1", "f2"]),
        st.sampled_from(["critical", "error", "warning", "unknown"]),
        st.sampled_from(["", "canary"]),
    )
    return draw(st.lists(st.one_of(one_event, one_event, one_signal, moment.map(tick)), max_size=30))


POLICIES = (policy(dependents=True, lead_minutes=3), DEPENDS)


@pytest.mark.requirement("M4.4")
@settings(max_examples=200, deadline=None)
@given(days())
def test_nothing_grave_or_new_is_suppressed_and_every_suppression_ends_within_its_limit(day: list[Value]) -> None:
    handled = told(*day, policies=POLICIES)
    suppressed = {f["signal_id"]: f for f in handled.findings if f["reason"] == "suppressed_during_deployment"}
    # One that comes again under its id is the same alert, whatever it says then: the first counts.
    signals = {r["signal_id"]: r for r in reversed(day) if r.get("signal_type") == "alert_firing"}

    assert {signals[name]["severity"] for name in suppressed} <= {"error", "warning"}
    for name in suppressed:
        if signals[name]["fingerprint"] != "f1":
            assert any(
                other["fingerprint"] == signals[name]["fingerprint"]
                and other["corrected_at"] < signals[name]["corrected_at"]
                for other in signals.values()
            )
    handled.tell(tick(NOON + 50 * MINUTE + 31 * MINUTE))
    assert "suppressed_during_deployment" not in {f["reason"] for f in handled.standing}
    for f in handled.standing:
        if f["signal_id"] in suppressed:
            assert f["occurred_at"] <= NOON + 80 * MINUTE
    # One story an alert: each finding supersedes the one before it.
    assert len({f["signal_id"] for f in handled.standing}) == len(handled.standing)


@settings(max_examples=60, deadline=None)
@given(days())
def test_a_replay_decides_the_same(day: list[Value]) -> None:
    assert told(*day, policies=POLICIES).written == told(*day, policies=POLICIES).written


@settings(max_examples=60, deadline=None)
@given(days(), st.integers(0, 30))
def test_tables_that_were_read_anew_decide_the_same(day: list[Value], cut: int) -> None:
    whole, restarted = told(*day, policies=POLICIES), told(*day[:cut], policies=POLICIES)
    restarted.handler.on_recovered()
    restarted.tell(*day[cut:])

    assert restarted.findings == whole.findings
