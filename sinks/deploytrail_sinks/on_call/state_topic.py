"""The incidents in the compacted topic deploytrail.oncall-state: one row a key, the newest counts."""

from __future__ import annotations

import json
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config, producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.on_call.ledger import Incident, Status

_TIMEOUT = 30.0


class StateTopic:
    """Rows by key; `write` returns once Kafka has acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(producer_config(settings) | {"linger.ms": 0})
        self._rows: dict[str, Incident] = {}
        self._waiting: set[str] = set()

    @property
    def waiting(self) -> list[Incident]:
        """Rows whose page waits, or was interrupted after it had waited."""
        return [self._rows[key] for key in sorted(self._waiting)]

    def get(self, key: str) -> Incident | None:
        """The row of a key."""
        return self._rows.get(key)

    def write(self, incident: Incident) -> None:
        """Replace a row. RetryLater where Kafka does not acknowledge it in time."""
        errors: list[object] = []
        self._producer.produce(
            Topic.ONCALL_STATE.value,
            json.dumps(incident.to_json()).encode(),
            incident.key.encode(),
            on_delivery=lambda error, _: errors.append(error) if error is not None else None,
        )
        if self._producer.flush(_TIMEOUT) or errors:
            raise RetryLater(f"the state of {incident.key} was not acknowledged by Kafka: {errors or 'no answer'}")
        self._rows[incident.key] = incident
        self._waiting = self._waiting - {incident.key} | ({incident.key} if _waits(incident) else set())

    def read(self) -> None:
        """Read every row anew: another sink may have written some. RetryLater where Kafka does not answer."""
        rows: dict[str, Incident] = {}
        # A group id is obligatory for the client, but nothing is committed to it.
        consumer = Consumer(consumer_config(self._settings, f"deploytrail-sink-on-call-state-{uuid.uuid4()}"))
        try:
            left = self._assign(consumer)
            deadline = time.monotonic() + _TIMEOUT
            while left:
                for message in consumer.consume(1000, 0.1):
                    value = message.value()
                    if message.error() is None and value is not None:
                        incident = Incident.from_json(json.loads(value))
                        rows[incident.key] = incident
                # A compacted topic has holes: the position tells, not the last message.
                for found in consumer.position([TopicPartition(Topic.ONCALL_STATE.value, p) for p in left]):
                    if found.offset >= left[found.partition]:
                        del left[found.partition]
                if time.monotonic() > deadline:
                    raise RetryLater(f"the on-call state was not read to its end within {_TIMEOUT:.0f} s")
        except KafkaException as error:
            raise RetryLater(f"the on-call state cannot be read: {error}") from error
        finally:
            consumer.close()
        self._rows = rows
        self._waiting = {key for key, incident in rows.items() if _waits(incident)}

    def _assign(self, consumer: Consumer) -> dict[int, int]:
        topic = Topic.ONCALL_STATE.value
        partitions = sorted(consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions)
        marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_TIMEOUT) for p in partitions}
        left = {p: end for p, (low, end) in marks.items() if end > low}
        consumer.assign([TopicPartition(topic, p, marks[p][0]) for p in left])
        return left


def _waits(incident: Incident) -> bool:
    return bool(incident.due) and incident.status in (Status.WAITING, Status.INTENDED)
