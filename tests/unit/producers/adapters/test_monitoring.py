"""What holds for every source of alerts and incidents: each is one signal, however often and by whom it is sent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters import opsgenie, pagerduty
from deploytrail.adapters.base import Defaults
from support.golden import FOLDER, NOON, adapted, cases

ALERT = {
    "labels": {"alertname": "Down", "service": "checkout", "environment": "production", "region": "eu-west-1"},
    "startsAt": "2026-11-02T11:58:00Z",
    "status": "firing",
    "fingerprint": "a1b2c3d4e5f60718",
}


def signals(name: str, payload: Any, **given: Any) -> list[dict[str, Any]]:
    return [value for _, value in adapters.load(name).adapt(payload, {}, Defaults(**given), NOON).records]


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        *[(word, "critical") for word in ("critical", "CRIT", "Fatal", "page", "P1", "SEV-1", "sev 1", "Highest")],
        *[(word, "error") for word in ("error", "High", "major", "p2", "SEV2")],
        *[(word, "warning") for word in ("warning", "Warn", "Medium", "minor", "P3")],
        *[(word, "info") for word in ("info", "informational", "Low", "none", "P4", "p5")],
        *[(word, "unknown") for word in ("", "purple", "1")],
    ],
)
def test_a_severity_is_read_in_the_words_that_teams_use(word: str, severity: str) -> None:
    assert monitoring.severity(word) == severity


@pytest.mark.parametrize("label", ["severity", "level", "Priority", "criticality"])
def test_a_severity_may_be_in_any_of_its_labels(label: str) -> None:
    assert monitoring.severity_of({"alertname": "Down", label: "major"}) == "error"


def test_labels_come_before_the_webhooks_url_and_that_before_a_hint() -> None:
    url = Defaults(region="us-east-1", environment="staging", service="of-url")
    labels = {"app.kubernetes.io/name": "checkout", "deployment.environment": "production"}

    assert monitoring.place_of(labels, url, "x", hint="hinted") == {
        "region": "us-east-1",
        "environment": "production",
        "service": "checkout",
        "producer_id": "x",
    }
    assert monitoring.place_of({}, url, "x", hint="hinted")["service"] == "of-url"
    assert monitoring.place_of({}, Defaults(), "x", hint="hinted")["service"] == "hinted"


def test_tags_are_labels() -> None:
    tags = ["service:checkout", " env = production ", "urgent", "url:https://a.example/x", "", None, {"no": "text"}]

    assert monitoring.labels_of_tags(tags) == {
        "service": "checkout",
        "env": "production",
        "url": "https://a.example/x",
        "tags": "urgent",
    }


@pytest.mark.requirement("M2.3")
@pytest.mark.parametrize("name", ["alertmanager", "grafana"])
def test_an_alert_notified_again_or_by_another_replica_is_the_same_signal(name: str) -> None:
    [first] = signals(name, {"externalURL": "https://a.example", "alerts": [ALERT]})
    [again] = signals(name, {"externalURL": "https://b.example", "alerts": [copy.deepcopy(ALERT)]})

    assert again["signal_id"] == first["signal_id"]


@pytest.mark.parametrize("name", ["alertmanager", "grafana"])
def test_an_alert_that_fires_anew_is_another_signal_of_the_same_name(name: str) -> None:
    [first, anew] = signals(name, {"alerts": [ALERT, ALERT | {"startsAt": "2026-11-02T12:30:00Z"}]})

    assert anew["signal_id"] != first["signal_id"]
    assert anew["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize("name", ["alertmanager", "grafana"])
def test_alerts_that_a_notification_left_out_are_told(name: str) -> None:
    [found] = signals(name, {"alerts": [ALERT], "truncatedAlerts": 7})

    assert found["labels"]["truncated_alerts"] == "7"


ALERTS = ("alertmanager", "datadog_monitors", "grafana", "opsgenie", "pagerduty", "sentry")
MONITORING = (*ALERTS, "jira", "servicenow")


def told_here(*names: str) -> list[Path]:
    """Cases that give records of a payload which was written here: a case of our own page is called own_page."""
    found = [p for p in cases() if {"payload", "records"} <= json.loads(p.read_text("utf-8")).keys()]
    return [path for path in found if not names or path.parent.name in names]


@pytest.mark.requirement("M2.3")
@pytest.mark.parametrize("path", told_here(*MONITORING), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_delivery_that_comes_again_an_hour_later_gives_the_same_ids(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    url, headers = Defaults(**case.get("url", {})), case.get("headers", {})
    first, again = (
        adapters.load(path.parent.name).adapt(copy.deepcopy(case["payload"]), headers, url, at).records
        for at in (NOON, NOON + 3_600_000_000)
    )

    assert [value[kind.id_field] for kind, value in again] == [value[kind.id_field] for kind, value in first]


@pytest.mark.parametrize("name", MONITORING)
def test_every_monitoring_source_knows_our_own_page(name: str) -> None:
    assert any(path.parent.name == name and "own_page" in path.stem for path in cases())


def case_of(name: str, stem: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name / f"{stem}.json").read_text("utf-8"))
    return found


def ids(name: str, case: dict[str, Any], **changed: Any) -> list[str]:
    found = adapted(name, case, {**case["payload"], **changed})
    return [value["signal_id"] for _, value in found.records]


def test_a_datadog_monitor_that_is_notified_again_in_its_cycle_is_the_same_signal() -> None:
    case = case_of("datadog_monitors", "triggered")
    later = {"id": "99", "date": "1793620790000"}

    first = ids("datadog_monitors", case)

    assert ids("datadog_monitors", case, transition="Renotify", **later) == first
    assert ids("datadog_monitors", case, transition="Re-Triggered", **later) == first
    assert ids("datadog_monitors", case, transition="Warn", **later) != first
    assert ids("datadog_monitors", case, alert_cycle_key="another", **later) != first
    assert ids("datadog_monitors", case, alert_cycle_key="$ALERT_CYCLE_KEY", **later) != first


@pytest.mark.parametrize("unit", [1_000_000, 1000, 1])
def test_datadogs_date_is_read_in_whatever_unit(unit: int) -> None:
    case = case_of("datadog_monitors", "triggered")
    payload = {**case["payload"], "date": str(1_793_620_740_000_000 // unit)}
    [(_, found)] = adapted("datadog_monitors", case, payload).records

    assert found["occurred_at"] == 1_793_620_740_000_000


def test_an_opsgenie_alert_that_is_closed_and_then_deleted_ended_once() -> None:
    case = case_of("opsgenie", "close")

    assert ids("opsgenie", case, action="Delete") == ids("opsgenie", case)
    assert ids("opsgenie", case, action="Create") != ids("opsgenie", case)


@pytest.mark.parametrize("action", opsgenie.IGNORED)
def test_what_opens_or_closes_no_alert_is_ignored_with_its_reason(action: str) -> None:
    case = case_of("opsgenie", "escalate_next")
    found = adapted("opsgenie", case, {**case["payload"], "action": action})

    assert found.ignored == f"Opsgenie's {action}: {opsgenie.IGNORED[action]}"


def test_an_incident_that_two_pagerduty_subscriptions_tell_of_is_one_signal() -> None:
    case = case_of("pagerduty", "resolved")
    other = {**case["payload"]["event"], "id": "01E9"}

    assert ids("pagerduty", case, event=other) == ids("pagerduty", case)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        *[(kind, kind) for kind in pagerduty.IGNORED if not kind.endswith("*")],
        *[("incident.task.created", "incident.task.*"), ("incident.role.unassigned", "incident.role.*")],
        *[("incident.workflow.started", "incident.workflow.*"), ("service.updated", "service.*")],
        ("incident.action_invocation.terminated", "incident.action_invocation.*"),
    ],
)
def test_what_changes_no_incident_is_ignored_with_its_reason(kind: str, word: str) -> None:
    case = case_of("pagerduty", "acknowledged")
    event = {**case["payload"]["event"], "event_type": kind}

    assert adapted("pagerduty", case, {"event": event}).ignored == f"PagerDuty's {kind}: {pagerduty.IGNORED[word]}"


def test_resolving_a_sentry_issue_ends_the_alert_that_its_rule_raised() -> None:
    stems = ("issue_created", "issue_alert", "issue_resolved")
    told = [case_of("sentry", stem)["records"][0]["value"] for stem in stems]

    assert len({value["fingerprint"] for value in told}) == 1
    assert [value["signal_type"] for value in told] == ["alert_firing", "alert_firing", "alert_resolved"]


def test_a_sentry_delivery_without_its_header_is_known_by_its_data() -> None:
    for stem in ("issue_created", "issue_alert", "metric_alert_resolved"):
        case = case_of("sentry", stem)
        bare = {name: value for name, value in case.items() if name != "headers"}

        assert ids("sentry", bare) == ids("sentry", case)


@pytest.mark.parametrize("name", adapters.names())
def test_no_word_of_a_source_is_both_mapped_and_ignored(name: str) -> None:
    source = adapters.load(name)

    assert not source.statuses.keys() & source.ignored.keys()
    assert all(source.ignored.values())


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize("path", told_here(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_signal_is_ours_only_where_our_own_page_caused_it(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    sources = {value["source"] for _, value in adapted(path.parent.name, case, case["payload"]).records}

    assert ("deploytrail" in sources) == ("own_page" in path.stem)
