"""Client settings for confluent_kafka that every room shares."""

from __future__ import annotations

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

ClientConfig = dict[str, str | int | float | bool]


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
