"""Follows `deploytrail.deliveries`: what any gateway accepted, from seven days ago until now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.kafka import client_config, consumer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic, create_topics

from deploytrail.gateway.deliveries import Deliveries

_log = logging.getLogger(__name__)
_NAME = Topic.DELIVERIES.value
_TIMEOUT = 5.0
_PAUSE = 2.0  # seconds before what could not be read is tried again


class DeliveryTopic:
    """Reads in the background from `start` to `close`; nothing is committed, every gateway reads all."""

    def __init__(self, settings: Settings, deliveries: Deliveries) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._stopping = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read; `Deliveries.is_read` tells when the end was reached."""
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._following is not None:
            await self._following

    async def _follow(self) -> None:
        said = False
        while not self._stopping.is_set():
            try:
                await self._read()
            except DeploytrailError as error:
                if not said:
                    _log.warning("the memory of deliveries cannot be read yet; repetitions are accepted: %s", error)
                    said = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _PAUSE)

    async def _read(self) -> None:
        from confluent_kafka import Consumer

        # A group id is obligatory for the client, but nothing is ever committed to it.
        consumer = Consumer(consumer_config(self._settings, "deploytrail-gateway-deliveries") | {"log_level": 0})
        try:
            left = await asyncio.to_thread(self._assign, consumer)
            while not self._stopping.is_set():
                for message in await asyncio.to_thread(consumer.consume, 5000, 0.1):
                    if message.error() is None:
                        self._deliveries.heard(message.key(), message.value())
                if not self._deliveries.is_read:
                    # A compacted topic has holes: the position tells, not the last message.
                    left = {n: end for n, end in left.items() if _position(consumer, n) < end}
                    self._deliveries.is_read = not left
        finally:
            await asyncio.to_thread(consumer.close)

    def _assign(self, consumer: Any) -> dict[int, int]:
        """Begin at the topic's beginning; the ends that there are now, of partitions that are not empty."""
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import AdminClient

        try:
            partitions = consumer.list_topics(timeout=_TIMEOUT).topics
            if _NAME not in partitions:
                # A gateway that is newer than what made the topics.
                admin = AdminClient(client_config(self._settings) | {"log_level": 0})
                create_topics(admin, self._settings, {_NAME: TOPICS[Topic.DELIVERIES]}, _TIMEOUT)
            found = sorted(consumer.list_topics(_NAME, timeout=_TIMEOUT).topics[_NAME].partitions)
            bounds = {n: consumer.get_watermark_offsets(TopicPartition(_NAME, n), timeout=_TIMEOUT) for n in found}
        except KafkaException as error:
            raise RetryLater(f"Kafka at {self._settings.kafka} does not answer: {error.args[0].str()}") from error
        consumer.assign([TopicPartition(_NAME, n, low) for n, (low, _) in bounds.items()])
        return {n: end for n, (low, end) in bounds.items() if low < end}


def _position(consumer: Any, number: int) -> int:
    from confluent_kafka import TopicPartition

    return int(consumer.position([TopicPartition(_NAME, number)])[0].offset)
