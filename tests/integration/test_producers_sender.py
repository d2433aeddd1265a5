"""When the library sends what is spooled: soon where events are few, many at a time where sending is dear."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from deploytrail._backlog import Entry
from deploytrail._sender import LONGEST_GATHER, Outcome, Sender, Times
from deploytrail._spool import Spool
from deploytrail_schemas.settings import Settings
from support.kafka import wait_for

MANY = 1 << 30


class Recording:
    """A way that takes so long for each batch, and remembers when it took what."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.batches: list[tuple[float, float, int]] = []  # began, ended, events

    def send(self, entries: list[Entry], _times: Times, _stop: threading.Event) -> Outcome:
        began = time.monotonic()
        time.sleep(self.seconds)
        self.batches.append((began, time.monotonic(), len(entries)))
        return Outcome(len(entries))

    def close(self) -> None:
        """Nothing to let go."""


def _sent(spool: Path, way: Recording, count: int, every: float) -> list[float]:
    """How long each of so many events, one `every` seconds, waited until it began to be sent."""
    sender = Sender(Settings(url="kafka://there"), spool, lambda _: way)
    store, stored = Spool(str(spool), MANY), []
    try:
        for _ in range(count):
            store.append(lambda _producer, seq: f"{seq}".encode())
            stored.append(time.monotonic())
            sender.wake()
            time.sleep(every)
        wait_for(lambda: sum(events for *_, events in way.batches) == count, what="all of them sent")
    finally:
        sender.stop()
    began = [start for start, _, events in way.batches for _ in range(events)]
    return [start - at for start, at in zip(began, stored, strict=True)]


@pytest.mark.requirement("M2.2")
def test_where_sending_is_quick_no_event_waits_for_others(tmp_path: Path) -> None:
    waited = _sent(tmp_path, Recording(0.001), count=20, every=0.03)

    # The usual one: a machine that is busy holds up some.
    assert sorted(waited)[10] < 0.4 * LONGEST_GATHER


@pytest.mark.requirement("M2.2")
def test_where_sending_is_dear_events_gather_between_two_batches(tmp_path: Path) -> None:
    way = Recording(0.03)
    _sent(tmp_path, way, count=20, every=0.04)
    rests = sorted(begun - ended for (_, ended, _), (begun, *_) in itertools.pairwise(way.batches))

    # The usual one: an event that comes while others are sent, goes at once.
    assert rests[len(rests) // 2] >= 0.9 * LONGEST_GATHER
