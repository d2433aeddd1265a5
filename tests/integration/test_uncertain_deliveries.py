"""What Kafka may not have is never taken for delivered, though librdkafka reports no error.

The first message of each producer is refused, and its second taken: what happens while a partition changes its leader.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from deploytrail.backfill_command import _Delivery
from deploytrail.gateway.publisher import KafkaPublisher, Outgoing
from deploytrail_processors.forwarder import DeliveryFailed, Forwarder
from deploytrail_processors.policy_changes import publish
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.kafka import UNCERTAIN, client_config, producer_config, why_undelivered
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import MESSAGE_BYTES, Topic, configure_topics, ensure_topics
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
def test_an_output_of_a_processor_lets_no_offset_be_committed(refusing: RefusedFirst) -> None:
    """A later one may be there: sent again, the earlier one would stand in its place."""

    async def send() -> None:
        forwarder = Forwarder(Settings(kafka=refusing.bootstrap))
        for at in (NOON, NOON + 1):
            forwarder.forward(Topic.FINDINGS, 2, "key", RecordType.TICK, {"at": at, "region": ""})
            assert refusing.holds.wait(30)
        await forwarder.barrier()

    with pytest.raises(DeliveryFailed, match=f"{UNCERTAIN}.*; nothing behind it is committed"):
        asyncio.run(send())


@on(Topic.RECORDS)
def test_a_row_of_a_processor_lets_no_offset_be_committed(refusing: RefusedFirst) -> None:
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
    producer = Producer(producer_config(settings) | {"linger.ms": 0})
    delivery = _Delivery(settings, producer, settings.backfill_partition)
    for value in (b"first", b"second"):
        delivery.produce(value, "", [])
        assert refusing.holds.wait(30)

    with pytest.raises(RetryLater, match=f"1 record was not acknowledged .*{UNCERTAIN}.* run the same again"):
        delivery.finish()
    with pytest.raises(RetryLater, match="1 record was not acknowledged"):  # and nothing is sent behind it
        delivery.produce(b"third", "", [])


@on(Topic.DEAD_LETTERS)
def test_a_dead_letter_of_the_sink_lets_no_offset_be_committed(refusing: RefusedFirst) -> None:
    letters = DeadLetters(Settings(kafka=refusing.bootstrap))
    for offset in (1, 2):
        row = Row(Topic.EVENTS.value, 1, offset, 0, b"", b"no record", ())
        letters.put(row, DeadLetterReason.TOO_LARGE, "refused")
        assert refusing.holds.wait(30)

    with pytest.raises(RetryLater, match=f"{UNCERTAIN}; nothing of this batch is committed"):
        letters.deliver()


def test_a_dead_letter_that_kafka_would_refuse_again_is_an_error_of_settings(topics: str) -> None:
    settings = Settings(kafka=topics)
    admin, topic = AdminClient(client_config(settings)), Topic.DEAD_LETTERS.value
    letters = DeadLetters(settings)
    configure_topics(admin, {topic: {"max.message.bytes": "200"}})
    try:
        row = Row(Topic.EVENTS.value, 1, 1, 0, b"", random.Random(7).randbytes(2000), ())
        letters.put(row, DeadLetterReason.TOO_LARGE, "refused")
        with pytest.raises(ConfigurationError, match=f"{topic} does not take a dead letter: .*too large"):
            letters.deliver()
    finally:
        configure_topics(admin, {topic: {"max.message.bytes": str(MESSAGE_BYTES)}})


@on(Topic.POLICIES)
def test_policies_that_may_be_lost_are_not_applied(refusing: RefusedFirst) -> None:
    def documents() -> Iterator[dict[str, Any]]:
        for version in (1, 2):
            yield {"kind": "service", "name": "shop", "version": version, "spec": {}}
            assert version == 2 or refusing.holds.wait(30)

    with pytest.raises(DeploytrailError, match=f"1 document was not delivered; apply again.*{UNCERTAIN}"):
        publish(Settings(kafka=refusing.bootstrap), documents())
