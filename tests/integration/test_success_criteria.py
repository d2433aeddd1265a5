"""Verdicts on a real Kafka: through kill -9 none is lost, and the trail replayed gives the same again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploytrail_processors.apps.success_criteria import Success
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.apps import Handled, tick
from support.commands import Command, run, running
from support.kafka import known_clock, make_topics, read_topic, wait_for, write

SECOND = 1_000_000
PLACE = {"region": "eu-west-1", "environment": "production", "service": "shop"}
POLICY = {
    "kind": "success_criteria",
    "name": "default",
    "effective_from": "2020-01-01T00:00:00Z",
    "spec": {
        "max_duration_minutes": 1,
        "rollback_rate": {"max_percent": 50, "deployments": 20, "minimum": 1},
        "incident": {"within_minutes": 0.1},
    },
}
EU = 1


def deploy(name: str, begin: int, seconds: int, what: str = "succeeded", **fields: Any) -> list[bytes]:
    common = {"deployment_id": name, "producer_id": "test", **PLACE, **fields}
    return [
        encode(RecordType.DEPLOYMENT_EVENT, {"event_id": uuid7(), "event_type": kind, "occurred_at": at, **common})
        for kind, at in (("started", begin), (what, begin + seconds * SECOND))
    ]


def alert(at: int) -> bytes:
    named = {"source": "alertmanager", "fingerprint": "f1", "severity": "critical", "title": "HighErrorRate"}
    value = {"signal_id": uuid7(), "signal_type": "alert_firing", "occurred_at": at, **PLACE, **named}
    return encode(RecordType.SIGNAL, value)


def report(kafka: str, *values: bytes) -> None:
    """Write to the intake as a sender does whose clock is known to milliseconds."""
    write(kafka, Topic.INTAKE, [(EU, b"test", value) for value in values], known_clock())


def findings(kafka: str, rule: str) -> dict[str, dict[str, Any]]:
    found = [decode(message.value())[1] for message in read_topic(kafka, Topic.FINDINGS)]
    return {f["finding_id"]: f for f in found if f["rule"] == rule}


def standing(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    replaced = {f["supersedes"] for f in found.values()}
    kept = [f for name, f in found.items() if name not in replaced]
    assert len({f["deployment_id"] for f in kept}) == len(kept)
    return {f["deployment_id"]: f for f in kept}


def replayed(kafka: str) -> dict[str, dict[str, Any]]:
    """The standing verdicts of the trail, read from its beginning into a fresh state."""
    again = Handled(Success, [POLICY])
    for message in read_topic(kafka, Topic.EVENTS):
        if message.partition() == EU:
            kind, value = decode(message.value())
            again.tell(tick(value["at"]) if kind is RecordType.TICK else value)
    return {found["deployment_id"]: found for found in again.standing}


@pytest.mark.requirement("M1.4")
def test_verdicts_survive_kill_9_and_a_replay_gives_them_again(own_kafka: str, tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text(yaml.safe_dump(POLICY))
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
    }
    make_topics(own_kafka)
    assert run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path).returncode == 0

    def verdicts() -> dict[str, str]:
        return {name: f["reason"] for name, f in standing(findings(own_kafka, "success_criteria")).items()}

    apps = ("processor", "correlation", "success_criteria")
    with running("processor", "intake", env=env | {"DEPLOYTRAIL_STATE": str(tmp_path / "intake")}, cwd=tmp_path):
        first = Command(*apps, env=env, cwd=tmp_path)
        try:
            first.wait_ready()
            now = time.time_ns() // 1000
            # Long ago, so that none of these is a rival for what an alert of today was caused by.
            long_ago = now - 20 * 3600 * SECOND
            for n in range(10):
                report(own_kafka, *deploy(f"shop-{n}", long_ago + 20 * n * SECOND, 10))
            wait_for(lambda: len(verdicts()) > 0, what="a first verdict")
        finally:
            first.kill()
        # While nobody judges: one that fails, one that takes too long, and an alert on the heels of another.
        begin = time.time_ns() // 1000 - 300 * SECOND
        report(own_kafka, *deploy("broken", long_ago + 300 * SECOND, 5, "failed"))
        report(own_kafka, *deploy("slow", long_ago + 400 * SECOND, 180))
        report(own_kafka, *deploy("hurt", begin + 120 * SECOND, 10), alert(begin + 132 * SECOND))
        with running(*apps, env=env, cwd=tmp_path) as second:
            wait_for(lambda: len(verdicts()) == 13, what="every verdict after kill -9")
            report(own_kafka, *deploy("undo", begin + 200 * SECOND, 5, kind="rollback", rollback_of="shop-3"))
            wait_for(lambda: verdicts().get("shop-3") == "deployment_rolled_back", what="the verdict after a rollback")
            wait_for(lambda: "undo" in verdicts(), what="the verdict on the rollback")
            assert second.stop() == 0

    found = standing(findings(own_kafka, "success_criteria"))
    reasons = {name: f["reason"] for name, f in found.items()}
    told = {name: f["explanation"] for name, f in found.items()}
    assert {name: reasons[name] for name in ("broken", "slow", "hurt", "undo")} == {
        "broken": "deployment_failed",
        "slow": "took_too_long",
        "hurt": "incident_correlated",
        "undo": "criteria_met",
    }, told
    assert {reasons[f"shop-{n}"] for n in range(10) if n != 3} == {"criteria_met"}
    assert found["hurt"]["evidence"]["incident_finding"] in findings(own_kafka, "incident_correlation")
    assert replayed(own_kafka) == found
