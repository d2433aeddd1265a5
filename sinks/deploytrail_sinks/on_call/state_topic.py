"""Incidents and alerts in the compacted topic deploytrail.oncall-state: one row a key, the newest counts."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config, producer_config, why_undelivered
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.on_call.alerts import Alert
from deploytrail_sinks.on_call.incidents import CORRELATION
from deploytrail_sinks.on_call.ledger import Incident, read_row

_TIMEOUT = 30.0


class StateTopic:
    """Rows by key; `write` returns once Kafka has acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(producer_config(settings) | {"linger.ms": 0})
        self._rows: dict[str, Incident] = {}
        self._alerts: dict[str, Alert] = {}
        self._by_page: dict[str, dict[str, None]] = {}  # the alerts of a page
        self._waiting: set[str] = set()
        self._told: dict[str, set[str]] = {}  # keys of the open pages about a deployment

    @property
    def waiting(self) -> list[Incident]:
        """Rows of which something is to be sent later, or was interrupted after it had waited."""
        return [self._rows[key] for key in sorted(self._waiting)]

    def get(self, key: str) -> Incident | None:
        """The row of a key."""
        return self._rows.get(key)

    def alert(self, signal_id: str) -> Alert | None:
        """The row of an alert."""
        return self._alerts.get(signal_id)

    def alerts_of(self, page: str) -> list[Alert]:
        """Every alert that a page is about."""
        return [self._alerts[signal_id] for signal_id in self._by_page.get(page, ())]

    def is_told_of(self, deployment_id: str) -> bool:
        """Whether a page about an alert names this deployment and was sent."""
        return bool(self._told.get(deployment_id))

    def write(self, incident: Incident) -> None:
        """Replace a row. RetryLater where Kafka does not acknowledge it in time."""
        self._put(incident.key, incident.to_json())
        self._take(incident)

    def write_alert(self, alert: Alert) -> None:
        """Replace the row of an alert. RetryLater where Kafka does not acknowledge it in time."""
        self._put(alert.key, alert.to_json())
        self._take_alert(alert)

    def _put(self, key: str, row: dict[str, Any]) -> None:
        errors: list[str] = []
        self._producer.produce(
            Topic.ONCALL_STATE.value,
            json.dumps(row).encode(),
            key.encode(),
            on_delivery=lambda error, message: errors.append(why_undelivered(error, message)),
        )
        if self._producer.flush(_TIMEOUT) or any(errors):
            raise RetryLater(f"the state of {key} was not acknowledged by Kafka: {''.join(errors) or 'no answer'}")

    def _take(self, incident: Incident) -> None:
        known = self._rows.get(incident.key)
        if known is not None and (about := _about(known)):
            self._told.get(about, set()).discard(known.key)
        if about := _about(incident):
            self._told.setdefault(about, set()).add(incident.key)
        self._rows[incident.key] = incident
        self._waiting = self._waiting - {incident.key} | ({incident.key} if incident.due or incident.next_at else set())

    def _take_alert(self, alert: Alert) -> None:
        known = self._alerts.get(alert.signal_id)
        if known is not None:
            self._by_page[known.page].pop(known.signal_id, None)
        self._by_page.setdefault(alert.page, {})[alert.signal_id] = None
        self._alerts[alert.signal_id] = alert

    def read(self) -> None:
        """Read every row anew: another sink may have written some. RetryLater where Kafka does not answer."""
        rows: dict[str, dict[str, Any]] = {}
        # A group id is obligatory for the client, but nothing is committed to it.
        consumer = Consumer(consumer_config(self._settings, f"deploytrail-sink-on-call-state-{uuid.uuid4()}"))
        try:
            left = self._assign(consumer)
            deadline = time.monotonic() + _TIMEOUT
            while left:
                for message in consumer.consume(1000, 0.1):
                    value = message.value()
                    if message.error() is None and value is not None:
                        row = json.loads(value)
                        rows[row["key"]] = row
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
        self._rows, self._alerts, self._by_page, self._waiting, self._told = {}, {}, {}, set(), {}
        # Rows of incidents in an earlier format tell of alerts as well; rows of the alerts themselves know better.
        for _, row in sorted(rows.items(), key=lambda one: one[1]["v"]):
            incident, alert = read_row(row)
            if incident is not None:
                self._take(incident)
            if alert is not None:
                self._take_alert(alert)

    def _assign(self, consumer: Consumer) -> dict[int, int]:
        topic = Topic.ONCALL_STATE.value
        partitions = sorted(consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions)
        marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_TIMEOUT) for p in partitions}
        left = {p: end for p, (low, end) in marks.items() if end > low}
        consumer.assign([TopicPartition(topic, p, marks[p][0]) for p in left])
        return left


def _about(incident: Incident) -> str:
    """The deployment that an open page about an alert names."""
    of_alert = incident.sent and incident.key.startswith(CORRELATION)
    return incident.details.get("deployment_id", "") if of_alert else ""
