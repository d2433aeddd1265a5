"""What holds for every monitoring source: one signal an alert, however often and by whom it is sent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters.base import Defaults
from support.golden import NOON, adapted, cases

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


def told_here() -> list[Path]:
    """Cases that give records of a payload which was written here: a case of our own page is called own_page."""
    return [p for p in cases() if {"payload", "records"} <= json.loads(p.read_text("utf-8")).keys()]


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize("path", told_here(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_signal_is_ours_only_where_our_own_page_caused_it(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    sources = {value["source"] for _, value in adapted(path.parent.name, case, case["payload"]).records}

    assert ("deploytrail" in sources) == ("own_page" in path.stem)
