"""The policies' topic: read to the end before a worker begins, then followed.

A plain reader without a group: every worker sees every document.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

# What a broker answers that has just started: its topics and their leaders are not there for a moment.
_NOT_YET = frozenset(
    {KafkaError._UNKNOWN_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
)
_STARTS_WITHIN = 10.0  # seconds
Messages: TypeAlias = Sequence[tuple[bytes | None, bytes]]  # key and value


class PolicyTopic:
    """Gives what the topic holds, and what comes, to `take`: from one thread at a time."""

    def __init__(self, settings: Settings, take: Callable[[Messages], None]) -> None:
        # A group id is obligatory for the client, but nothing is ever committed to it.
        # What goes wrong is raised below; the client would tell it again at each attempt, 20 times a second.
        self._consumer = Consumer(consumer_config(settings, "deploytrail-policy-readers") | {"log_level": 0})
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._settings, self._give = settings, take

    def read_to_end(self, timeout: float = 30.0) -> None:
        """Take every document there is now; RetryLater where Kafka does not answer in time."""
        partition = TopicPartition(Topic.POLICIES.value, 0)
        low, end = self._bounds(partition, timeout)
        self._consumer.assign([TopicPartition(Topic.POLICIES.value, 0, low)])
        waited = 0.0
        while end > low and self._position(low) < end:
            # The topic is compacted: offsets have holes, so the position tells, not the last message.
            if not self._take(0.1):
                waited += 0.1
                if waited > timeout:
                    raise RetryLater(f"the policies were not read to their end within {timeout:.0f} s")

    def _bounds(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        began = time.monotonic()
        while True:
            try:
                low, end = self._consumer.get_watermark_offsets(partition, timeout=timeout)
                return low, end
            except KafkaException as error:
                if error.args[0].code() in _NOT_YET and time.monotonic() < began + min(timeout, _STARTS_WITHIN):
                    time.sleep(0.2)
                    continue
                raise RetryLater(
                    f"the policies cannot be read from Kafka at {self._settings.kafka}: {error.args[0].str()}; "
                    f"is DEPLOYTRAIL_KAFKA right, and does it run?{if_not_set('kafka', self._settings.kafka)}"
                ) from error

    def follow(self) -> None:
        """Keep reading in the background until `close`."""
        self._thread = threading.Thread(target=self._run, name="policy-reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take(0.5)

    def _position(self, low: int) -> int:
        offset = self._consumer.position([TopicPartition(Topic.POLICIES.value, 0)])[0].offset
        return int(offset) if offset >= 0 else low

    def _take(self, timeout: float) -> bool:
        messages = self._consumer.consume(500, timeout)
        found = [(m.key(), value) for m in messages if m.error() is None and (value := m.value()) is not None]
        if found:
            self._give([(_bytes(key), _bytes(value) or b"") for key, value in found])
        return bool(messages)


def _bytes(given: bytes | str | None) -> bytes | None:
    return given.encode() if isinstance(given, str) else given
