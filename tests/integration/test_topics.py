"""Topics are made as the table says, once, on a real broker."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.kafka import client_config, consumer_config, producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic, TopicSpec, configure_topics, create_topics, ensure_topics
from support.kafka import wait_for, write


@pytest.fixture
def settings(kafka: str) -> Settings:
    return Settings(kafka=kafka)


@pytest.fixture
def admin(settings: Settings) -> AdminClient:
    return AdminClient(client_config(settings))


@pytest.mark.requirement("M8.1")
def test_topics_are_made_once_and_partitioned_by_region(settings: Settings, admin: AdminClient) -> None:
    ensure_topics(admin, settings)

    assert ensure_topics(admin, settings) == []
    found = admin.list_topics(timeout=30).topics
    assert {t.value: len(found[t.value].partitions) for t in TOPICS} == {
        "deploytrail.intake": 16,
        "deploytrail.events": 16,
        "deploytrail.records": 16,
        "deploytrail.findings": 16,
        "deploytrail.policies": 1,
        "deploytrail.oncall-state": 8,
        "deploytrail.deliveries": 1,
        "deploytrail.claims": 16,
        "deploytrail.federated": 16,
        "deploytrail.dead-letters": 4,
    }


def test_a_topic_with_another_number_of_partitions_is_refused(settings: Settings, admin: AdminClient) -> None:
    ensure_topics(admin, settings)
    with pytest.raises(ConfigurationError, match=r"has 16 partitions, the settings say 4"):
        ensure_topics(admin, Settings(kafka=settings.kafka, partitions=4, backfill_partition=3))


def test_intake_stamps_the_time_of_arrival(settings: Settings, admin: AdminClient) -> None:
    ensure_topics(admin, settings)
    resource = ConfigResource(ResourceType.TOPIC, Topic.INTAKE.value)
    config = next(iter(admin.describe_configs([resource]).values())).result(10)

    assert config["message.timestamp.type"].value == "LogAppendTime"
    assert config["retention.ms"].value == str(30 * 86_400_000)


def test_a_topic_that_is_there_gets_what_it_lacks_and_keeps_the_rest(settings: Settings, admin: AdminClient) -> None:
    name = f"changelog-{uuid.uuid4().hex}"
    create_topics(admin, settings, {name: TopicSpec(1, {"cleanup.policy": "compact"})})
    configure_topics(admin, {name: {"min.compaction.lag.ms": "21600000"}})

    def is_configured() -> bool:
        [config] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
        found = config.result(30)
        return (found["min.compaction.lag.ms"].value, found["cleanup.policy"].value) == ("21600000", "compact")

    wait_for(is_configured, what="both")
    with pytest.raises(RetryLater, match="no-such-topic cannot be configured"):
        configure_topics(admin, {"no-such-topic": {"min.compaction.lag.ms": "1"}})


def test_a_dead_letter_fits_wherever_its_message_did(settings: Settings, admin: AdminClient) -> None:
    ensure_topics(admin, settings)
    producer = Producer(producer_config(settings))
    errors: list[object] = []
    value = b"x" * ((1 << 20) + 1024)
    marker = uuid.uuid4().bytes
    producer.produce(
        Topic.DEAD_LETTERS.value, value, marker, partition=2, on_delivery=lambda error, _: errors.append(error)
    )

    assert producer.flush(20) == 0
    assert errors == [None]


def test_a_new_group_reads_from_the_beginning(settings: Settings, admin: AdminClient) -> None:
    ensure_topics(admin, settings)
    write(settings.kafka, Topic.FINDINGS, [(9, b"first", b"v"), (9, b"second", b"v")])
    consumer = Consumer(consumer_config(settings, f"test-{uuid.uuid4()}"))
    keys: list[object] = []
    try:
        consumer.subscribe([Topic.FINDINGS.value])
        wait_for(lambda: keys.extend(m.key() for m in consumer.consume(10, 0.2) if not m.error()) or len(keys) >= 2)
    finally:
        consumer.close()

    assert keys[:2] == [b"first", b"second"]


def test_brokers_that_do_not_answer_are_named() -> None:
    settings = Settings(kafka="127.0.0.1:1")
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1:1"):
        ensure_topics(AdminClient(client_config(settings)), settings, timeout=0.5)
