"""The gateway and its Kafka, stopped and killed at random moments: whatever was answered 202 arrives, in order."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from pathlib import Path

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.codec import decode
from deploytrail_schemas.topics import Topic
from support.commands import Command
from support.kafka import make_topics, read_topic, wait_for

ROUNDS = 3
KILLS_A_ROUND = 2
EVENT = {"event_type": "progressed", "region": "eu-west-1", "environment": "production", "service": "shop"}


class Reporter(threading.Thread):
    """One producer: an event at a time, the same one again until it is answered 202."""

    def __init__(self, name: str, url: str) -> None:
        super().__init__(daemon=True)
        self.producer, self.url = name, url
        self.accepted: list[int] = []
        self.unexpected: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 1
        with httpx.Client(timeout=30) as client:
            while not self.stopping.is_set():
                said = {"deployment_id": f"{self.producer}-{number}", "producer_id": self.producer}
                try:
                    answer = client.post(self.url, json=EVENT | said | {"producer_seq": number})
                except httpx.HTTPError:
                    time.sleep(0.02)
                    continue
                if answer.status_code == 202:
                    self.accepted.append(number)
                    number += 1
                    time.sleep(0.01)  # the gateway needs the machine, too
                elif answer.status_code not in (429, 503):
                    self.unexpected.append(answer.text)


def accepted(reporters: list[Reporter]) -> int:
    """How many events were answered 202."""
    return sum(len(reporter.accepted) for reporter in reporters)


@pytest.mark.requirement("M8.4")
@pytest.mark.timeout(600)
def test_nothing_that_was_answered_202_is_lost_when_kafka_stops_and_the_gateway_is_killed(tmp_path: Path) -> None:
    rng = random.Random(4)
    port = ports.free_port()
    with KafkaBroker(tmp_path / "kafka") as broker:
        make_topics(broker.bootstrap)
        env = {"DEPLOYTRAIL_KAFKA": broker.bootstrap, "DEPLOYTRAIL_GATEWAY_PORT": str(port)}
        gateway = Command("gateway", env=env, cwd=tmp_path).wait_ready()
        reporters = [Reporter(f"producer-{n}", f"http://127.0.0.1:{port}/v1/events") for n in range(4)]
        for reporter in reporters:
            reporter.start()
        kept_away = 0
        try:
            for _ in range(ROUNDS):
                time.sleep(rng.uniform(0.3, 1.0))
                broker.stop()
                for _ in range(KILLS_A_ROUND):
                    before = accepted(reporters)
                    time.sleep(rng.uniform(0.5, 3.0))
                    wait_for(lambda n=before: accepted(reporters) > n + 20, what="what is kept while Kafka is away")  # type: ignore[misc]
                    kept_away += accepted(reporters) - before
                    gateway.kill()
                    gateway = Command("gateway", env=env, cwd=tmp_path).wait_ready()
                broker.start()
                time.sleep(rng.uniform(0.0, 1.0))
                gateway.kill()  # while it drains, perhaps
                gateway = Command("gateway", env=env, cwd=tmp_path).wait_ready()
            for reporter in reporters:
                reporter.stopping.set()
            for reporter in reporters:
                reporter.join(60)
            ready = f"http://127.0.0.1:{port}/readyz"
            wait_for(lambda: httpx.get(ready, timeout=60).text == "ready\n", what="an empty spool")
            code = gateway.stop()
        finally:
            for reporter in reporters:
                reporter.stopping.set()
            gateway.kill()
        stored = [decode(m.value())[1] for m in read_topic(broker.bootstrap, Topic.INTAKE)]
    first: dict[str, list[int]] = defaultdict(list)
    for value in stored:
        if value["producer_seq"] not in first[value["producer_id"]]:
            first[value["producer_id"]].append(value["producer_seq"])

    assert code == 0
    assert [reporter.unexpected for reporter in reporters] == [[]] * 4
    assert kept_away > 100
    for reporter in reporters:
        assert set(reporter.accepted) <= set(first[reporter.producer])
        assert first[reporter.producer] == sorted(first[reporter.producer])
    # A kill may leave an empty folder, in the moment between its lock's end and its own.
    assert not [path for path in (tmp_path / ".deploytrail" / "gateway-spool").rglob("*") if path.is_file()]
