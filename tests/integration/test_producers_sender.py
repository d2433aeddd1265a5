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

MANY = 1 << 30
MOMENT = 0.01  # seconds


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


def _rests(spool: Path, way: Recording, at_once: int = 1) -> list[float]:
    """Between two batches where events come a moment after the ones before were sent, sorted."""
    sender = Sender(Settings(url="kafka://there"), spool, lambda _: way)
    store, deadline = Spool(str(spool), MANY), time.monotonic() + 120
    try:
        for number in range(1, 16):
            for _ in range(at_once):
                store.append(lambda _producer, seq: f"{seq}".encode())
                sender.wake()
            while sum(events for *_, events in way.batches) < number * at_once:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(MOMENT)  # what comes while others are sent, goes at once
    finally:
        sender.stop()
    return sorted(begun - ended for (_, ended, _), (begun, *_) in itertools.pairwise(way.batches))


@pytest.mark.requirement("M2.2")
def test_where_sending_is_quick_an_event_does_not_wait_long_for_others(tmp_path: Path) -> None:
    # The least: on a busy machine sending is not always quick.
    assert _rests(tmp_path, Recording(0.0))[0] < 0.4 * LONGEST_GATHER


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(("seconds", "at_once"), [(0.03, 1), (0.0, 5)], ids=["sending is dear", "events are many"])
def test_events_gather_between_two_batches_where(tmp_path: Path, seconds: float, at_once: int) -> None:
    rests = _rests(tmp_path, Recording(seconds), at_once)

    assert rests[2 * len(rests) // 3] > 0.6 * LONGEST_GATHER
