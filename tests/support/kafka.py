"""Reading a topic whole, and writing to it, as tests do."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.kafka import client_config, consumer_config, producer_config, why_undelivered
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic, ensure_topics


def make_topics(bootstrap: str) -> Settings:
    """Settings for a broker whose topics exist."""
    settings = Settings(kafka=bootstrap)
    ensure_topics(AdminClient(client_config(settings)), settings, timeout=120.0)
    return settings


def empty(bootstrap: str) -> None:
    """Take all topics and groups from a broker of one node: what other tests left. Whoever wrote or read has ended."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topics() -> list[str]:
        return [name for name in admin.list_topics(timeout=60).topics if not name.startswith("__")]

    def groups() -> list[str]:
        found = [group.group_id for group in admin.list_consumer_groups(request_timeout=60).result().valid]
        for name, described in admin.describe_consumer_groups(found, request_timeout=60).items() if found else ():
            members = [member.member_id for member in described.result(60).members]
            if members:
                _leave(bootstrap, name, members)
        return found

    wait_for(lambda: _deleted(admin.delete_consumer_groups, groups()), what="the end of all groups of other tests")
    wait_for(lambda: _deleted(admin.delete_topics, topics()), what="the end of all topics of other tests")


def _deleted(delete: Callable[[list[str]], dict[str, Future[None]]], names: list[str]) -> bool:
    """Whether there was nothing left to delete; otherwise it is asked to be."""
    for done in delete(names).values() if names else ():
        with contextlib.suppress(KafkaException):
            done.result(60)
    return not names


def _leave(bootstrap: str, group: str, members: list[str]) -> None:
    """Say in the name of members that they leave: one that was killed would be awaited until its session is over.

    LeaveGroup, version 3: https://kafka.apache.org/protocol#The_Messages_LeaveGroup
    """

    def text(value: str) -> bytes:
        return struct.pack(">h", len(value.encode())) + value.encode()

    no_instance = struct.pack(">h", -1)
    who = b"".join(text(member) + no_instance for member in members)
    request = struct.pack(">hhi", 13, 3, 1) + text("tests") + text(group) + struct.pack(">i", len(members)) + who
    host, _, port = bootstrap.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        connection.recv(4096)


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
    errors: list[str] = []
    for partition, key, value in messages:
        producer.produce(
            name,
            value,
            key,
            partition=partition,
            headers=headers or [],
            on_delivery=lambda error, message: errors.append(why_undelivered(error, message)),
        )
        producer.poll(0)
    if producer.flush(60) or any(errors):
        raise RuntimeError(f"not delivered to {name}: {[*filter(None, errors)][:3]}")


def wait_for(condition: Callable[[], bool], *, seconds: float = 120.0, what: str = "the condition") -> None:
    """Return once `condition()` holds; AssertionError with `what` after `seconds`: a machine may do much besides.

    A condition that takes long to tell is asked less often: what is waited for needs the machine, too.
    """
    deadline = time.monotonic() + seconds
    asked = time.monotonic()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {seconds:.0f} s")
        time.sleep(min(2.0, max(0.05, 2 * (time.monotonic() - asked))))
        asked = time.monotonic()


def known_clock() -> list[tuple[str, bytes]]:
    """Headers of a sender whose clock is known to milliseconds: sent now, with the echo of an earlier record."""
    sent = time.time_ns() // 1000
    echo = f"{sent - 50_000},{sent - 45_000},{sent - 40_000}"
    return [("dt-sent-at", str(sent).encode()), ("dt-echo", echo.encode())]
