"""What Kafka may not have is never taken for delivered, though librdkafka reports no error.

The first message of each producer is refused, and its second taken: what happens while a partition changes its leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from deploytrail.backfill_command import _Delivery
from deploytrail.gateway.publisher import KafkaPublisher, Outgoing
from deploytrail_processors.forwarder import DeliveryFailed, Forwarder
from deploytrail_processors.policy_changes import publish
from deploytrail_schemas.codec import decode
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.kafka import UNCERTAIN, client_config, producer_config, why_undelivered
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic, ensure_topics
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.dead_letters import DeadLetters
from support.kafka import read_topic
from support.refused_first import RefusedFirst
from support.values import NOON

pytestmark = [pytest.mark.timeout(120), pytest.mark.requirement("M3.4", "M8.4")]


@pytest.fixture(scope="module")
def topics(own_kafka: str) -> str:
    settings = Settings(kafka=own_kafka)
    ensure_topics(AdminClient(client_config(settings)), settings)
    return own_kafka


@pytest.fixture
def refusing(topics: str, request: pytest.FixtureRequest) -> Iterator[RefusedFirst]:
    with RefusedFirst(topics, request.param.value) as way:
        yield way


def on(topic: Topic) -> Any:
    return pytest.mark.parametrize("refusing", [topic], indirect=True)


def ticks(kafka: str, topic: Topic, partition: int) -> list[int]:
    messages = [message for message in read_topic(kafka, topic) if message.partition() == partition]
    return [decode(message.value() or b"")[1]["at"] for message in messages]


@on(Topic.EVENTS)
def test_librdkafka_reports_no_error_of_a_message_that_is_not_there(refusing: RefusedFirst, own_kafka: str) -> None:
    """Why `why_undelivered` is there: once this fails, it can go."""
    producer = Producer(producer_config(Settings(kafka=refusing.bootstrap)) | {"linger.ms": 0})
    reports: dict[bytes, tuple[object, Message]] = {}
    for value in (b"first", b"second"):
        producer.produce(
            Topic.EVENTS.value, value, partition=1, on_delivery=lambda e, m: reports.update({m.value(): (e, m)})
        )
        assert refusing.holds.wait(30)
    assert producer.flush(30) == 0

    assert [error for error, _ in reports.values()] == [None, None]
    assert {value: why_undelivered(*report) for value, report in reports.items()} == {
        b"first": UNCERTAIN,
        b"second": "",
    }
    assert [m.value() for m in read_topic(own_kafka, Topic.EVENTS) if m.partition() == 1] == [b"second"]


@on(Topic.FINDINGS)
def test_an_output_of_a_processor_is_sent_again(refusing: RefusedFirst, own_kafka: str) -> None:
    async def send() -> None:
        forwarder = Forwarder(Settings(kafka=refusing.bootstrap))
        for at in (NOON, NOON + 1):
            tick = {"at": at, "region": ""}
            forwarder.forward(Topic.FINDINGS, 2, "key", RecordType.TICK, tick, [("said", b"so")])
            assert refusing.holds.wait(30)
        await forwarder.barrier()

    asyncio.run(send())

    assert refusing.refused.is_set()
    assert sorted(ticks(own_kafka, Topic.FINDINGS, 2)) == [NOON, NOON + 1]
    found = [message for message in read_topic(own_kafka, Topic.FINDINGS) if message.partition() == 2]
    assert [(message.key(), message.headers()) for message in found] == [(b"key", [("said", b"so")])] * 2


@on(Topic.RECORDS)
def test_a_row_of_a_processor_lets_no_offset_be_committed(refusing: RefusedFirst) -> None:
    """A later row of the same key may be there: sent again, the earlier one would stand in its place."""

    async def send() -> None:
        forwarder = Forwarder(Settings(kafka=refusing.bootstrap))
        for value in (b"1", b"2"):
            forwarder.row(Topic.RECORDS.value, 2, b"key", value)
            assert refusing.holds.wait(30)
        await forwarder.barrier()

    with pytest.raises(DeliveryFailed, match=UNCERTAIN):
        asyncio.run(send())


@on(Topic.INTAKE)
def test_the_gateway_does_not_say_that_it_has_taken_it(refusing: RefusedFirst) -> None:
    async def send() -> list[object]:
        publisher = KafkaPublisher(Settings(kafka=refusing.bootstrap))
        first = asyncio.create_task(publisher.publish([Outgoing(1, b"", b"first", ())]))
        assert await asyncio.to_thread(refusing.holds.wait, 30)
        second = asyncio.create_task(publisher.publish([Outgoing(1, b"", b"second", ())]))
        try:
            return list(await asyncio.gather(first, second, return_exceptions=True))
        finally:
            publisher.close()

    first, second = asyncio.run(send())

    assert isinstance(first, RetryLater)
    assert UNCERTAIN in str(first)
    assert second is None


@on(Topic.INTAKE)
def test_a_backfill_says_that_it_is_to_be_run_again(refusing: RefusedFirst) -> None:
    settings = Settings(kafka=refusing.bootstrap)
    delivery = _Delivery(Producer(producer_config(settings) | {"linger.ms": 0}), settings.backfill_partition)
    for value in (b"first", b"second"):
        delivery.produce(value, "", [])
        assert refusing.holds.wait(30)

    with pytest.raises(RetryLater, match=f"1 record was not acknowledged .*{UNCERTAIN}.* run the same again"):
        delivery.finish(settings)


@on(Topic.DEAD_LETTERS)
def test_a_dead_letter_of_the_sink_lets_no_offset_be_committed(refusing: RefusedFirst) -> None:
    letters = DeadLetters(Settings(kafka=refusing.bootstrap))
    for offset in (1, 2):
        row = Row(Topic.EVENTS.value, 1, offset, 0, b"", b"no record", ())
        letters.put(row, DeadLetterReason.TOO_LARGE, "refused")
        assert refusing.holds.wait(30)

    with pytest.raises(RetryLater, match=f"{UNCERTAIN}; nothing of this batch is committed"):
        letters.deliver()


@on(Topic.POLICIES)
def test_policies_that_may_be_lost_are_not_applied(refusing: RefusedFirst) -> None:
    def documents() -> Iterator[dict[str, Any]]:
        for version in (1, 2):
            yield {"kind": "service", "name": "shop", "version": version, "spec": {}}
            assert version == 2 or refusing.holds.wait(30)

    with pytest.raises(DeploytrailError, match=f"1 document was not delivered; apply again.*{UNCERTAIN}"):
        publish(Settings(kafka=refusing.bootstrap), documents())
