"""Reading a topic whole, and writing to it, as tests do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.kafka import client_config, consumer_config, producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic, ensure_topics


def make_topics(bootstrap: str) -> Settings:
    """Settings for a broker whose topics exist."""
    settings = Settings(kafka=bootstrap)
    ensure_topics(AdminClient(client_config(settings)), settings, timeout=120.0)
    return settings


def read_topic(bootstrap: str, topic: Topic | str, *, since: dict[int, int] | None = None) -> list[Message]:
    """Every message of a topic up to its present end, partition by partition.

    `since`: offsets by partition to begin at, as `end_offsets` gave them.
    """
    name = topic.value if isinstance(topic, Topic) else topic
    consumer = Consumer(consumer_config(Settings(kafka=bootstrap), f"test-{uuid.uuid4()}") | {"log_level": 0})
    try:
        bounds = _watermarks(consumer, name)
        positions = {p: max(low, (since or {}).get(p, 0)) for p, (low, _) in bounds.items()}
        open_ones = {p for p, (_, end) in bounds.items() if positions[p] < end}
        consumer.assign([TopicPartition(name, p, positions[p]) for p in open_ones])
        found: list[Message] = []
        deadline = time.monotonic() + 60
        while open_ones:
            message = consumer.poll(0.2)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} stands at {positions}, its ends are {bounds}")
            if message is None:
                continue
            if (error := message.error()) is not None:
                if not error.retriable() and error.code() != KafkaError.NOT_COORDINATOR:
                    raise RuntimeError(str(error))
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            if offset < bounds[partition][1]:
                found.append(message)
            if offset + 1 >= bounds[partition][1]:
                open_ones.discard(partition)
        return sorted(found, key=lambda m: (m.partition() or 0, m.offset() or 0))
    finally:
        consumer.close()


def end_offsets(bootstrap: str, topic: Topic | str) -> dict[int, int]:
    """The offset behind the last message of each partition."""
    name = topic.value if isinstance(topic, Topic) else topic
    consumer = Consumer(consumer_config(Settings(kafka=bootstrap), f"test-{uuid.uuid4()}") | {"log_level": 0})
    try:
        return {partition: end for partition, (_, end) in _watermarks(consumer, name).items()}
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, name: str) -> dict[int, tuple[int, int]]:
    partitions = consumer.list_topics(name, timeout=30).topics[name].partitions
    deadline = time.monotonic() + 60
    while True:
        try:
            return {p: consumer.get_watermark_offsets(TopicPartition(name, p), timeout=30) for p in sorted(partitions)}
        except KafkaException as error:
            # A broker lists new partitions before it leads them.
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def write(
    bootstrap: str,
    topic: Topic | str,
    messages: Iterable[tuple[int, bytes | None, bytes | None]],
    headers: list[tuple[str, bytes]] | None = None,
) -> None:
    """Produce (partition, key, value) in order and wait until all are acknowledged."""
    name = topic.value if isinstance(topic, Topic) else topic
    producer = Producer(producer_config(Settings(kafka=bootstrap)))
    errors: list[object] = []
    for partition, key, value in messages:
        producer.produce(
            name,
            value,
            key,
            partition=partition,
            headers=headers or [],
            on_delivery=lambda error, _: error and errors.append(error),
        )
        producer.poll(0)
    if producer.flush(60) or errors:
        raise RuntimeError(f"not delivered to {name}: {errors[:3]}")


def wait_for(condition: Callable[[], bool], *, seconds: float = 120.0, what: str = "the condition") -> None:
    """Return once `condition()` holds; AssertionError with `what` after `seconds`: a machine may do much besides."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {seconds:.0f} s")
        time.sleep(0.05)


def known_clock() -> list[tuple[str, bytes]]:
    """Headers of a sender whose clock is known to milliseconds: sent now, with the echo of an earlier record."""
    sent = time.time_ns() // 1000
    echo = f"{sent - 50_000},{sent - 45_000},{sent - 40_000}"
    return [("dt-sent-at", str(sent).encode()), ("dt-echo", echo.encode())]
