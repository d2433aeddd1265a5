"""A rollback's verdict on a real Kafka: by a tick at the deadline, and superseded by what comes late."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.kafka import known_clock, make_topics, read_topic, wait_for, write

SECOND = 1_000_000
PLACE = {"region": "eu-west-1", "environment": "production", "service": "shop", "producer_id": "test"}
POLICIES = """\
kind: rollback_verification
name: default
effective_from: 2020-01-01T00:00:00Z
spec: {deadline_minutes: 0.4, required: [digest, alert]}
"""


def event(event_type: str, name: str, at: int, **fields: Any) -> bytes:
    value = {"event_id": uuid7(), "event_type": event_type, "deployment_id": name, "occurred_at": at, **PLACE, **fields}
    return encode(RecordType.DEPLOYMENT_EVENT, value)


def report(kafka: str, *values: bytes) -> None:
    """Write to the intake as a sender does whose clock is known to milliseconds."""
    write(kafka, Topic.INTAKE, [(1, b"test", value) for value in values], known_clock())


@pytest.mark.requirement("M4.6")
def test_a_rollback_is_judged_at_its_deadline_and_again_when_more_is_seen(own_kafka: str, tmp_path: Path) -> None:
    def verdicts() -> list[tuple[str, str]]:
        found = [decode(m.value())[1] for m in read_topic(own_kafka, Topic.FINDINGS)]
        mine = {f["finding_id"]: f for f in found if f["rule"] == "rollback_verification"}.values()
        assert [f["supersedes"] for f in mine] == ["", *(f["finding_id"] for f in mine)][: len(mine)]
        return [(f["evidence"]["outcome"], f["reason"]) for f in mine]

    (tmp_path / "policies.yaml").write_text(POLICIES)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
    }
    make_topics(own_kafka)
    assert run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path).returncode == 0
    with running("processor", "intake", "rollback_verification", env=env, cwd=tmp_path) as command:
        at = time.time_ns() // 1000
        undoing: dict[str, Any] = {"kind": "rollback", "rollback_of": "bad", "artifact_digest": "sha256:good"}
        reported = [
            event("started", "bad", at - 60 * SECOND),
            event("failed", "bad", at - 50 * SECOND),
            event("started", "undo", at - 40 * SECOND, **undoing),
            event("succeeded", "undo", at - 20 * SECOND, **undoing),
        ]
        report(own_kafka, *reported)
        wait_for(lambda: verdicts() == [("inconclusive", "not_seen_running")], what="the verdict at the deadline")
        seen = {"observation_id": uuid7(), "observation_type": "running", "occurred_at": at, **PLACE}
        value = encode(RecordType.OBSERVATION, seen | {"artifact_digest": "sha256:good"})
        report(own_kafka, value)
        wait_for(lambda: len(verdicts()) == 2, what="the verdict after late evidence")
        assert command.stop() == 0

    assert verdicts()[1] == ("verified", "rollback_verified")
