"""Kafka as the gateway writes to it, or memory in tests. Publishing returns when records are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import producer_config, refused_for_good, why_undelivered
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

DELIVERY_SECONDS = 8.0
ANSWER_SECONDS = 1.0
IDLE_SECONDS = 0.5  # how often the client is polled while nothing waits
_RECONNECT_MS = 1_000  # the client's own default lets a Kafka that is back wait for 10 s


class Busy(RetryLater):
    """Too much is waiting for Kafka already."""


class Unpublishable(RetryLater):
    """Kafka is there and will never take this record."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record: for the intake topic, or where a message cannot be read, for the dead letters; or a delivery."""

    partition: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    topic: Topic = Topic.INTAKE


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether records would be made durable now, and where, in words. `kafka`: straight in Kafka."""

    ready: bool
    says: str
    kafka: bool = False


class Publisher(Protocol):
    """What makes records durable."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is durable; RetryLater where that failed for one."""

    async def readiness(self) -> Readiness:
        """Whether records would be accepted now."""

    def close(self) -> None:
        """Deliver what is waiting, and stop."""


class Broker(Protocol):
    """Kafka, as the gateway sees it: the contract that the real one and the one for tests share."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return once Kafka has every record; RetryLater where it did not take one, Unpublishable where it never will.

        A list is not atomic: where it failed, some of it may be there.
        """

    async def answers(self) -> bool:
        """Whether Kafka answers at all, within a second."""

    def give_up(self) -> None:
        """Send nothing of what was not sent yet: whoever waits for it keeps it elsewhere."""

    def close(self) -> None:
        """Deliver what is waiting, and stop."""


class MemoryPublisher:
    """Keeps records, and apart from them the keys of deliveries; `away` plays a Kafka that does not answer.

    Both a Broker and a Publisher.
    """

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.deliveries: list[Outgoing] = []
        self.away = False

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise RetryLater("Kafka does not answer")
        for record in records:
            (self.deliveries if record.topic is Topic.DELIVERIES else self.records).append(record)

    async def answers(self) -> bool:
        return not self.away

    async def readiness(self) -> Readiness:
        return Readiness(not self.away, "Kafka does not answer" if self.away else "ready", not self.away)

    def give_up(self) -> None:
        return None

    def close(self) -> None:
        return None


class KafkaPublisher:
    """One producer; delivery reports wake the requests that wait for them."""

    def __init__(self, settings: Settings) -> None:
        from confluent_kafka import Producer

        config = producer_config(settings) | {
            "linger.ms": 2,
            "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
            "request.timeout.ms": 5000,
            "reconnect.backoff.max.ms": _RECONNECT_MS,
            "log_level": 2,
        }
        self._producer = Producer(config)
        self._waiting = 0
        self._needed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """See Broker. What is not delivered within 8 s counts as not taken."""
        from confluent_kafka import KafkaException

        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        done = _Countdown(len(records))
        self._waiting += len(records)
        self._needed.set()
        produce, delivered = self._producer.produce, done.delivered
        try:
            for record in records:
                produce(
                    record.topic.value,
                    record.value,
                    record.key,
                    record.partition,
                    delivered,
                    headers=list(record.headers),
                )
            await done.future  # the client reports every record, delivered or not, within the time of delivery
        except BufferError as error:
            raise RetryLater(f"Kafka did not take the records: {error}") from error
        except KafkaException as error:
            raise _refusal(error.args[0]) from error
        finally:
            self._waiting -= len(records)

    async def answers(self) -> bool:
        """See Broker."""
        from confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            await asyncio.to_thread(self._producer.list_topics, Topic.INTAKE.value, ANSWER_SECONDS)
            return True
        return False

    async def readiness(self) -> Readiness:
        """See Publisher, which it is too for whoever needs no spool."""
        answers = await self.answers()
        return Readiness(answers, "ready" if answers else "Kafka does not answer", answers)

    def give_up(self) -> None:
        """See Broker."""
        self._producer.purge(in_queue=True, in_flight=False, blocking=False)

    def close(self) -> None:
        """See Broker."""
        if self._poller is not None:
            self._poller.cancel()
        self._producer.flush(DELIVERY_SECONDS)

    async def _poll(self) -> None:
        # Callbacks run inside poll: here, on the event loop, where futures may be resolved.
        while True:
            self._producer.poll(0)
            if self._waiting:
                await asyncio.sleep(0.001)
                continue
            self._needed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._needed.wait()


class _Countdown:
    """Resolves its future when all of a request's records are delivered, or one is not."""

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count
        if not count:
            self.future.set_result(None)

    def delivered(self, error: Any, message: Any) -> None:
        self._left -= 1
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(_refusal(error))
        elif why := why_undelivered(error, message):
            self.future.set_exception(RetryLater(f"a record may be lost: {why}"))
        elif self._left == 0:
            self.future.set_result(None)


def _refusal(error: Any) -> RetryLater:
    if refused_for_good(error):
        return Unpublishable(f"Kafka refuses a record: {error}")
    return RetryLater(f"Kafka did not take a record: {error}")
