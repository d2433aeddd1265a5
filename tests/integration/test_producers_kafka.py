"""Straight to a real Kafka: what arrives in the intake topic, and what survives on the way."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaException, Message
from deploytrail_schemas.codec import decode
from deploytrail_schemas.headers import ECHO, SENT_AT, SENT_MONOTONIC
from deploytrail_schemas.topics import Topic
from support.kafka import end_offsets, make_topics, read_topic
from support.own_time import quickest, timed
from support.spool import COMMAND, PATIENT, command, environment, python, stored


@pytest.fixture
def intake(kafka: str) -> dict[int, int]:
    """Where the intake topic ends before a test."""
    make_topics(kafka)
    deadline = time.monotonic() + 60
    while True:
        try:
            return end_offsets(kafka, Topic.INTAKE)
        except KafkaException:  # a topic made just now has partitions without a leader for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _events(messages: list[Message]) -> list[dict[str, Any]]:
    return [decode(message.value())[1] for message in messages]


def _headers(message: Message) -> dict[str, str]:
    headers: list[tuple[str, bytes]] = message.headers() or []  # type: ignore[assignment]  # its stub says too much
    return {name: value.decode() for name, value in headers}


@pytest.mark.requirement("M2.2", "M3.2", "M8.1")
def test_events_of_a_run_arrive_as_they_were_stored(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    words = ("run", "--region", "us-east-1", "--version", "4.2.0", "--tag", "sprint=42", "--", "sh", "-c", "exit 3")
    env = environment(tmp_path, DEPLOYTRAIL_URL="kafka://127.0.0.1:1")
    command(*words, env=env)
    kept = stored(tmp_path)
    done = command("start", "--region", "eu-west-1", env=env | PATIENT | {"DEPLOYTRAIL_URL": f"kafka://{kafka}"})
    messages = read_topic(kafka, Topic.INTAKE, since=intake)
    run = [message for message in messages if message.partition() == 3]
    start = [message for message in messages if message.partition() == 1]

    assert (done.returncode, done.stderr) == (0, "")
    assert _events(run) == kept
    assert [(e["event_type"], e["exit_code"], e["region"]) for e in kept] == [
        ("started", None, "us-east-1"),
        ("failed", 3, "us-east-1"),
    ]
    assert [e["deployment_id"] for e in _events(start)] == [done.stdout.strip()]
    assert {bytes(m.key() or b"").decode() for m in messages} == {kept[0]["producer_id"]}
    assert stored(tmp_path) == []


@pytest.mark.requirement("M8.3")
def test_headers_bound_the_clock_from_both_sides(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    env = environment(tmp_path, DEPLOYTRAIL_URL=f"kafka://{kafka}", **PATIENT)
    deployment = command("start", env=env).stdout.strip()
    command("succeed", deployment, env=env)
    first, second = read_topic(kafka, Topic.INTAKE, since=intake)
    kind, appended = first.timestamp()
    sent, received, acknowledged = map(int, _headers(second)[ECHO].split(","))

    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert ECHO not in _headers(first)
    assert int(_headers(first)[SENT_MONOTONIC]) < int(_headers(second)[SENT_MONOTONIC]) <= time.monotonic_ns()
    assert int(_headers(first)[SENT_AT]) == sent
    assert received == appended * 1000
    assert sent - 1000 < received <= acknowledged  # the broker stamps whole milliseconds
    assert acknowledged - sent < 60_000_000


@pytest.mark.requirement("M8.1")
def test_region_without_a_partition_goes_to_the_other_one(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    command("start", "--region", "moon-1", env=environment(tmp_path, DEPLOYTRAIL_URL=f"kafka://{kafka}", **PATIENT))
    messages = read_topic(kafka, Topic.INTAKE, since=intake)

    assert [(m.partition(), e["region"]) for m, e in zip(messages, _events(messages), strict=True)] == [(0, "moon-1")]


@pytest.mark.requirement("M2.2", "M3.1", "M8.4")
def test_broker_away_costs_a_second_and_no_event(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as hole:
        away = f"kafka://127.0.0.1:{hole.getsockname()[1]}"
        env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=away)
        words = ("run", "--", "sh", "-c", "echo out; exit 3")
        done = command(*words, env=env)
        other = environment(tmp_path / "other", DEPLOYTRAIL_URL=away)
        took = quickest(lambda: timed([*COMMAND, *words], other).seconds, at_most=3.0)
    later = command("start", env=env | PATIENT | {"DEPLOYTRAIL_URL": f"kafka://{kafka}"})
    events = _events(read_topic(kafka, Topic.INTAKE, since=intake))

    assert (done.returncode, done.stdout) == (3, "out\n")
    assert took < 3
    assert done.stderr.count("\n") == 1
    assert later.stderr == ""
    assert [(e["producer_seq"], e["event_type"]) for e in events] == [(1, "started"), (2, "failed"), (3, "started")]


@pytest.mark.requirement("M8.4")
def test_backlog_arrives_in_order_and_each_event_once(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    script = "import deploytrail\nd = deploytrail.track()\nfor n in range(5000): d.progress()"
    python(script, environment(tmp_path))
    began = time.monotonic()
    done = command("start", "--wait", "120", env=environment(tmp_path, DEPLOYTRAIL_URL=f"kafka://{kafka}", **PATIENT))
    took = time.monotonic() - began
    numbers = [e["producer_seq"] for e in _events(read_topic(kafka, Topic.INTAKE, since=intake))]
    print(f"spool of 5001 events drained in {took:.2f} s, the command's start included")  # noqa: T201  # shown by pytest -rP

    assert done.stderr == ""
    assert numbers == list(range(1, 5002))


@pytest.mark.requirement("M2.2", "M3.1", "M8.4")
def test_every_event_whose_emit_returned_arrives_despite_kill_9(
    kafka: str, intake: dict[int, int], tmp_path: Path
) -> None:
    script = """
import sys, deploytrail
d = deploytrail.track(deployment_id=sys.argv[1])
n = 0
while True:
    n += 1
    d.progress(version=str(n))
    sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
"""
    env = environment(tmp_path, DEPLOYTRAIL_URL=f"kafka://{kafka}", **PATIENT)
    promised: set[tuple[str, str]] = set()
    for kill in range(30):
        run = subprocess.Popen([sys.executable, "-c", script, str(kill)], env=env, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        first = [run.stdout.readline() for _ in range(1 + kill % 8)]
        time.sleep((kill * 37 % 200) / 1000)  # into starting the client, connecting, sending, acknowledging
        run.kill()
        lines = [*first, *run.stdout.read().splitlines(keepends=True)]
        run.wait()
        promised |= {(str(kill), line.strip()) for line in lines if line.endswith("\n")}
    last = command("start", "--wait", "120", env=env)
    events = _events(read_topic(kafka, Topic.INTAKE, since=intake))
    arrived = {(e["deployment_id"], e["version"]) for e in events}
    numbers = {e["producer_seq"] for e in events}
    print(  # noqa: T201  # shown by pytest -rP
        f"30 kills: {len(promised)} events promised, {len(promised - arrived)} lost, "
        f"{len(events) - len({e['event_id'] for e in events})} sent again"
    )

    assert last.returncode == 0
    assert len(promised) > 100
    assert promised <= arrived
    assert numbers == set(range(1, len(numbers) + 1))
    assert stored(tmp_path) == []


@pytest.mark.requirement("M3.1")
def test_event_near_the_limit_of_a_message_arrives(kafka: str, intake: dict[int, int], tmp_path: Path) -> None:
    script = """
import os, deploytrail
deploytrail.start(tags={str(n): os.urandom(1900).hex() for n in range(250)})
assert deploytrail.flush(60)
"""
    done = python(script, environment(tmp_path, DEPLOYTRAIL_URL=f"kafka://{kafka}"))
    messages = read_topic(kafka, Topic.INTAKE, since=intake)

    assert (done.returncode, done.stderr) == (0, "")
    assert [len(message.value() or b"") > 950_000 for message in messages] == [True]
    assert not (tmp_path / "rejected.jsonl").exists()
