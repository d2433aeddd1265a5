"""Rows that ClickHouse refuses, on their way to the topic of dead letters."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message, Producer
from deploytrail_schemas.dead_letters import dead_letter
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.kafka import producer_config, refused_for_good, why_undelivered
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.clickhouse.batches import Row

_SECONDS = 30
_NOT_ALLOWED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


class DeadLetters:
    """`put` any number, then `deliver`: behind that the offsets of what was refused may be committed."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(producer_config(settings))
        self._undelivered = ""  # why one may not be on Kafka
        self._refused = ""  # why Kafka takes one never

    def put(self, row: Row, reason: DeadLetterReason, detail: str) -> None:
        """Set a message aside as it came but for its secrets, with where from and why."""
        metrics.DEAD_LETTERS.labels(reason.value).inc()
        place = (row.topic, row.partition, row.offset)
        key, value, said = dead_letter(row.key, row.value, [*row.headers], place, reason, f"clickhouse: {detail}")
        self._producer.produce(
            Topic.DEAD_LETTERS.value,
            value,
            key,
            partition=row.partition % 4,
            headers=said,
            on_delivery=self._on_delivery,
        )

    def deliver(self) -> None:
        """Return once all are on Kafka. RetryLater where one may not be: the sink ends, and they come again.

        ConfigurationError where the topic does not take one: to go on without it would lose what ClickHouse refused.
        """
        left = self._producer.flush(_SECONDS)
        if self._refused:
            raise ConfigurationError(f"{Topic.DEAD_LETTERS.value} does not take a dead letter: {self._refused}")
        if left or self._undelivered:
            why = self._undelivered or f"no answer within {_SECONDS} s"
            raise RetryLater(f"dead letters were not delivered: {why}; nothing of this batch is committed")

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        self._undelivered = self._undelivered or why_undelivered(error, message)
        if error is not None and (refused_for_good(error) or error.code() in _NOT_ALLOWED):
            self._refused = error.str()
