"""From findings about suppressed alerts to silences of Alertmanager.

No state of its own: a silence's comment names the signal that it is of, and Alertmanager is asked for ours before
anything is done. So a finding that is read again after a crash makes no second silence, and what people have ended
by hand stays ended.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.http_json import Refused
from deploytrail_sinks.silences.alertmanager import Silences
from deploytrail_sinks.silences.mirror import Begin, End, change_of

log = logging.getLogger(__name__)
GROUP = "deploytrail-sink-silences"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_COMMIT_SECONDS = 0.5


class SilencesSink:
    """One consumer: `run` until `stop`."""

    def __init__(
        self, settings: Settings, silences: Silences, sources: frozenset[str], wall_clock: Callable[[], int]
    ) -> None:
        self._silences, self._sources, self._wall_clock = silences, sources, wall_clock
        self._history = settings.backfill_partition
        self._consumer = Consumer(
            # An Alertmanager that is away holds the stream up; another consumer would wait for it as well.
            consumer_config(settings, GROUP)
            | {"partition.assignment.strategy": "range", "max.poll.interval.ms": 2 * 3_600_000}
        )
        self._done: dict[int, int] = {}
        self._known: dict[str, dict[str, Any]] | None = None  # ours in Alertmanager, by signal; None: to be asked
        self._committed_at = 0.0
        self._stop = threading.Event()
        self.ready = False

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consume until `stop`."""
        self._consumer.subscribe([Topic.FINDINGS.value], on_assign=self._assigned, on_revoke=self._revoked)
        said = False
        try:
            while not self._stop.is_set():
                if self.ready and not said:
                    on_ready()
                    said = True
                message = self._consumer.poll(0.1)
                if message is not None and message.error() is None and self._handle(message):
                    self._done[message.partition() or 0] = (message.offset() or 0) + 1
                if self._done and time.monotonic() - self._committed_at > _COMMIT_SECONDS:
                    self._commit()
            self._commit()
        finally:
            self._stop.set()
            self._consumer.close()

    def stop(self) -> None:
        """Let `run` end; what waits for Alertmanager is read again."""
        self._stop.set()

    def _handle(self, message: Message) -> bool:
        """Whether a message is done with; False where it was stopped before."""
        if message.partition() == self._history:
            return True  # history silences nobody
        try:
            value = message.value()
            kind, found = decode(value.encode() if isinstance(value, str) else value)
        except DecodeError:
            return True  # the ClickHouse sink sets it aside
        change = change_of(found, self._sources, self._wall_clock()) if kind is RecordType.FINDING else None
        return change is None or self._do(change)

    def _do(self, change: Begin | End) -> bool:
        pause = _FIRST_PAUSE
        while True:
            try:
                result = self._begin(change) if isinstance(change, Begin) else self._end(change)
            except Refused as error:
                log.error("the silence for signal %s was refused and is not tried again: %s", change.signal_id, error)
                result = "refused"
            except RetryLater as error:
                self._known = None
                if pause == _FIRST_PAUSE:
                    log.error("the silence for signal %s waits: %s", change.signal_id, error)
                if self._stop.wait(pause * random.uniform(0.5, 1.5)):
                    return False
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            if result:
                metrics.SILENCES.labels(result).inc()
            return True

    def _begin(self, silence: Begin) -> str:
        known = self._ours()
        now = self._wall_clock()
        # One that has ended was ended for a reason, by us or by somebody.
        if silence.signal_id in known or silence.until <= now:
            return ""
        made = self._silences.put(silence, now)
        known[silence.signal_id] = {"id": made, "status": {"state": "active"}}
        return "begun"

    def _end(self, change: End) -> str:
        known = self._ours().get(change.signal_id)
        if known is None or known["status"]["state"] == "expired":
            return ""
        self._silences.end(known["id"])
        known["status"] = {"state": "expired"}
        return "ended"

    def _ours(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            self._known = self._silences.ours()
        return self._known

    def _commit(self) -> None:
        done, self._done = self._done, {}
        self._committed_at = time.monotonic()
        if not done:
            return
        try:
            offsets = [TopicPartition(Topic.FINDINGS.value, partition, offset) for partition, offset in done.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # Whoever has the partitions now reads them again; Alertmanager knows what was done.
            log.info("offsets were not committed: %s", error)

    def _assigned(self, _: Consumer, __: list[TopicPartition]) -> None:
        if self._stop.is_set():  # a rebalance that the client ends while it is closed, and Kafka answers it no more
            return
        self._done, self._known = {}, None
        self.ready = True

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._commit()
