"""What runs without a deployment, on a real Kafka: inferred, taken back, through kills and redelivery of everything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_processors.state_formats import group_of, state_format
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.commands import Command, run
from support.kafka import known_clock, make_topics, read_topic, wait_for, write

EU = 1
SECOND = 1_000_000
PLACE = {"region": "eu-west-1", "environment": "production", "service": "shop", "producer_id": "test"}
POLICIES = """\
kind: reconciliation
name: hasty
effective_from: 2020-01-01T00:00:00Z
spec: {grace_minutes: 0.1, settle_minutes: 0.02}
"""
GROUP = group_of("reconciliation", state_format("reconciliation"))
APPS = ("intake", "lifecycle", "reconciliation")


def event(event_type: str, name: str, at: int, **fields: Any) -> bytes:
    value = {"event_id": uuid7(), "event_type": event_type, "deployment_id": name, "occurred_at": at, **PLACE, **fields}
    return encode(RecordType.DEPLOYMENT_EVENT, value)


def seen(observation_type: str, instance: str, at: int, **fields: Any) -> bytes:
    value = {"observation_id": uuid7(), "observation_type": observation_type, "occurred_at": at, **PLACE, **fields}
    return encode(RecordType.OBSERVATION, value | {"cluster": "prod-1", "instance": instance, "source": "watch"})


def report(kafka: str, *values: bytes) -> None:
    """Write to the intake as a sender does whose clock is known to milliseconds."""
    write(kafka, Topic.INTAKE, [(EU, b"test", value) for value in values], known_clock())


def inferred(kafka: str) -> dict[str, list[dict[str, Any]]]:
    """Events of the trail that were inferred here, by their id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in read_topic(kafka, Topic.EVENTS):
        _, value = decode(message.value())
        if value.get("source") == "reconciliation":
            assert message.partition() == EU
            found.setdefault(value["event_id"], []).append(value)
    return found


def words(kafka: str) -> list[tuple[str, str]]:
    """Event type and version of what was inferred, each event once; those written again are the same."""
    by_id = inferred(kafka)
    assert all(one == events[0] for events in by_id.values() for one in events)
    return [(events[0]["event_type"], events[0]["version"]) for events in by_id.values()]


def states(kafka: str) -> dict[str, tuple[str, str, float]]:
    """State, provenance and confidence of each deployment's newest record."""
    records = (decode(m.value())[1] for m in read_topic(kafka, Topic.RECORDS))
    return {r["deployment_id"]: (r["state"], r["provenance"], r["confidence"]) for r in records}


def reasons(kafka: str) -> list[str]:
    """What was said of unreported deployments, checked to be one chain."""
    found = [decode(m.value())[1] for m in read_topic(kafka, Topic.FINDINGS)]
    mine = list({f["finding_id"]: f for f in found if f["rule"] == "unreported_deployment"}.values())
    assert [f["supersedes"] for f in mine] == ["", *(f["finding_id"] for f in mine)][: len(mine)]
    return [f["reason"] for f in mine]


def committed(admin: AdminClient) -> int:
    """How far the app has committed the trail's partition."""
    asked = ConsumerGroupTopicPartitions(GROUP, [TopicPartition(Topic.EVENTS.value, EU)])
    [found] = admin.list_consumer_group_offsets([asked]).values()
    return next((one.offset for one in found.result(30).topic_partitions), -1)


def deliver_again(admin: AdminClient) -> None:
    """Let the app, which is stopped, begin where the trail begins."""
    begin = [TopicPartition(Topic.EVENTS.value, EU, 0)]
    [done] = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, begin)]).values()
    done.result(30)


def end_of_trail(kafka: str) -> int:
    return max(m.offset() or 0 for m in read_topic(kafka, Topic.EVENTS) if m.partition() == EU)


@pytest.mark.requirement("M3.5")
def test_inferred_records_outlive_a_kill_are_superseded_and_come_once_through_redelivery(
    own_kafka: str, tmp_path: Path
) -> None:
    (tmp_path / "policies.yaml").write_text(POLICIES)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
    }
    make_topics(own_kafka)
    assert run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path).returncode == 0
    admin = AdminClient(client_config(Settings(kafka=own_kafka)))
    at = time.time_ns() // 1000
    command = Command("processor", *APPS, env=env, cwd=tmp_path).wait_ready()
    try:
        report(
            own_kafka,
            *(event(word, "shop-1", at - 600 * SECOND, version="1") for word in ("started", "succeeded")),
            seen("running", "a", at - 600 * SECOND, version="1"),
            seen("running", "b", at, version="2"),
            seen("removed", "a", at),
        )
        wait_for(lambda: len(words(own_kafka)) == 2, what="the inferred deployment")
        command.kill()
        assert words(own_kafka) == [("started", "2"), ("succeeded", "2")]

        # The real one comes while nobody is there.
        report(own_kafka, *(event(word, "shop-2", at - SECOND, version="2") for word in ("started", "succeeded")))
        command = Command("processor", *APPS, env=env, cwd=tmp_path).wait_ready()
        wait_for(lambda: ("voided", "2") in words(own_kafka), what="the inferred one to be taken back")
        wait_for(lambda: reasons(own_kafka)[-1:] == ["explained_by_late_report"], what="the finding of it")
        assert command.stop() == 0

        before = words(own_kafka), reasons(own_kafka)
        deliver_again(admin)
        end = end_of_trail(own_kafka)
        command = Command("processor", *APPS, env=env, cwd=tmp_path).wait_ready()
        wait_for(lambda: committed(admin) > end + 4, what="everything to be read again, and some ticks")
        assert command.stop() == 0
    finally:
        command.kill()

    assert (words(own_kafka), reasons(own_kafka)) == before
    assert before[0] == [("started", "2"), ("succeeded", "2"), ("voided", "2")]
    [void] = [events[0] for events in inferred(own_kafka).values() if events[0]["event_type"] == "voided"]
    assert void["tags"]["superseded_by"] == "shop-2"
    found = states(own_kafka)
    assert found[void["deployment_id"]] == ("voided", "inferred", 0.583)
    assert found["shop-2"] == ("succeeded", "reported", 1.0)


def drift(kafka: str) -> list[dict[str, Any]]:
    """What was said of drift, each finding once; those written again are the same."""
    found = [decode(m.value())[1] for m in read_topic(kafka, Topic.FINDINGS)]
    mine = [one for one in found if (one["rule"], one["service"]) == ("drift", "mail")]
    by_id = {one["finding_id"]: one for one in mine}
    assert all(by_id[one["finding_id"]] == one for one in mine)
    return list(by_id.values())


@pytest.mark.requirement("M3.5")
def test_git_says_more_than_the_cluster_runs_until_it_does_through_a_kill(own_kafka: str, tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text(POLICIES)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
    }
    make_topics(own_kafka)
    assert run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path).returncode == 0
    at = time.time_ns() // 1000
    place = {"service": "mail"}
    command = Command("processor", *APPS, env=env, cwd=tmp_path).wait_ready()
    try:
        report(
            own_kafka,
            *(
                event(word, "mail-1", at - 600 * SECOND, version="1", service="mail")
                for word in ("started", "succeeded")
            ),
            seen("running", "mail-a", at - 600 * SECOND, version="1", **place),
            seen("running", "mail-b", at - 600 * SECOND, version="1", **place),
            declared("2", at),
        )
        wait_for(lambda: len(drift(own_kafka)) == 1, what="the finding that git says more")
        command.kill()
        [found] = drift(own_kafka)

        assert (found["reason"], found["service"]) == ("declared_but_not_running", "mail")
        assert (found["evidence"]["declared"], found["evidence"]["runs"]) == ("2", "1")
        assert found["explanation"].startswith("git says 2, mail in prod-1 runs 1 on 2 of 2")
        # It comes to run there while nobody looks.
        at = time.time_ns() // 1000
        report(
            own_kafka,
            event("started", "mail-2", at - SECOND, version="2", service="mail"),
            *(seen("removed", name, at, **place) for name in ("mail-a", "mail-b")),
            *(seen("running", name, at, version="2", **place) for name in ("mail-c", "mail-d")),
            event("succeeded", "mail-2", at + SECOND, version="2", service="mail"),
        )
        command = Command("processor", *APPS, env=env, cwd=tmp_path).wait_ready()
        wait_for(lambda: len(drift(own_kafka)) == 2, what="what takes it back")
        assert command.stop() == 0
    finally:
        command.kill()
    first, last = drift(own_kafka)

    assert (last["verdict"], last["reason"]) == ("ok", "runs_as_declared")
    assert last["supersedes"] == first["finding_id"]


def declared(version: str, at: int) -> bytes:
    """What a step behind the merge posts."""
    value = {"observation_id": uuid7(), "observation_type": "declared", "occurred_at": at, **PLACE, "service": "mail"}
    about = {"source": "git", "version": version, "commit_sha": "1f" * 20}
    return encode(RecordType.OBSERVATION, value | about)
