"""Where the gateway puts records: Kafka, or memory in tests. Returns when they are durable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

DELIVERY_SECONDS = 8.0
MAX_WAITING = 50_000  # records; beyond that callers are told to slow down


class Busy(RetryLater):
    """Too much is waiting for Kafka already."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record: for the intake topic, or where a message cannot be read, for the dead letters; or a delivery."""

    partition: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    topic: Topic = Topic.INTAKE


class Publisher(Protocol):
    """The contract that the real one and the one for tests share."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is durable; RetryLater where that failed for one."""

    async def is_ready(self) -> bool:
        """Whether records would be accepted now."""

    def close(self) -> None:
        """Deliver what is waiting, and stop."""


class MemoryPublisher:
    """Keeps records, and apart from them the keys of deliveries; `away` plays a Kafka that does not answer."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.deliveries: list[Outgoing] = []
        self.away = False

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise RetryLater("Kafka does not answer")
        for record in records:
            (self.deliveries if record.topic is Topic.DELIVERIES else self.records).append(record)

    async def is_ready(self) -> bool:
        return not self.away

    def close(self) -> None:
        return None


class KafkaPublisher:
    """One producer; delivery reports wake the requests that wait for them."""

    def __init__(self, settings: Settings) -> None:
        from confluent_kafka import Producer

        self._settings = settings
        config = producer_config(settings) | {"linger.ms": 2, "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000)}
        self._producer = Producer(config | {"request.timeout.ms": 5000, "log_level": 2})
        self._waiting = 0
        self._poller: asyncio.Task[None] | None = None

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """See Publisher. What is not delivered within 8 s is refused; the sender tries again."""
        if self._waiting + len(records) > MAX_WAITING:
            raise Busy(f"{self._waiting} records are waiting for Kafka")
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        done = _Countdown(len(records))
        self._waiting += len(records)
        try:
            for record in records:
                self._producer.produce(
                    record.topic.value,
                    record.value,
                    record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                    on_delivery=done.delivered,
                )
            self._producer.poll(0)
            await asyncio.wait_for(done.future, DELIVERY_SECONDS + 2)
        except (BufferError, TimeoutError) as error:
            raise RetryLater(f"Kafka did not take the records: {error or 'no answer'}") from error
        finally:
            self._waiting -= len(records)

    async def is_ready(self) -> bool:
        """See Publisher."""
        from confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            await asyncio.to_thread(self._producer.list_topics, Topic.INTAKE.value, 2.0)
            return True
        return False

    def close(self) -> None:
        """See Publisher."""
        if self._poller is not None:
            self._poller.cancel()
        self._producer.flush(DELIVERY_SECONDS)

    async def _poll(self) -> None:
        # Callbacks run inside poll: here, on the event loop, where futures may be resolved.
        while True:
            self._producer.poll(0)
            await asyncio.sleep(0.001 if self._waiting else 0.02)


class _Countdown:
    """Resolves its future when all of a request's records are delivered, or one is not."""

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count
        if not count:
            self.future.set_result(None)

    def delivered(self, error: object, _: object) -> None:
        self._left -= 1
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(RetryLater(f"Kafka did not take a record: {error}"))
        elif self._left == 0:
            self.future.set_result(None)
