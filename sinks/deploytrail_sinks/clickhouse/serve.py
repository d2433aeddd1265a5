"""`deploytrail sink clickhouse`."""

from __future__ import annotations

import time

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.sink import ClickHouseSink
from deploytrail_sinks.clickhouse.writer import Writer
from deploytrail_sinks.serving import serve


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    return serve("clickhouse", argv, _make)


def _make(settings: Settings) -> ClickHouseSink:
    _migrate(settings)
    return ClickHouseSink(settings)


def _migrate(settings: Settings, patience: float = 60.0) -> None:
    """Bring the tables up to date, waiting a while for a ClickHouse that is starting too."""
    writer = Writer(settings)
    deadline = time.monotonic() + patience
    while True:
        try:
            migrate(writer.client(), settings.clickhouse_database)
            return
        except RetryLater:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
