"""When the library sends what is spooled: soon where events are few, many at a time where sending is dear."""

from __future__ import annotations

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


def _waited(spool: Path, way: Recording) -> list[float]:
    """How long events wait that come a moment after the one before was sent, sorted."""
    sender = Sender(Settings(url="kafka://there"), spool, lambda _: way)
    store, stored = Spool(str(spool), MANY), []
    try:
        for number in range(15):
            store.append(lambda _producer, seq: f"{seq}".encode())
            stored.append(time.monotonic())
            sender.wake()
            while len(way.batches) <= number:
                assert time.monotonic() < stored[-1] + 60
                time.sleep(0.001)
            time.sleep(MOMENT)  # what comes while others are sent, goes at once
    finally:
        sender.stop()
    assert [events for *_, events in way.batches] == [1] * 15
    return sorted(began - at for (began, *_), at in zip(way.batches[1:], stored[1:], strict=True))


@pytest.mark.requirement("M2.2")
def test_where_sending_is_quick_no_event_waits_long_for_others(tmp_path: Path) -> None:
    # The least: on a busy machine sending is not always quick.
    assert _waited(tmp_path, Recording(0.0))[0] < 0.4 * LONGEST_GATHER


@pytest.mark.requirement("M2.2")
def test_where_sending_is_dear_events_gather_between_two_batches(tmp_path: Path) -> None:
    assert _waited(tmp_path, Recording(0.03))[10] > 0.6 * LONGEST_GATHER
