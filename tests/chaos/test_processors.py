"""Every app with two workers, killed, restarted and cut off under load: what it finds is what it would have found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from benchmarks.bench_kill import Load
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_processors.bounded_stop import SECONDS
from deploytrail_schemas.codec import decode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.disturbed import CRASHED, Pair, Teller
from support.kafka import make_topics, read_topic, wait_for
from support.story import APPS, EFFECTS, LIVE, effects
from support.values import NOON

# How often both workers are replaced. The suite does it once; set more to be surer, each takes a minute or so.
ROUNDS = int(os.environ.get("DEPLOYTRAIL_TEST_RESTARTS", "1"))
LIVES = 6 + 4 * ROUNDS
PARTITIONS = LIVE if ROUNDS > 1 else LIVE[:4]  # two or more for each worker
YEAR = 365 * 86_400_000_000


@dataclass(frozen=True)
class Aftermath:
    """What stands when all is over."""

    kafka: str
    differences: list[dict[str, Any]]
    said: dict[str, tuple[set[str], set[str]]]
    told: int


@pytest.fixture(scope="module")
def broker(own_kafka_needs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of this module, which it restarts."""
    with KafkaBroker(tmp_path_factory.mktemp("disturbed-kafka")) as started:
        yield started


@pytest.fixture(scope="module")
def aftermath(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    kafka, folder = broker.bootstrap, tmp_path_factory.mktemp("disturbed")
    make_topics(kafka)
    with Pair(kafka, folder) as pair:
        teller = Teller(kafka, PARTITIONS, LIVES, seconds=30 * ROUNDS)
        teller.start()
        time.sleep(3)  # some of the load is under way
        for number in range(ROUNDS):
            pair.kill(number % 2)
            pair.restart((number + 1) % 2)
        broker.stop()
        broker.start()
        told = teller.finish()
        ended = pair.wait_until_read()
        assert len(ended) <= len(pair.workers), "\n\n".join(ended)  # the broker was away: once each, and no more
        pair.stop(excuse=CRASHED)  # one may only now end by itself, since its broker was away
        return Aftermath(kafka, pair.differences(), pair.said(), told)


@pytest.mark.timeout(600 + 300 * ROUNDS)
@pytest.mark.requirement("M3.4", "M8.4")
@pytest.mark.parametrize("name", APPS)
def test_each_app_finds_what_it_would_have_found_undisturbed(name: str, aftermath: Aftermath) -> None:
    assert name in EFFECTS, f"say in support/story.py what {name} makes of the story"
    assert effects(aftermath.kafka, name)
    assert [one for one in aftermath.differences if one["app"] == name] == []


@pytest.mark.requirement("M3.4", "M8.4")
@pytest.mark.parametrize("name", APPS)
def test_each_app_has_said_nothing_on_the_way_that_it_would_not_have_said(name: str, aftermath: Aftermath) -> None:
    """Not only what stands is the same: each record has met the state that it would have met."""
    written, undisturbed = aftermath.said[name]

    assert written == undisturbed


def test_nothing_was_set_aside(aftermath: Aftermath) -> None:
    letters = read_topic(aftermath.kafka, Topic.DEAD_LETTERS)

    assert [dict(letter.headers() or []) for letter in letters] == []
    assert aftermath.told > len(PARTITIONS) * LIVES * 5


@pytest.mark.timeout(900)
@pytest.mark.requirement("M8.4")
def test_workers_whose_broker_is_gone_stop_soon_and_lose_nothing(
    broker: KafkaBroker, aftermath: Aftermath, tmp_path: Path
) -> None:
    with Pair(broker.bootstrap, tmp_path, ("lifecycle", "change_window")) as pair:
        teller = Teller(broker.bootstrap, (1, 2, 3), LIVES, seconds=8, begin=NOON + YEAR, name="late-")
        teller.start()
        time.sleep(3)  # outputs are under way
        broker.stop()
        began = time.monotonic()
        pair.stop()
        took = time.monotonic() - began
        broker.start()
        teller.finish()
        assert len(pair.wait_until_read()) == len(pair.workers)
        pair.stop()
        differences = pair.differences()

    assert took < SECONDS + 30  # the machine may be slow
    assert differences == []


@pytest.mark.timeout(600)
@pytest.mark.requirement("M8.4")
def test_two_intake_workers_forward_each_event_with_one_content(
    broker: KafkaBroker, aftermath: Aftermath, tmp_path: Path
) -> None:
    with Pair(broker.bootstrap, tmp_path, ("intake",)) as pair:
        load = Load(broker.bootstrap, rate=100)
        load.start()
        time.sleep(2)
        pair.kill(0)
        pair.restart(1)
        load.stop()

        def trail() -> set[tuple[str, bytes]]:
            decoded = (
                (m.value() or b"", *decode(m.value() or b"")) for m in read_topic(broker.bootstrap, Topic.EVENTS)
            )
            of_events = ((v, d) for d, k, v in decoded if k is RecordType.DEPLOYMENT_EVENT)
            return {(v["event_id"], data) for v, data in of_events if v["service"] == "load"}

        wait_for(lambda: len({i for i, _ in trail()}) >= load.sent, what="every event")
        found = trail()

    assert len({event_id for event_id, _ in found}) == load.sent
    assert len(found) == load.sent
