"""Suppressed alerts are silenced in a real Alertmanager, once, and are heard again at their release."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.codec import encode
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.silences.sink import GROUP
from support.alertmanager import alertmanager as real_alertmanager
from support.commands import Command
from support.kafka import make_topics, wait_for, write

EU, HISTORY = 1, 15
MINUTE = 60_000_000
LABELS = {"alertname": "SlowAnswers", "service": "shop", "instance": 'a"b\\c'}


def now() -> int:
    return time.time_ns() // 1000


def said(signal_id: str, reason: str, *, source: str = "prometheus", until: int = 30, **labels: str) -> bytes:
    """What the suppression app says of an alert."""
    evidence = {"begin": format_instant(now()), "until": format_instant(now() + until * MINUTE)}
    if reason == "suppressed_during_deployment":
        evidence |= {"source": source, "labels": json.dumps(LABELS | labels)}
    value = {
        "finding_id": f"{signal_id}-{reason}", "rule": "alert_suppression", "reason": reason, "severity": "warning",
        "verdict": "ok", "occurred_at": now(), "region": "eu-west-1", "environment": "production", "service": "shop",
        "deployment_id": "shop-1", "signal_id": signal_id, "explanation": f"{signal_id} keeps quiet",
        "evidence": evidence,
    }  # fmt: skip
    return encode(RecordType.FINDING, value)


def call(url: str, body: Any = None, method: str = "GET") -> Any:
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    with real_alertmanager(tmp_path, "route: {receiver: none}\nreceivers: [{name: none}]\n") as url:
        yield f"{url}/api/v2"


def silences(url: str) -> list[tuple[str, str]]:
    """Of which signal each silence is, and its state; in the order of their comments."""
    return sorted(
        (one["comment"].rpartition("[signal ")[2][:-1], one["status"]["state"]) for one in call(f"{url}/silences")
    )


def quiet(url: str) -> dict[str, bool]:
    """By instance, whether each alert of Alertmanager is silenced."""
    return {a["labels"]["instance"] + a["labels"].get("severity", ""): a["status"]["state"] == "suppressed"
            for a in call(f"{url}/alerts")}  # fmt: skip


@pytest.mark.requirement("M4.4")
def test_a_suppressed_alert_is_silenced_once_through_kills_and_heard_again_when_released(
    own_kafka: str, alertmanager: str, tmp_path: Path
) -> None:
    def say(*findings: bytes, partition: int = EU) -> None:
        write(own_kafka, Topic.FINDINGS, [(partition, b"k", finding) for finding in findings])

    make_topics(own_kafka)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_SILENCES_URL": alertmanager.removesuffix("/api/v2"),
        "DEPLOYTRAIL_SILENCES_SOURCES": "prometheus, grafana",
    }
    others = [LABELS | {"instance": "other"}, LABELS | {"severity": "critical"}]
    call(f"{alertmanager}/alerts", [{"labels": labels} for labels in (LABELS, *others)], "POST")
    say(said("history", "suppressed_during_deployment", instance="history"), partition=HISTORY)
    command = Command("sink", "silences", env=env, cwd=tmp_path).wait_ready()
    try:
        say(
            said("webhook", "suppressed_during_deployment", source="alertmanager", instance="webhook"),
            said("over", "suppressed_during_deployment", until=-1, instance="over"),
            said("nameless", "suppressed_during_deployment", alertname=""),
            said("held", "suppressed_during_deployment"),
        )
        wait_for(lambda: silences(alertmanager) == [("held", "active")], what="the silence")
        command.kill()
        wait_for(lambda: any(quiet(alertmanager).values()), what="Alertmanager to keep quiet")
        assert quiet(alertmanager) == {LABELS["instance"]: True, "other": False, f"{LABELS['instance']}critical": False}

        command = Command("sink", "silences", env=env, cwd=tmp_path).wait_ready()
        say(said("second", "suppressed_during_deployment", instance="other"))
        wait_for(lambda: len(silences(alertmanager)) > 1, what="the second silence")
        assert silences(alertmanager) == [("held", "active"), ("second", "active")]

        say(said("held", "released_at_end"))
        wait_for(lambda: ("held", "expired") in silences(alertmanager), what="the release")
        [second] = [one for one in call(f"{alertmanager}/silences") if "[signal second]" in one["comment"]]
        call(f"{alertmanager}/silence/{second['id']}", method="DELETE")  # somebody wants to hear it
        say(said("second", "released_at_limit"))
        assert command.stop() == 0

        # Everything comes once more.
        admin = AdminClient(client_config(Settings(kafka=own_kafka)))
        begin = ConsumerGroupTopicPartitions(GROUP, [TopicPartition(Topic.FINDINGS.value, EU, 0)])
        [done] = admin.alter_consumer_group_offsets([begin]).values()
        done.result(30)
        command = Command("sink", "silences", env=env, cwd=tmp_path).wait_ready()
        say(said("last", "suppressed_during_deployment", instance="last"))
        wait_for(lambda: ("last", "active") in silences(alertmanager), what="the last silence")
        assert command.stop() == 0
    finally:
        command.kill()

    assert silences(alertmanager) == [("held", "expired"), ("last", "active"), ("second", "expired")]
    [last] = [one for one in call(f"{alertmanager}/silences") if one["status"]["state"] == "active"]
    assert last["createdBy"] == "deploytrail"
    assert {"name": "severity", "value": "critical", "isRegex": False, "isEqual": False} in last["matchers"]


def test_without_sources_it_says_why_it_does_not_start(own_kafka: str, tmp_path: Path) -> None:
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_SILENCES_URL": "http://127.0.0.1:9093"}
    command = Command("sink", "silences", env=env, cwd=tmp_path)

    assert command.process.wait(90) == 78
    command.stop()
    assert "DEPLOYTRAIL_SILENCES_SOURCES is empty" in "".join(command.lines)
