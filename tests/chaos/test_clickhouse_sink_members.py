"""Sinks that come and go, and one that believes it still has its partitions: rows once, none lost."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from pathlib import Path

import pytest
from benchmarks.bench_kill import Load
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import Command
from support.kafka import empty, make_topics, wait_for

# The suite's few; more by DEPLOYTRAIL_TEST_REBALANCES.
ROUNDS = int(os.environ.get("DEPLOYTRAIL_TEST_REBALANCES", "2"))


class Sinks:
    """Sinks of one group under a load."""

    def __init__(self, kafka: str, clickhouse: str, folder: Path) -> None:
        self.database = f"members_{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._began = time.time_ns() // 1000
        self._env = {
            # A stopped one is given up after six seconds.
            "DEPLOYTRAIL_KAFKA_CLIENT": "session.timeout.ms=6000;heartbeat.interval.ms=1000",
            "DEPLOYTRAIL_KAFKA": kafka,
            "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": self.database,
        }
        self.members: list[Command] = []
        self.load = Load(kafka, Topic.EVENTS)
        self._client = connect(Settings.load(self._env))

    def join(self) -> Command:
        """One more."""
        self.members.append(Command("sink", "clickhouse", env=self._env, cwd=self._folder).wait_ready())
        return self.members[-1]

    def counts(self) -> tuple[int, int, int]:
        """Rows, distinct places in Kafka, rows of the view of distinct events."""
        # Not those of an earlier test, of which a killed sink may have left a range announced.
        new = f"WHERE corrected_at >= fromUnixTimestamp64Micro({self._began})"
        table, view = f"{self.database}.deployment_events", f"{self.database}.distinct_deployment_events"
        question = f"SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {table} {new}"
        [(rows, places)] = self._client.query(question).result_rows
        return int(rows), int(places), int(self._client.query(f"SELECT count() FROM {view} {new}").result_rows[0][0])

    def end(self) -> None:
        """End every one."""
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
            member.kill()


@pytest.fixture
def kafka(own_kafka: str) -> str:
    empty(own_kafka)
    make_topics(own_kafka)
    return own_kafka


@pytest.mark.timeout(400 + 100 * ROUNDS)
@pytest.mark.requirement("M8.4")
def test_sinks_that_join_and_leave_under_load_lose_and_double_no_row(
    kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    sinks, rng = Sinks(kafka, clickhouse, tmp_path), random.Random(11)
    try:
        sinks.join()
        sinks.load.start()
        for _ in range(ROUNDS):
            sinks.join()
            time.sleep(rng.uniform(0.5, 2.0))
            leaving = sinks.members.pop(rng.randrange(len(sinks.members)))
            if rng.random() < 0.5:
                leaving.kill()
            else:
                assert leaving.stop() == 0
            time.sleep(rng.uniform(0.5, 2.0))
        sinks.load.stop()
        wait_for(lambda: sinks.counts()[1] >= sinks.load.sent, what="every row")
        time.sleep(1.0)  # what would come twice, comes by now

        assert sinks.counts() == (sinks.load.sent,) * 3
    finally:
        sinks.end()


@pytest.mark.timeout(600)
@pytest.mark.requirement("M8.4")
def test_a_zombie_that_wakes_up_doubles_no_row(kafka: str, clickhouse: str, tmp_path: Path) -> None:
    """A sink is frozen in the middle of its work until another has its partitions, then goes on where it was."""
    sinks = Sinks(kafka, clickhouse, tmp_path)
    try:
        zombie = sinks.join()
        sinks.load.start()
        for freeze in (0.8, 1.1):
            time.sleep(freeze)
            zombie.process.send_signal(signal.SIGSTOP)
            heir = sinks.join()
            seen = sinks.counts()[1]
            wait_for(lambda n=seen: sinks.counts()[1] > n + 100, what="the heir's rows")  # type: ignore[misc]
            zombie.process.send_signal(signal.SIGCONT)
            time.sleep(2.0)  # it inserts what it had, or finds that it may not
            zombie = heir
        sinks.load.stop()
        wait_for(lambda: sinks.counts()[1] >= sinks.load.sent, what="every row")

        assert sinks.counts() == (sinks.load.sent,) * 3
        assert all(member.process.poll() is None for member in sinks.members)
    finally:
        sinks.end()
