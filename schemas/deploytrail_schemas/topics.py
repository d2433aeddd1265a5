"""The topics: what each carries, how it is partitioned, and how long it is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_DAY_MS = 86_400_000
MESSAGE_BYTES = (1 << 20) + (64 << 10)  # a record of 1 MiB, with room for key and headers


class Topic(Enum):
    """One topic by its name."""

    INTAKE = "deploytrail.intake"
    EVENTS = "deploytrail.events"
    RECORDS = "deploytrail.records"
    FINDINGS = "deploytrail.findings"
    POLICIES = "deploytrail.policies"
    ONCALL_STATE = "deploytrail.oncall-state"
    DELIVERIES = "deploytrail.deliveries"
    CLAIMS = "deploytrail.claims"
    FEDERATED = "deploytrail.federated"
    DEAD_LETTERS = "deploytrail.dead-letters"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is made. `partitions` None: as many as the settings say, one a region."""

    partitions: int | None
    config: dict[str, str]


TOPICS: dict[Topic, TopicSpec] = {
    Topic.INTAKE: TopicSpec(
        None,
        {
            "retention.ms": str(30 * _DAY_MS),
            # The broker's append time bounds the reporter's clock: it must not be the reporter's.
            "message.timestamp.type": "LogAppendTime",
        },
    ),
    Topic.EVENTS: TopicSpec(None, {"retention.ms": str(400 * _DAY_MS)}),
    Topic.RECORDS: TopicSpec(None, {"retention.ms": str(400 * _DAY_MS)}),
    Topic.FINDINGS: TopicSpec(None, {"retention.ms": str(400 * _DAY_MS)}),
    Topic.POLICIES: TopicSpec(1, {"cleanup.policy": "compact"}),
    Topic.ONCALL_STATE: TopicSpec(8, {"cleanup.policy": "compact"}),
    # One row a delivery of a webhook that was accepted. Only closed segments are deleted: one a day.
    Topic.DELIVERIES: TopicSpec(
        1, {"cleanup.policy": "compact,delete", "retention.ms": str(7 * _DAY_MS), "segment.ms": str(_DAY_MS)}
    ),
    # Records of several clusters, brought together by deployment; what they mean is in the state of who reads them.
    Topic.CLAIMS: TopicSpec(None, {"retention.ms": str(30 * _DAY_MS), "message.timestamp.type": "LogAppendTime"}),
    # Each message holds all that is known of its deployment: the newest is enough.
    Topic.FEDERATED: TopicSpec(None, {"cleanup.policy": "compact,delete", "retention.ms": str(400 * _DAY_MS)}),
    # A dead letter holds a whole message and more headers: it must fit wherever the message did.
    Topic.DEAD_LETTERS: TopicSpec(4, {"retention.ms": str(400 * _DAY_MS), "max.message.bytes": str(4 * MESSAGE_BYTES)}),
}


def ensure_topics(admin: AdminClient, settings: Settings, timeout: float = 30.0) -> list[str]:
    """Create those of deploytrail's topics that are missing, and return their names."""
    return create_topics(admin, settings, {topic.value: spec for topic, spec in TOPICS.items()}, timeout)


def create_topics(
    admin: AdminClient, settings: Settings, specs: dict[str, TopicSpec], timeout: float = 30.0
) -> list[str]:
    """Create the topics that are missing, wait until they can be used, and return their names.

    ConfigurationError where an existing topic has another number of partitions than it should;
    RetryLater where the brokers do not answer within `timeout` seconds.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without __all__

    existing = _existing(admin, settings, timeout)
    missing: list[Any] = []
    for name, spec in specs.items():
        partitions = spec.partitions or settings.partitions
        if name in existing:
            if existing[name] != partitions:
                raise ConfigurationError(
                    f"{name} has {existing[name]} partitions, the settings say {partitions}: a topic under a "
                    "running processor cannot be grown; set DEPLOYTRAIL_PARTITIONS to what is there"
                )
            continue
        config = {"max.message.bytes": str(MESSAGE_BYTES), "compression.type": "producer"} | spec.config
        if settings.replication >= 3:
            # What is acknowledged is on two brokers, and one may be away: with Kafka's default one copy would do.
            config |= {"min.insync.replicas": "2"}
        missing.append(NewTopic(name, partitions, settings.replication, config=config))
    if not missing:
        return []
    made: list[str] = []
    for name, future in admin.create_topics(missing, operation_timeout=timeout).items():
        try:
            future.result(timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise RetryLater(f"{name} cannot be created: {error}") from error
        except TimeoutError as error:
            raise RetryLater(f"{name} was not created within {timeout:g} s; Kafka may be busy, try again") from error
        made.append(name)
    deadline = time.monotonic() + timeout
    # A broker may answer for a moment as if it had never heard of a topic that it just made.
    while not set(made) <= _existing(admin, settings, timeout).keys():
        if time.monotonic() > deadline:
            raise RetryLater(f"the topics {made} were created and do not appear")
        time.sleep(0.05)
    return made


def configure_topics(admin: AdminClient, configs: Mapping[str, Mapping[str, str]], timeout: float = 30.0) -> None:
    """Set what topics that are there lack. RetryLater where the brokers do not do it within `timeout` seconds."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
    )

    wanted = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
            ],
        )
        for topic, config in configs.items()
    ]
    for resource, future in (admin.incremental_alter_configs(wanted) if wanted else {}).items():
        try:
            future.result(timeout)
        except (KafkaException, TimeoutError) as error:
            raise RetryLater(f"{resource.name} cannot be configured: {error or 'no answer'}") from error


def _existing(admin: AdminClient, settings: Settings, timeout: float) -> dict[str, int]:
    from confluent_kafka import KafkaException

    try:
        topics = admin.list_topics(timeout=timeout).topics
    except KafkaException as error:
        unset = if_not_set("kafka", settings.kafka)
        raise RetryLater(f"Kafka at {settings.kafka} does not answer: {error}{unset}") from error
    return {name: len(found.partitions) for name, found in topics.items()}
