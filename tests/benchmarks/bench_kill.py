"""kill -9 of the intake worker and of the ClickHouse sink under load: nothing lost, nothing twice."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Producer
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.codec import encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import Command
from support.kafka import make_topics

KILLS, RATE = 10, 300


def run() -> list[tuple[str, str]]:
    """Kill both, ten times each, at random moments of a steady load; then count."""
    rng = random.Random(3)
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as broker, ClickHouseProcess(folder) as clickhouse:
            make_topics(broker.bootstrap)
            env = {
                "DEPLOYTRAIL_KAFKA": broker.bootstrap,
                "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse.url,
                "DEPLOYTRAIL_STATE": str(folder / "state"),
            }
            commands = {words: Command(*words, env=env, cwd=folder).wait_ready() for words in _COMMANDS}
            load = Load(broker.bootstrap)
            load.start()
            began = time.monotonic()
            try:
                for _ in range(KILLS):
                    for words in _COMMANDS:
                        time.sleep(rng.uniform(0.2, 2.0))
                        commands[words].kill()
                        commands[words] = Command(*words, env=env, cwd=folder)
                    for command in commands.values():
                        command.wait_ready(60)
            finally:
                took = time.monotonic() - began
                load.stop()
            settings = Settings.load(env)
            rows, places, distinct, view = _counts(settings, load.sent)
            for command in commands.values():
                command.stop()
    return [
        ("kill -9 of intake and of the ClickHouse sink", f"{KILLS} each, in {took:.0f} s, at {RATE} events/s"),
        ("events sent", str(load.sent)),
        ("events lost", str(load.sent - distinct)),
        ("rows twice by topic, partition and offset", str(rows - places)),
        ("events twice in the view of distinct events", str(view - distinct)),
    ]


_COMMANDS = (("processor", "intake"), ("sink", "clickhouse"))


class Load(threading.Thread):
    """Events written to a topic at a steady rate a second, each acknowledged."""

    def __init__(self, bootstrap: str, topic: Topic = Topic.INTAKE, *, rate: int = RATE) -> None:
        super().__init__(daemon=True)
        self._topic, self._rate = topic, rate
        self._producer = Producer(producer_config(Settings(kafka=bootstrap)))
        self._stop_asked = threading.Event()
        self.sent = 0

    def run(self) -> None:
        begin = time.monotonic()
        while not self._stop_asked.is_set():
            event = {
                "event_id": uuid7(),
                "event_type": "started",
                "deployment_id": f"d{self.sent}",
                "occurred_at": time.time_ns() // 1000,
                "region": "eu-west-1",
                "environment": "bench",
                "service": "load",
                "producer_id": "bench",
                # As the intake app would have set them, for a load that goes straight onto the trail.
                "received_at": time.time_ns() // 1000,
                "corrected_at": time.time_ns() // 1000,
                "uncertainty_ms": 0,
            }
            self._producer.produce(
                self._topic.value, encode(RecordType.DEPLOYMENT_EVENT, event), b"bench", partition=1 + self.sent % 7
            )
            self.sent += 1
            self._producer.poll(0)
            time.sleep(max(0.0, begin + self.sent / self._rate - time.monotonic()))

    def stop(self) -> None:
        """Stop, once everything is acknowledged."""
        self._stop_asked.set()
        self.join()
        if self._producer.flush(30):
            raise RuntimeError("the load itself was not delivered")


def _counts(settings: Settings, expected: int) -> tuple[int, int, int, int]:
    """Rows, distinct places in Kafka, distinct ids, rows of the view; once all are there."""
    client = connect(settings)
    question = (
        "SELECT count(), uniqExact(kafka_partition, kafka_offset), uniqExact(event_id) "
        "FROM deploytrail.deployment_events WHERE service = 'load'"
    )
    view = "SELECT count() FROM deploytrail.distinct_deployment_events WHERE service = 'load'"
    deadline = time.monotonic() + 60
    while client.query(question).result_rows[0][2] < expected and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    rows, places, distinct = client.query(question).result_rows[0]
    return rows, places, distinct, client.query(view).result_rows[0][0]
