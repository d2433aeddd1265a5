"""What lies in Kafka, read whole; and how far a consumer group has come."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import client_config, consumer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

KINDS = {
    RecordType.DEPLOYMENT_EVENT: "deployment",
    RecordType.SIGNAL: "signal",
    RecordType.APPROVAL: "approval",
    RecordType.OBSERVATION: "observation",
}
_TIMEOUT = 60.0


class Stored(NamedTuple):
    """One message as it lies in Kafka; `headers` in their order."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def end_offsets(settings: Settings, topic: Topic) -> dict[int, int]:
    """The offset behind the last message of each partition."""
    consumer = _reader(settings)
    try:
        return {partition: end for partition, (_, end) in _watermarks(consumer, topic).items()}
    finally:
        consumer.close()


def read_all(settings: Settings, topic: Topic) -> Iterator[Stored]:
    """Every message of a topic up to its present end, in order within each partition.

    RetryLater where it cannot be read to its end in time.
    """
    consumer = _reader(settings)
    try:
        marks = _watermarks(consumer, topic)
        left = {partition: end for partition, (low, end) in marks.items() if end > low}
        consumer.assign([TopicPartition(topic.value, partition, marks[partition][0]) for partition in left])
        deadline = time.monotonic() + _TIMEOUT
        while left:
            for message in consumer.consume(2000, 0.2):
                if message.error() is None and (stored := _stored(message)).offset < marks[stored.partition][1]:
                    yield stored
            # A compacted topic has holes at its end: the position tells, not the last message.
            for found in consumer.position([TopicPartition(topic.value, partition) for partition in left]):
                if found.offset >= left[found.partition]:
                    del left[found.partition]
            if time.monotonic() > deadline:
                raise RetryLater(f"{topic.value} could not be read to its end; left: {left}")
    finally:
        consumer.close()


def ids_in(settings: Settings, topic: Topic) -> dict[str, frozenset[str]]:
    """Distinct ids of the reported records of a topic, by kind; ticks and foreign bytes left out."""
    return ids_of(stored.value for stored in read_all(settings, topic))


def ids_of(values: Iterator[bytes | None]) -> dict[str, frozenset[str]]:
    """Distinct ids of encoded records, by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS.values()}
    for value in values:
        try:
            kind, record = decode_routing(value)
        except DecodeError:
            continue
        if kind in KINDS:
            found[KINDS[kind]].add(record[kind.id_field])
    return {kind: frozenset(ids) for kind, ids in found.items()}


def group_of(settings: Settings, app: str) -> str:
    """The consumer group of a processor: the newest, since each format of its state has one (`deploytrail-NAME-v2`).

    RetryLater where Kafka knows of none in time.
    """
    admin = AdminClient(client_config(settings) | {"log_level": 0})
    plain = f"deploytrail-{app}"
    deadline = time.monotonic() + _TIMEOUT
    while not (groups := [name for name in _groups(admin) if name == plain or name.startswith(f"{plain}-v")]):
        if time.monotonic() > deadline:
            raise RetryLater(f"Kafka knows of no group of {app}")
        time.sleep(0.2)
    numbers = [group.removeprefix(f"{plain}-v") for group in groups if group.startswith(f"{plain}-v")]
    newest = max((int(number) for number in numbers if number.isdecimal()), default=1)
    return plain if newest == 1 else f"{plain}-v{newest}"


def _groups(admin: AdminClient) -> list[str]:
    """Every group; none while a coordinator moves, which would leave out its own: asked again, it will tell."""
    try:
        found = admin.list_consumer_groups().result(_TIMEOUT)
    except (KafkaException, TimeoutError):
        return []
    return [] if found.errors else [one.group_id for one in found.valid]


def behind(settings: Settings, group: str, topic: Topic, ends: dict[int, int]) -> int:
    """How many messages before `ends` a consumer group has not committed yet."""
    wanted = [TopicPartition(topic.value, partition) for partition, end in ends.items() if end > 0]
    if not wanted:
        return 0
    # Not by an AdminClient: librdkafka 2.16 ends the process that asks as one while a coordinator moves.
    consumer = Consumer(consumer_config(settings, group) | {"log_level": 0})
    try:
        committed = consumer.committed(wanted, timeout=_TIMEOUT)
    except KafkaException:
        return sum(ends.values())  # the group does not exist yet, or its coordinator moves
    finally:
        consumer.close()
    return sum(max(ends[tp.partition] - max(tp.offset, 0), 0) for tp in committed)


def _stored(message: Message) -> Stored:
    partition, offset, given = message.partition(), message.offset(), message.headers() or []
    assert partition is not None and offset is not None  # of a message that was read
    headers = [(str(name), _bytes(value)) for name, value in list(given)]
    return Stored(partition, offset, _bytes(message.key()), _bytes(message.value()), headers)


def _bytes(given: str | bytes | None) -> bytes | None:
    return given.encode() if isinstance(given, str) else given


def _reader(settings: Settings) -> Consumer:
    return Consumer(consumer_config(settings, f"deploytrail-demo-{uuid.uuid4()}") | {"log_level": 0})


def _watermarks(consumer: Consumer, topic: Topic) -> dict[int, tuple[int, int]]:
    try:
        partitions = consumer.list_topics(topic.value, timeout=_TIMEOUT).topics[topic.value].partitions
        return {
            p: consumer.get_watermark_offsets(TopicPartition(topic.value, p), timeout=_TIMEOUT)
            for p in sorted(partitions)
        }
    except KafkaException as error:
        raise RetryLater(f"{topic.value} cannot be read: {error}") from error
