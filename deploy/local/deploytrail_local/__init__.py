"""The embedded stack: Kafka from its jars, ClickHouse as a library, every app supervised."""
