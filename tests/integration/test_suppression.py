"""Alerts that keep quiet during a deployment, on a real Kafka and through a kill."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import Command, run
from support.kafka import known_clock, make_topics, read_topic, wait_for, write

EU = 1
MINUTE = 60_000_000
POLICIES = """\
kind: suppression
name: default
effective_from: 2020-01-01T00:00:00Z
spec: {max_minutes: 30}
---
kind: suppression
name: impatient
effective_from: 2020-01-01T00:00:00Z
spec: {max_minutes: 0.4, scope: {services: [impatient]}}
"""


def now() -> int:
    return time.time_ns() // 1000


def place(service: str) -> dict[str, Any]:
    return {"region": "eu-west-1", "environment": "production", "service": service, "producer_id": "test"}


def event(kind: str, service: str, at: int) -> bytes:
    value = {"event_id": uuid7(), "event_type": kind, "deployment_id": f"{service}-1", "occurred_at": at}
    return encode(RecordType.DEPLOYMENT_EVENT, value | place(service))


def alert(service: str, at: int, signal_id: str = "", severity: str = "warning") -> bytes:
    value = {
        "signal_id": signal_id or uuid7(), "signal_type": "alert_firing", "occurred_at": at, "severity": severity,
        "title": "SlowAnswers", "fingerprint": "f1", "source": "alertmanager",
    }  # fmt: skip
    return encode(RecordType.SIGNAL, value | place(service))


def report(kafka: str, *values: bytes) -> None:
    """Write to the intake as a sender does whose clock is known to milliseconds."""
    write(kafka, Topic.INTAKE, [(EU, b"test", value) for value in values], known_clock())


def reasons(kafka: str, signal_id: str) -> list[str]:
    """What was said of a signal, each finding once, checked to be one chain of supersessions."""
    found = [decode(m.value())[1] for m in read_topic(kafka, Topic.FINDINGS)]
    mine = list({f["finding_id"]: f for f in found if f["signal_id"] == signal_id}.values())
    assert [f["supersedes"] for f in mine] == ["", *(f["finding_id"] for f in mine)][: len(mine)]
    return [f["reason"] for f in mine]


@pytest.mark.requirement("M4.4")
def test_suppressed_alerts_come_back_at_the_end_at_the_limit_and_after_a_kill(own_kafka: str, tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text(POLICIES)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
    }
    make_topics(own_kafka)
    assert run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path).returncode == 0
    calm, grave, hasty = uuid7(), uuid7(), uuid7()
    command = Command("processor", "intake", "suppression", env=env, cwd=tmp_path).wait_ready()
    try:
        start = now() - 8_000_000  # the impatient one's limit comes 16 s from now, whatever keeps the machine busy
        report(
            own_kafka,
            *(alert(service, start - 90 * MINUTE) for service in ("shop", "impatient")),
            *(event("started", service, start) for service in ("shop", "impatient")),
            alert("shop", now(), calm),
            alert("shop", now(), grave, "critical"),
            alert("impatient", now(), hasty),
        )
        wait_for(lambda: reasons(own_kafka, calm) == ["suppressed_during_deployment"], what="the suppression")
        wait_for(lambda: reasons(own_kafka, hasty)[-1:] == ["released_at_limit"], what="the limit")
        command.kill()
        report(own_kafka, event("succeeded", "shop", now()))
        command = Command("processor", "intake", "suppression", env=env, cwd=tmp_path).wait_ready()
        wait_for(lambda: len(reasons(own_kafka, calm)) == 2, what="the release")
        assert command.stop() == 0
    finally:
        command.kill()

    assert reasons(own_kafka, calm) == ["suppressed_during_deployment", "released_at_end"]
    assert reasons(own_kafka, hasty) == ["suppressed_during_deployment", "released_at_limit"]
    assert reasons(own_kafka, grave) == ["critical_is_never_suppressed"]
