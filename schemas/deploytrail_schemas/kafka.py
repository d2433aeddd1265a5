"""Client settings for confluent_kafka that every room shares."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

ClientConfig = dict[str, str | int | float | bool]
UNCERTAIN = "Kafka may not have it: a later one was taken while its partition changed the leader"


def client_config(settings: Settings) -> ClientConfig:
    """What every client needs: where Kafka is, and what DEPLOYTRAIL_KAFKA_CLIENT adds."""
    config: ClientConfig = {"bootstrap.servers": settings.kafka}
    for entry in filter(None, (part.strip() for part in settings.kafka_client.split(";"))):
        name, equals, value = entry.partition("=")
        if not equals:
            raise ConfigurationError(f"DEPLOYTRAIL_KAFKA_CLIENT has {entry!r}; expected name=value")
        config[name.strip()] = value.strip()
    return config


def producer_config(settings: Settings) -> ClientConfig:
    """A producer that loses nothing: all replicas, no reordering by retries, lz4."""
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "message.max.bytes": 5 << 20,
    }


def why_undelivered(error: Any, message: Any) -> str:
    """Of a delivery report with `producer_config`: why the message is not certainly on Kafka; empty: it is.

    librdkafka takes a batch for delivered once a later one of its partition is. A broker that has just become the
    leader, and knows nothing of the producer yet, takes the later one also without the earlier: it refused that a
    moment ago, or the leader before it died with it. Such a message is reported without an error, but has no offset.
    https://github.com/confluentinc/confluent-kafka-go/issues/921
    """
    if error is not None:
        return str(error.str())
    return UNCERTAIN if message.offset() is None else ""


def refused_for_good(error: Any) -> bool:
    """Whether Kafka refuses a message for what it is: sent again, it would be refused again."""
    from confluent_kafka import KafkaError

    # https://kafka.apache.org/protocol.html#protocol_error_codes
    return error.code() in {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG}


def consumer_config(settings: Settings, group: str) -> ClientConfig:
    """A consumer that commits by hand, from the earliest offset when it is new."""
    usual: ClientConfig = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 5 << 20,
        # A killed consumer's partitions wait for its session to end; the client's default is 45 s.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 3_000,
    }
    return usual | client_config(settings)
