"""Events at a rate, as cheaply as they can be made: encoded before, sent by a plain producer with their real times.

`deploytrail.start` costs its process about a millisecond an event, most of it for an fsync. A thousand a second would
take a whole core from what is measured, though they come from many hosts.

Run as `python -m benchmarks.load_member RATE SECONDS SERVICE BEGIN`, `BEGIN` in seconds since the epoch.
"""

from __future__ import annotations

import os
import sys
import time
import uuid

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, Producer
from deploytrail_schemas.avro_writer import long_bytes
from deploytrail_schemas.codec import encode
from deploytrail_schemas.headers import ECHO, SENT_AT
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

REGION = "eu-west-1"
# Stands in the encoded events where their time goes.
_MARK = 1_700_000_000_123_456
_ECHO_EVERY = 0.05  # seconds: the library has a new one for each of its batches


class Echoes:
    """The echo of the newest acknowledged record, as the library sends it."""

    def __init__(self) -> None:
        self.header: list[tuple[str, bytes]] = []
        self._next = 0.0

    def hear(self, error: KafkaError | None, message: Message, sent: int) -> None:
        """Take in the acknowledgement of a record that was sent at `sent`."""
        if error is not None:
            raise SystemExit(f"the load was not delivered: {error.str()}")
        kind, received = message.timestamp()
        if kind == TIMESTAMP_LOG_APPEND_TIME and time.monotonic() >= self._next:
            self._next = time.monotonic() + _ECHO_EVERY
            self.header = [(ECHO, f"{sent},{received * 1000},{time.time_ns() // 1000}".encode())]


def main(rate: int, seconds: int, service: str, begin: float) -> None:
    """Send, and return once all is acknowledged."""
    settings = Settings.load()
    partition = RegionMap.from_settings(settings).partition_of(REGION)
    producer = Producer(
        {"bootstrap.servers": settings.kafka, "acks": "all", "linger.ms": 5, "compression.type": "lz4", "log_level": 0}
    )
    encoded = [_encoded(service, number) for number in range(rate * seconds)]
    echoes = Echoes()
    time.sleep(max(0.0, begin - time.time()))
    began = time.perf_counter()
    for number, (front, back) in enumerate(encoded):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        now = time.time_ns() // 1000
        headers: list[tuple[str, str | bytes | None]] = [(SENT_AT, str(now).encode()), *echoes.header]
        producer.produce(
            Topic.INTAKE.value,
            front + long_bytes(now) + back,
            service.encode(),
            partition=partition,
            headers=headers,
            on_delivery=lambda error, message, sent=now: echoes.hear(error, message, sent),
        )
        producer.poll(0)
    producer.flush(20)


def _encoded(service: str, number: int) -> tuple[bytes, bytes]:
    """An event, what stands before its time and what behind it."""
    value = {
        "event_id": str(uuid.uuid4()),
        "event_type": "started",
        "deployment_id": f"{service}-{number}",
        "occurred_at": _MARK,
        "region": REGION,
        "environment": "bench",
        "service": service,
        "producer_id": f"{service}-{os.getpid()}",
        "producer_seq": number + 1,
        "deployer": "bench",
        "version": f"1.0.{number}",
    }
    front, back = encode(RecordType.DEPLOYMENT_EVENT, value).split(long_bytes(_MARK))
    return front, back


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
