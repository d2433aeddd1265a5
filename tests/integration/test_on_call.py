"""Pages with a real Kafka, a real HTTP receiver and, where Debian's package is there, a real Alertmanager."""

from __future__ import annotations

import functools
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.alertmanager import alertmanager as real_alertmanager
from support.commands import Command
from support.kafka import make_topics, read_topic, wait_for, write
from support.page_receiver import Receiver
from support.values import MINUTE

HISTORY = 15


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def now() -> int:
    return time.time_ns() // 1000


def record(deployment_id: str, state: str, **fields: Any) -> bytes:
    value = {
        "deployment_id": deployment_id,
        "revision": 1,
        "state": state,
        "recorded_at": now(),
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "version": "4.2.0",
        "finished_at": now(),
        **fields,
    }
    return encode(RecordType.RECORD, value)


def put(kafka: str, *values: bytes, partition: int = 1) -> None:
    write(kafka, Topic.RECORDS, [(partition, b"k", value) for value in values])


def settings(kafka: str, url: str) -> dict[str, str]:
    return {"DEPLOYTRAIL_KAFKA": kafka, "DEPLOYTRAIL_ONCALL_URL": url}


@contextmanager
def sink(env: dict[str, str], folder: Path) -> Iterator[None]:
    """The sink, ended as a supervisor ends it: the next one takes its place at once."""
    command = Command("sink", "on-call", env=env, cwd=folder).wait_ready()
    try:
        yield
        assert command.stop() == 0
    finally:
        command.kill()


def rows(kafka: str) -> dict[str, dict[str, Any]]:
    """The newest row of each key."""
    found = (json.loads(message.value() or b"") for message in read_topic(kafka, Topic.ONCALL_STATE))
    return {row["key"]: row for row in found}


def states(kafka: str) -> dict[str, str]:
    return {
        key: row["status"] if "status" in row else "held" if row["held"] else "heard"
        for key, row in rows(kafka).items()
    }


@pytest.mark.requirement("M4.5")
def test_failure_pages_once_and_its_rollback_clears_it(own_kafka: str, receiver: Receiver, tmp_path: Path) -> None:
    make_topics(own_kafka)
    failed = record("shop-1", "failed")
    put(own_kafka, failed, failed, record("shop-1", "rolled_back"), record("shop-2", "failed"))
    with sink(settings(own_kafka, receiver.url), tmp_path):
        wait_for(lambda: len(receiver.pages) >= 3, what="three pages")
        put(own_kafka, record("history", "failed"), partition=HISTORY)
        put(own_kafka, record("old", "failed", finished_at=now() - 90 * MINUTE), record("shop-3", "failed"))
        wait_for(lambda: len(receiver.pages) >= 4, what="the fourth page")

    assert receiver.keys() == [
        ("deployment_failed/shop-1", "trigger"),
        ("deployment_failed/shop-1", "resolve"),
        ("deployment_failed/shop-2", "trigger"),
        ("deployment_failed/shop-3", "trigger"),
    ]
    assert receiver.pages[0]["details"]["deployment_id"] == "shop-1"
    assert states(own_kafka)["deployment_failed/old"] == "too_old"
    assert "deployment_failed/history" not in states(own_kafka)


@pytest.mark.requirement("M4.5")
def test_restart_sends_nothing_twice_and_a_crash_before_the_answer_sends_again(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    away, back = Receiver(503), Receiver()
    try:
        put(own_kafka, record("crash-1", "failed"))
        killed = Command("sink", "on-call", env=settings(own_kafka, away.url), cwd=tmp_path).wait_ready()
        wait_for(lambda: away.attempts >= 2, what="two attempts")
        killed.kill()
        assert states(own_kafka)["deployment_failed/crash-1"] == "intended"

        for _ in range(2):
            with sink(settings(own_kafka, back.url), tmp_path):
                wait_for(lambda: len(back.pages) >= 1, what="the page after the crash")
                marker = f"marker-{len(back.pages)}"
                put(own_kafka, record(marker, "failed"))
                wait_for(functools.partial(back.has, f"deployment_failed/{marker}"), what=marker)
    finally:
        away.close()
        back.close()

    assert back.keys().count(("deployment_failed/crash-1", "trigger")) == 1
    assert states(own_kafka)["deployment_failed/crash-1"] == "open"


def test_refused_page_is_recorded_and_holds_nothing_up(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    picky = Receiver(422, 429, 202)
    try:
        with sink(settings(own_kafka, picky.url), tmp_path):
            put(own_kafka, record("refused-1", "failed"), record("slow-1", "failed"))
            wait_for(lambda: len(picky.pages) == 1, what="the second page")
    finally:
        picky.close()

    assert picky.keys() == [("deployment_failed/slow-1", "trigger")]
    assert states(own_kafka)["deployment_failed/refused-1"] == "refused"


def about(signal_id: str, rule: str, reason: str, severity: str = "error", **fields: Any) -> bytes:
    """A finding about an alert: what caused it, or whether it is suppressed."""
    value = {
        "finding_id": f"{signal_id}-{reason}", "rule": rule, "reason": reason, "severity": severity, "rank": 1,
        "verdict": "violation" if rule == "incident_correlation" else "ok", "occurred_at": now(),
        "region": "eu-west-1", "environment": "production", "service": "shop", "deployment_id": "shop-1",
        "signal_id": signal_id, "explanation": "shop 4.2.0 (shop-1) changed the service itself", **fields,
    }  # fmt: skip
    return encode(RecordType.FINDING, value)


@pytest.mark.requirement("M4.4", "M4.5")
def test_page_about_a_suppressed_alert_is_sent_when_it_is_released(
    own_kafka: str, receiver: Receiver, tmp_path: Path
) -> None:
    def say(*findings: bytes) -> None:
        write(own_kafka, Topic.FINDINGS, [(1, b"k", finding) for finding in findings])

    def caused(signal_id: str, severity: str = "error") -> bytes:
        return about(signal_id, "incident_correlation", "deployed_shortly_before", severity)

    make_topics(own_kafka)
    env = settings(own_kafka, receiver.url) | {"DEPLOYTRAIL_ONCALL_WAIT_SECONDS": "3"}
    with sink(env, tmp_path):
        say(caused("held"), about("held", "alert_suppression", "suppressed_during_deployment"))
        say(about("early", "alert_suppression", "suppressed_during_deployment"), caused("early"))
        say(caused("loud"), caused("grave", "critical"))
        wait_for(lambda: receiver.has("incident_correlation/loud"), what="the page that nothing suppressed")
    assert [page["dedup_key"] for page in receiver.pages] == ["incident_correlation/grave", "incident_correlation/loud"]
    assert states(own_kafka)["alert/held"] == "held"

    say(about("held", "alert_suppression", "released_at_end"))
    say(about("early", "alert_suppression", "resolved_while_suppressed"), caused("last", "critical"))
    with sink(env, tmp_path):
        wait_for(lambda: receiver.has("incident_correlation/last"), what="the last page")

    assert [page["dedup_key"] for page in receiver.pages][2:] == [
        "incident_correlation/held",
        "incident_correlation/last",
    ]


def test_without_an_address_it_says_what_to_set(own_kafka: str, tmp_path: Path) -> None:
    command = Command("sink", "on-call", env=settings(own_kafka, ""), cwd=tmp_path)

    assert command.process.wait(90) == 78
    command.stop()
    assert "DEPLOYTRAIL_ONCALL_URL is ''" in "".join(command.lines)


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    with real_alertmanager(tmp_path, "route: {receiver: none}\nreceivers: [{name: none}]\n") as url:
        yield url


@pytest.mark.requirement("M4.5")
def test_alertmanager_shows_the_incident_until_it_is_resolved(
    own_kafka: str, alertmanager: str, tmp_path: Path
) -> None:
    def firing() -> list[str]:
        with urllib.request.urlopen(f"{alertmanager}/api/v2/alerts", timeout=30) as response:
            return [alert["labels"]["dedup_key"] for alert in json.load(response)]

    make_topics(own_kafka)
    with sink(settings(own_kafka, f"alertmanager+{alertmanager}"), tmp_path):
        put(own_kafka, record("am-1", "failed"))
        wait_for(lambda: "deployment_failed/am-1" in firing(), what="the alert")
        put(own_kafka, record("am-1", "succeeded"))
        wait_for(lambda: "deployment_failed/am-1" not in firing(), what="its end")

    assert states(own_kafka)["deployment_failed/am-1"] == "resolved"


def alerts(alertmanager: str) -> list[tuple[str, str]]:
    """What an Alertmanager shows as firing: key and number of alerts in it."""
    with urllib.request.urlopen(f"{alertmanager}/api/v2/alerts", timeout=30) as response:
        found = [(one["labels"]["dedup_key"], one["annotations"].get("alerts", "")) for one in json.load(response)]
    return sorted(found)


@pytest.mark.requirement("M4.3", "M4.5")
def test_storm_of_fifty_alerts_is_one_alert_in_alertmanager_though_the_sink_is_killed_amid_it(
    own_kafka: str, alertmanager: str, tmp_path: Path
) -> None:
    def say(numbers: range, incident: str, severity: str = "critical", **fields: Any) -> None:
        evidence = {"incident": incident} if incident else {}
        found = [
            about(f"s{n}", "incident_correlation", "deployed_shortly_before", severity, evidence=evidence, **fields)
            for n in numbers
        ]
        write(own_kafka, Topic.FINDINGS, [(1, b"k", finding) for finding in found])

    make_topics(own_kafka)
    env = settings(own_kafka, f"alertmanager+{alertmanager}") | {"DEPLOYTRAIL_ONCALL_WAIT_SECONDS": "2"}
    killed = Command("sink", "on-call", env=env, cwd=tmp_path).wait_ready()
    say(range(4), "")  # before it is known to be a storm
    wait_for(lambda: len(alerts(alertmanager)) >= 1, what="the first alert")
    say(range(25), "s0")
    wait_for(lambda: states(own_kafka).get("alert/s24") == "heard", what="half of the storm")
    killed.kill()
    say(range(25, 50), "s0")
    with sink(env, tmp_path):
        wait_for(lambda: alerts(alertmanager) == [("incident_correlation/s0", "50")], what="one alert")
        say(range(49), "s0", "info", verdict="ok")
        write(own_kafka, Topic.FINDINGS, [(1, b"k", about("another", "incident_correlation", "r", "critical"))])
        wait_for(lambda: len(alerts(alertmanager)) == 2, what="another incident")
        assert ("incident_correlation/s0", "50") in alerts(alertmanager)
        say(range(49, 50), "s0", "info", verdict="ok")
        wait_for(lambda: len(alerts(alertmanager)) == 1, what="the storm's end")

    assert states(own_kafka)["incident_correlation/s0"] == "resolved"
    assert states(own_kafka)["incident_correlation/s1"] == "resolved"


def apply(kafka: str, name: str, *levels: list[str], minutes: float) -> None:
    """An escalation policy for the service of that name."""
    steps = [{"notify": names, "acknowledge_minutes": minutes} for names in levels]
    spec = {"levels": steps, "scope": {"services": [name]}}
    policy = {"kind": "escalation", "name": name, "version": 1, "effective_from": "2026-01-01T00:00:00Z", "spec": spec}
    write(kafka, Topic.POLICIES, [(0, f"escalation/{name}/1".encode(), json.dumps(policy).encode())])


@pytest.mark.requirement("M4.5")
def test_who_is_next_is_told_in_order_once_each_though_the_sink_is_killed_amid_a_step(
    own_kafka: str, tmp_path: Path
) -> None:
    def steps(receiver: Receiver) -> list[tuple[int, list[str]]]:
        pages = [page["escalation"] for page in receiver.pages if page["dedup_key"] == "deployment_failed/esc-1"]
        return [(one["step"], one["notify"]) for one in pages]

    make_topics(own_kafka)
    apply(own_kafka, "ladder", ["deployer"], ["team"], ["sre-lead"], minutes=0.03)
    away, back = Receiver(202, 503), Receiver()
    try:
        killed = Command("sink", "on-call", env=settings(own_kafka, away.url), cwd=tmp_path).wait_ready()
        put(own_kafka, record("esc-1", "failed", service="ladder", deployer="ada", team="web"))
        wait_for(lambda: away.attempts >= 2, what="the second step, which is not taken")
        killed.kill()
        assert rows(own_kafka)["deployment_failed/esc-1"]["status"] == "intended"
        assert steps(away) == [(1, ["ada"])]
        with sink(settings(own_kafka, back.url), tmp_path):
            wait_for(lambda: len(steps(back)) >= 2, what="the steps that were left")
            key = "deployment_failed/esc-1"
            wait_for(lambda: rows(own_kafka)[key]["next_at"] == 0, what="the time of the last")
        with sink(settings(own_kafka, back.url), tmp_path):
            late = about("", "overdue", "overdue", service="ladder", deployment_id="esc-1", verdict="violation")
            write(own_kafka, Topic.FINDINGS, [(1, b"k", late)])
            wait_for(lambda: back.has("overdue/esc-1"), what="a page about what was recorded before")
    finally:
        for receiver in (away, back):
            receiver.close()

    assert steps(back) == [(2, ["web"]), (3, ["sre-lead"])]
    overdue = next(page for page in back.pages if page["dedup_key"] == "overdue/esc-1")
    assert overdue["escalation"]["notify"] == ["ada"]
    assert rows(own_kafka)["deployment_failed/esc-1"]["status"] == "open"


@pytest.mark.requirement("M4.5")
def test_nobody_else_is_told_once_the_receiver_says_who_acknowledged(
    own_kafka: str, receiver: Receiver, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    apply(own_kafka, "taken", ["team"], ["sre-lead"], minutes=0.03)
    receiver.acknowledged = {"deployment_failed/ack-1": "grace"}
    with sink(settings(own_kafka, receiver.url), tmp_path):
        put(own_kafka, record("ack-1", "failed", service="taken"), record("ack-2", "failed", service="taken"))
        wait_for(lambda: receiver.keys().count(("deployment_failed/ack-2", "trigger")) == 2, what="its second")
        key = "deployment_failed/ack-1"
        wait_for(lambda: rows(own_kafka)[key]["acknowledged"] is True, what="the word that it is taken")

    assert receiver.keys().count(("deployment_failed/ack-1", "trigger")) == 1


@pytest.mark.requirement("M4.5")
def test_a_silence_in_alertmanager_acknowledges_and_each_step_is_an_alert_of_its_own(
    own_kafka: str, alertmanager: str, tmp_path: Path
) -> None:
    def firing(key: str) -> list[tuple[str, str]]:
        with urllib.request.urlopen(f"{alertmanager}/api/v2/alerts", timeout=30) as response:
            found = [one["labels"] for one in json.load(response) if one["labels"]["dedup_key"] == key]
        return sorted((labels["escalation_step"], labels["notify"]) for labels in found)

    make_topics(own_kafka)
    apply(own_kafka, "routed", ["team"], ["sre-lead"], minutes=0.03)
    apply(own_kafka, "silenced", ["team"], ["sre-lead"], minutes=0.3)  # so long has who is to silence it
    with sink(settings(own_kafka, f"alertmanager+{alertmanager}"), tmp_path):
        put(own_kafka, record("am-2", "failed", service="routed", team="web"))
        wait_for(lambda: len(firing("deployment_failed/am-2")) == 2, what="both steps")
        put(own_kafka, record("am-3", "failed", service="silenced", team="web"))
        wait_for(lambda: len(firing("deployment_failed/am-3")) == 1, what="the first step")
        silence(alertmanager, "deployment_failed/am-3", by="grace")
        key = "deployment_failed/am-3"
        wait_for(lambda: rows(own_kafka)[key]["acknowledged"] is True, what="the word that it is taken")
        assert firing("deployment_failed/am-2") == [("1", "web"), ("2", "sre-lead")]
        put(own_kafka, record("am-2", "rolled_back", service="routed"))
        wait_for(lambda: firing("deployment_failed/am-2") == [], what="its end")

    assert firing("deployment_failed/am-3") == [("1", "web")]


def silence(alertmanager: str, key: str, by: str) -> None:
    body = {
        "matchers": [{"name": "dedup_key", "value": key, "isRegex": False}],
        "startsAt": format_instant(now()),
        "endsAt": format_instant(now() + 60 * MINUTE),
        "createdBy": by,
        "comment": "I am on it",
    }
    request = urllib.request.Request(
        f"{alertmanager}/api/v2/silences", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
