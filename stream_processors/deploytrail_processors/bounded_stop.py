"""A stop that ends in bounded time: what Kafka does not answer within it is left as kill -9 would leave it.

A stop waits for outputs to be delivered, for changelogs, for the group to be left. Where no broker answers, each of
these waits for minutes. Nothing is lost by ending before: offsets are committed behind the delivered outputs, and what
was not committed is read again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import SimpleQueue

from deploytrail_schemas.exit_codes import UNAVAILABLE

SECONDS = 15.0  # less than the 30 s that Kubernetes waits before it kills


class BoundedStop:
    """Ends the process `seconds` after a stop has begun, unless it has ended by then."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        # Its put may be called in a signal handler, whatever else the main thread is doing.
        self._begun: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._watch, name="bounded-stop", daemon=True).start()

    def begin(self) -> None:
        """The stop begins now; later calls change nothing."""
        self._begun.put(None)

    def on_signals(self) -> None:
        """Begin at SIGTERM and SIGINT, also while the event loop, which has its handlers already, is held up."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # The loop is woken by its file descriptor, not by this handler.
            signal.signal(number, lambda *_: self.begin())
            signal.siginterrupt(number, False)

    def _watch(self) -> None:
        self._begun.get()
        time.sleep(self._seconds)
        said = (
            f"deploytrail processor: not stopped within {self._seconds:g} s, since Kafka does not answer or a record "
            "takes long; ends with nothing more committed, and what was not is read again at the next start\n"
        )
        os.write(2, said.encode())
        os._exit(UNAVAILABLE)
