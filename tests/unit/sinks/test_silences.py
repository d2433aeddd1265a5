"""Which findings become silences of Alertmanager, and which alerts these fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deploytrail_processors.apps.suppression import Suppress
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_sinks.silences.alertmanager import Silences
from deploytrail_sinks.silences.mirror import Begin, End, change_of, mark, marked
from support.apps import Handled
from support.values import MINUTE, NOON, event, signal

Value = dict[str, Any]
DAY = 24 * 60 * MINUTE
SOURCES = frozenset({"prometheus"})
LABELS = {"alertname": "SlowAnswers", "service": "shop"}
POLICY = {"kind": "suppression", "name": "quiet", "spec": {"max_minutes": 30}}


def findings(*, source: str = "prometheus", labels: Value = LABELS) -> list[Value]:
    """What the suppression app says of an alert during a deployment, and at its end."""
    alert: Value = {"severity": "warning", "source": source, "labels": labels}
    return (
        Handled(Suppress, [POLICY])
        .tell(
            signal(at=NOON - DAY, **alert),
            signal("alert_resolved", NOON - DAY + MINUTE, **alert),
            event("started", NOON),
            signal(at=NOON + MINUTE, **alert),
            event("succeeded", NOON + 10 * MINUTE),
        )
        .findings
    )


def change(found: Value, now: int = NOON + 2 * MINUTE) -> Begin | End | None:
    return change_of(found, SOURCES, now)


@pytest.mark.requirement("M4.4")
def test_what_the_suppression_app_says_begins_and_ends_a_silence_of_exactly_that_alert() -> None:
    suppressed, released = findings()
    begin, end = change(suppressed), change(released, NOON + 11 * MINUTE)

    assert isinstance(begin, Begin)
    assert end == End(begin.signal_id)
    body = begin.body(NOON + 2 * MINUTE)
    assert (body["startsAt"], body["endsAt"]) == ("2026-11-02T12:02:00.000000Z", "2026-11-02T12:30:00.000000Z")
    assert [(m["name"], m["value"], m["isEqual"]) for m in body["matchers"]] == [
        ("alertname", "SlowAnswers", True),
        ("service", "shop", True),
        ("severity", "critical", False),
    ]
    assert marked(body["comment"]) == begin.signal_id


def test_the_number_that_the_agent_gave_a_signal_is_no_label_of_its_alert() -> None:
    suppressed, _ = findings(labels=LABELS | {"producer_seq": "7"})
    begin = change(suppressed)

    assert isinstance(begin, Begin)
    assert begin.labels == LABELS


def test_what_a_silence_would_stop_from_reaching_us_is_not_mirrored() -> None:
    suppressed, _ = findings(source="alertmanager")

    assert change(suppressed) is None


@pytest.mark.parametrize("labels", [{}, {"service": "shop"}, {"alertname": ""}])
def test_an_alert_without_a_name_is_not_mirrored(labels: Value) -> None:
    assert change(findings(labels=labels)[0]) is None


def test_what_is_over_is_not_mirrored() -> None:
    assert [change(found, NOON + 30 * MINUTE) for found in findings()] == [None, None]


def test_labels_that_are_no_json_or_too_long_silence_nothing() -> None:
    suppressed, _ = findings()
    broken = suppressed | {"evidence": suppressed["evidence"] | {"labels": "{"}}
    long, _ = findings(labels=LABELS | {"description": "x" * 5000})

    assert (change(broken), change(long)) == (None, None)
    assert "labels" not in long["evidence"]


def test_only_our_own_marks_are_read() -> None:
    assert marked(f"shop keeps quiet [signal x] {mark('a-b')}") == "a-b"
    assert [marked(text) for text in ("by hand", "[signal a", "", "[signal a] and more")] == ["", "", "", ""]


def test_empty_labels_match_nothing_by_themselves() -> None:
    suppressed, _ = findings(labels=LABELS | {"team": ""})
    begin = change(suppressed)

    assert isinstance(begin, Begin)
    assert dict(begin.labels) == LABELS
    assert json.loads(suppressed["evidence"]["labels"]) == LABELS | {"team": ""}


@pytest.mark.parametrize("url", ["", "alertmanager:9093", "ftp://host"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_SILENCES_URL"):
        Silences(url)
