"""Sinks: ClickHouse, the archive, on-call."""
