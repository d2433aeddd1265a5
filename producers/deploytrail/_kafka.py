"""Straight to Kafka: kafka://host:port,host:port."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Producer
from deploytrail_schemas.codec import decode_routing
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.headers import CLOCK, ECHO, SENT_AT, SENT_MONOTONIC
from deploytrail_schemas.kafka import client_config, refused_for_good
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail._backlog import Echo, Entry
from deploytrail._clock import monotonic, now
from deploytrail._sender import Outcome, Times

if TYPE_CHECKING:
    from deploytrail_schemas.record_signatures import Signer
    from deploytrail_schemas.registry import WireFormat

_NO_WAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION}


class KafkaTransport:
    """Writes to the intake topic, the partition given by the event's region, the key by its producer.

    Without idempotence: the first message of a process comes up to 500 ms sooner, and events that
    arrive twice are dropped by id. One request at a time keeps their order.
    """

    def __init__(self, settings: Settings) -> None:
        brokers = settings.url.partition("://")[2].rstrip("/")
        self._brokers = brokers
        self._regions = RegionMap.from_settings(settings)
        self._down = ""
        self._signer = _signer(settings.token)
        self._wire = _wire_format(settings)
        config: dict[str, Any] = client_config(replace(settings, kafka=brokers)) | {
            "acks": "all",
            "enable.idempotence": False,
            "max.in.flight.requests.per.connection": 1,
            "compression.type": "lz4",
            "linger.ms": 0,
            "message.max.bytes": 2 << 20,
            "message.timeout.ms": 30_000,
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 0,  # what a deploy writes to stderr is its own
        }
        self._producer = Producer(config | {"error_cb": self._on_error})

    def send(self, entries: list[Entry], times: Times, stop: threading.Event) -> Outcome:
        """See Transport."""
        batch = _Batch(len(entries))
        self._down = why = ""
        for index, entry in enumerate(entries):
            try:
                region = decode_routing(entry.payload)[1]["region"]
            except DeploytrailError as error:
                batch.refuse(index, str(error))
                continue
            try:
                payload = self._wire.framed(entry.payload, Topic.INTAKE.value) if self._wire else entry.payload
            except RetryLater as error:
                why = str(error)
                batch.stop_at(index, why)
                break
            sent = now()
            headers: list[tuple[str, bytes]] = []
            if times.timed:
                headers.append((SENT_AT, str(sent).encode()))
                if times.same_boot:
                    headers.append((SENT_MONOTONIC, str(monotonic()).encode()))
                if times.echo is not None:
                    headers.append((ECHO, times.echo.header().encode()))
                if times.clock:
                    headers.append((CLOCK, times.clock.encode()))
            partition, key = self._regions.partition_of(region), entry.producer_id.encode()
            if self._signer is not None:
                headers.append(self._signer.header(Topic.INTAKE.value, partition, key, headers, payload))
            try:
                self._producer.produce(
                    Topic.INTAKE.value,
                    payload,
                    key,
                    partition=partition,
                    headers=[*headers],
                    on_delivery=functools.partial(batch.on_delivery, index, sent),
                )
            except KafkaException as error:
                batch.on_delivery(index, sent, error.args[0], None)
            except BufferError:
                batch.stop_at(index, "the client's queue is full")
                break
        return self._wait(batch, stop, why)

    def close(self) -> None:
        """See Transport."""
        self._producer.purge()
        self._producer.poll(0)

    def _wait(self, batch: _Batch, stop: threading.Event, why: str) -> Outcome:
        while batch.open and not stop.is_set() and not self._down:
            self._producer.poll(0.02)
        if batch.open:
            # What was not acknowledged is tried again from the spool; librdkafka must not send it later.
            self._producer.purge()
            deadline = time.monotonic() + 0.05
            while batch.open and time.monotonic() < deadline:
                self._producer.poll(0.01)
            return batch.outcome(f"kafka://{self._brokers} cannot be reached ({self._down})" if self._down else "")
        return batch.outcome(why)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _NO_WAY:
            self._down = error.str()


def _signer(token: str) -> Signer | None:
    """What proves to the intake app who wrote an event; its import costs some 10 ms, so only with a token for it."""
    if not token.startswith("dtk_"):
        return None
    from deploytrail_schemas.record_signatures import Signer

    return Signer(token, "DEPLOYTRAIL_TOKEN")


def _wire_format(settings: Settings) -> WireFormat | None:
    """What frames events by a schema registry; imported only where there is one."""
    if not settings.schema_registry:
        return None
    from deploytrail_schemas.registry import wire_format

    return wire_format(settings)


class _Batch:
    """The answers to one batch."""

    def __init__(self, size: int) -> None:
        self.answers: list[str | None] = [None] * size  # "" delivered, "!…" refused, else why it failed
        self.echo: Echo | None = None
        self.open = size

    def on_delivery(self, index: int, sent: int, error: KafkaError | None, message: Any) -> None:
        if error is None:
            kind, timestamp = message.timestamp()
            # Only a topic that stamps by the broker's clock tells when it received.
            if kind == TIMESTAMP_LOG_APPEND_TIME:
                self.echo = Echo(sent, timestamp * 1000, now())
            self._answer(index, "")
        elif refused_for_good(error):
            self.refuse(index, error.str())
        else:
            self.failed(index, error.str())

    def refuse(self, index: int, why: str) -> None:
        self._answer(index, f"!{why}")

    def failed(self, index: int, why: str) -> None:
        self._answer(index, why or "failed")

    def stop_at(self, index: int, why: str) -> None:
        """This one and those behind it were not handed over."""
        for late in range(index, len(self.answers)):
            self.failed(late, why)

    def _answer(self, index: int, answer: str) -> None:
        if self.answers[index] is None:
            self.open -= 1
        self.answers[index] = answer

    def outcome(self, error: str) -> Outcome:
        """Done are the first entries up to one that failed or has no answer."""
        done = 0
        rejected: list[tuple[int, str]] = []
        for index, answer in enumerate(self.answers):
            if answer is None or (answer and answer[0] != "!"):
                reason = error or (f"Kafka did not take an event ({answer})" if answer else "")
                return Outcome(done, self.echo, tuple(rejected), reason or "not acknowledged yet")
            if answer:
                rejected.append((index, answer[1:]))
            done = index + 1
        return Outcome(done, self.echo, tuple(rejected))
