"""Records that nobody may wait for: kept in the spool by a thread of their own, and sent from there."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from deploytrail._agent import Agent

if TYPE_CHECKING:
    from deploytrail_schemas.records import RecordType
    from deploytrail_schemas.settings import Settings

log = logging.getLogger(__name__)
_MEASURE_SECONDS = 60.0
_MOST_WAITING = 10_000


class Outbox:
    """`put` returns at once; what was put is fsynced soon after, and sent to DEPLOYTRAIL_URL."""

    def __init__(self, settings: Settings) -> None:
        """OSError where the spool cannot be had."""
        self._agent = Agent(settings, [settings.spool.expanduser()])
        self._queue: queue.Queue[tuple[RecordType, dict[str, Any]] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="deploytrail-outbox", daemon=True)
        self.lost = 0

    def start(self) -> Outbox:
        """Begin to keep and to send, also what an earlier process left."""
        self._agent.look()
        self._thread.start()
        return self

    def put(self, kind: RecordType, value: dict[str, Any]) -> None:
        """Have a record kept and sent. Where the disk has been stuck for so long that too many wait, it is lost."""
        try:
            self._queue.put_nowait((kind, value))
        except queue.Full:
            self._lose(kind, "too many records wait for the disk")

    def put_waiting(self, kind: RecordType, value: dict[str, Any]) -> None:
        """The same for a caller who may wait while too many records wait for the disk."""
        self._queue.put((kind, value))

    def close(self, seconds: float) -> int:
        """Keep what was put, and try so long to deliver it; how many records stay in the spool."""
        self._queue.put(None)
        self._thread.join(seconds)
        return self._agent.stop(seconds)

    def _run(self) -> None:
        while True:
            self._agent.measure()
            while True:
                try:
                    found = self._queue.get(timeout=_MEASURE_SECONDS)
                except queue.Empty:
                    break
                if found is None:
                    return
                self._keep(*found)

    def _keep(self, kind: RecordType, value: dict[str, Any]) -> None:
        try:
            self._agent.store(kind, [value])
        except (OSError, ValueError) as error:
            self._lose(kind, str(error))

    def _lose(self, kind: RecordType, why: str) -> None:
        self.lost += 1
        log.error("a record of kind %s is lost: %s", kind.value, why)
