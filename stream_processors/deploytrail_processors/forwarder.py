"""What a worker writes, outputs and rows: in order, counted, and delivered before any offset is committed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from deploytrail_schemas.codec import encode
from deploytrail_schemas.dead_letters import dead_letter
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.kafka import producer_config, why_undelivered
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.outstanding import Outstanding

Headers = list[tuple[str, str | bytes | None]]
Report = Callable[[KafkaError | None, Message], None]


class DeliveryFailed(DeploytrailError):
    """An output was refused for good, or a record cannot be handled now: stop with nothing committed."""


# Delivery reports are taken in after so many sends, and by whoever waits for them.
_POLL_EVERY = 64
_FIRST_LOOK, _LAST_LOOKS = 0.001, 0.01  # seconds between two looks whether all is delivered


@dataclass(frozen=True, slots=True)
class Linger:
    """How long what is written waits for others that go with it, in ms.

    Each request costs the client's threads and the broker as much as dozens of records: with outputs of 2 ms, a third
    of what an event cost in the intake app went into requests of one or two. Nobody reads a row before the next commit
    or rebalance, and both wait for it.
    """

    outputs: int = 10
    rows: int = 100


USUAL = Linger()


class Forwarder:
    """The producers of a worker. Every message names its partition.

    While it is `muted` it sends nothing: what is read was answered before, by an app of an earlier state format.
    `linger`: less where somebody waits for the delivery.
    """

    def __init__(self, settings: Settings, linger: Linger = USUAL) -> None:
        self._settings = settings
        self._linger = linger
        self._outstanding = Outstanding()
        self._reports: tuple[int, Report] | None = None  # the newest generation, and what takes its delivery reports
        self._unpolled = 0
        self._failed = ""
        self.muted = False

    @cached_property
    def _producer(self) -> Producer:
        return Producer(producer_config(self._settings) | {"linger.ms": self._linger.outputs})

    @cached_property
    def _rows(self) -> Producer:
        return Producer(producer_config(self._settings) | {"linger.ms": self._linger.rows})

    def forward(
        self,
        topic: Topic,
        partition: int,
        key: str,
        kind: RecordType,
        value: dict[str, Any],
        headers: Headers | None = None,
    ) -> None:
        """Send a record to a topic's partition."""
        if not self.muted:
            self._produce(self._producer, topic.value, encode(kind, value), key.encode(), partition, headers or [])

    def document(self, topic: Topic, partition: int, key: str, value: Mapping[str, Any]) -> None:
        """Send a JSON document to a topic's partition."""
        if not self.muted:
            text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            self._produce(self._producer, topic.value, text.encode(), key.encode(), partition, [])

    def row(
        self, changelog: str, partition: int, key: bytes, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Write a table's row, or that it is gone, to its changelog: muted too, for state has to be kept either way."""
        self._produce(self._rows, changelog, value, key, partition, headers or [])

    def dead_letter(
        self,
        origin: tuple[str, int, int],
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        reason: DeadLetterReason,
        detail: str,
    ) -> None:
        """Set a message aside as it came but for its secrets, with where from (topic, partition, offset) and why."""
        if self.muted:
            return
        key, value, said = dead_letter(key, value, headers, origin, reason, detail)
        self._produce(self._producer, Topic.DEAD_LETTERS.value, value, key, origin[1] % 4, said)

    async def barrier(self) -> None:
        """Return once everything sent so far is delivered; DeliveryFailed where something never will be.

        What is sent meanwhile is not waited for: under load there would always be something.
        """
        sent, pause = self._outstanding.close(), _FIRST_LOOK
        while not self._outstanding.settled(sent) and not self._failed:
            self.poll()
            if not self._outstanding.settled(sent):
                await asyncio.sleep(pause)
                pause = min(pause * 1.3, _LAST_LOOKS)
        self._raise_failure()

    def give_up(self, why: str) -> None:
        """Let every barrier from now on fail: Faust acknowledges also what its agent raised on."""
        self._failed = self._failed or why

    def poll(self) -> None:
        """Serve delivery reports; called now and then when nothing is sent."""
        self._unpolled = 0
        self._producer.poll(0)
        self._rows.poll(0)

    def _produce(
        self,
        producer: Producer,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Headers,
    ) -> None:
        self._raise_failure()
        generation = self._outstanding.sent()
        if self._reports is None or self._reports[0] != generation:
            self._reports = (generation, partial(self._delivered, generation))
        delivered = self._reports[1]
        try:
            while True:
                try:
                    producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)
                    break
                except BufferError:  # the queue is full: wait here, which holds the stream back
                    producer.poll(0.1)
        except KafkaException:  # refused before it was sent, such as one that is too large: nobody waits for it
            self._outstanding.answered(generation)
            raise
        self._unpolled += 1
        if self._unpolled >= _POLL_EVERY:
            self.poll()

    def _delivered(self, generation: int, error: KafkaError | None, message: Message) -> None:
        self._outstanding.answered(generation)
        # What Kafka may not have is not sent again from here: it would come behind what was sent later.
        if why := why_undelivered(error, message):
            self.give_up(f"what was sent was not delivered: {why}")

    def _raise_failure(self) -> None:
        if self._failed:
            raise DeliveryFailed(f"{self._failed}; nothing behind it is committed")
