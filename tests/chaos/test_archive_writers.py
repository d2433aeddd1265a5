"""Sinks of the archive that are killed, rebalanced and left behind as zombies: nothing missing, nothing twice.

Small counts by default; DEPLOYTRAIL_CHAOS=full plays 50 kills, 20 rebalances and 20 zombies over 20,000 events.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.codec import encode
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.sink import GROUP
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.archive.verify import verify
from support.commands import Command
from support.kafka import end_offsets, make_topics, wait_for, write
from support.values import NOON, event

FULL = os.environ.get("DEPLOYTRAIL_CHAOS") == "full"
KILLS, REBALANCES, ZOMBIES, EVENTS = (50, 20, 20, 20_000) if FULL else (3, 2, 2, 2_000)
PARTITIONS = (3, 4, 5, 6)
VALUES = [
    encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, environment=environment))
    for environment in ("production", "staging")
]


class Group:
    """Sinks of one group, in an order of misfortunes that a seed decides."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self._admin = AdminClient(client_config(Settings(kafka=kafka)))
        self._folder = folder
        self._env = {
            "DEPLOYTRAIL_KAFKA": kafka,
            "DEPLOYTRAIL_ARCHIVE": f"file:{folder}/archive",
            "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
            "DEPLOYTRAIL_ARCHIVE_SEGMENT_RECORDS": "40",
        }
        self._rng = random.Random(7)
        self._joined = 0
        self._names: dict[Command, str] = {}
        self.members: list[Command] = []

    def join(self) -> Command:
        """One more member; it need not have partitions yet."""
        self._joined += 1
        more = f"session.timeout.ms=6000;heartbeat.interval.ms=500;client.id=member-{self._joined}"
        member = Command("sink", "archive", env=self._env | {"DEPLOYTRAIL_KAFKA_CLIENT": more}, cwd=self._folder)
        self._names[member] = f"member-{self._joined}"
        self.members.append(member)
        return member

    def kill(self) -> None:
        """SIGKILL to one of them at a moment of no choice; another one joins."""
        self.members.pop(self._rng.randrange(len(self.members))).kill()
        self.join()

    def rebalance(self) -> None:
        """One more joins, and one leaves in order."""
        self.join().wait_ready()
        self._stop(0)

    def zombie(self) -> None:
        """One stands still until its partitions are somebody else's, and then goes on as if it had them."""
        member = self.members[self._rng.randrange(len(self.members))]
        member.process.send_signal(signal.SIGSTOP)
        try:
            self.join()
            wait_for(lambda: self._is_without(self._names[member]), what="the group without it")
        finally:
            member.process.send_signal(signal.SIGCONT)
        self._stop(self._rng.randrange(len(self.members)))

    def _stop(self, which: int) -> None:
        # One that has only begun to start knows no signals yet.
        member = self.members.pop(which)
        assert member.stop(90) in (0, -signal.SIGTERM), "".join(member.lines)[-4000:]

    def _is_without(self, name: str) -> bool:
        """Whether others have every partition."""
        described = self._admin.describe_consumer_groups([GROUP])[GROUP].result(60)
        return described.state is ConsumerGroupState.STABLE and name not in {m.client_id for m in described.members}

    def end(self) -> None:
        """Kill whoever is left."""
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
            member.kill()


def archived(folder: Path) -> Counter[tuple[int, int]]:
    store = LocalFolder(folder / "archive")
    segments = [read_segment(store.read(name)) for name in store.list(Topic.EVENTS.value)]
    return Counter((s.partition, record.offset) for s in segments for record in s.records)


@pytest.mark.timeout(3600 if FULL else 900)
@pytest.mark.requirement("M5.1")
def test_kills_rebalances_and_zombies_lose_and_double_nothing(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    begin = end_offsets(own_kafka, Topic.EVENTS)
    misfortunes = ["kill"] * KILLS + ["rebalance"] * REBALANCES + ["zombie"] * ZOMBIES
    random.Random(11).shuffle(misfortunes)
    share = EVENTS // len(misfortunes)
    group = Group(own_kafka, tmp_path)
    try:
        group.join().wait_ready()
        group.join().wait_ready()
        sent = 0
        for number, misfortune in enumerate(misfortunes):
            count = EVENTS - sent if number == len(misfortunes) - 1 else share
            messages = [(PARTITIONS[n % 4], b"%d" % n, VALUES[n % 2]) for n in range(sent, sent + count)]
            writer = threading.Thread(target=write, args=(own_kafka, Topic.EVENTS, messages))
            writer.start()
            getattr(group, misfortune)()
            writer.join()
            sent += count
        ends = end_offsets(own_kafka, Topic.EVENTS)
        expected = Counter((p, offset) for p in PARTITIONS for offset in range(begin[p], ends[p]))
        assert expected.total() == EVENTS
        wait_for(lambda: archived(tmp_path).total() >= EVENTS, seconds=120, what="the archive of every event")
    finally:
        group.end()

    assert archived(tmp_path) == expected
    assert verify(LocalFolder(tmp_path / "archive")).flaws == []
    assert not [line for member in group.members for line in member.lines if "no further" in line]
