"""`deploytrail sink clickhouse`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time

from confluent_kafka.admin import AdminClient
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import ensure_topics

from deploytrail_sinks import metrics
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.sink import ClickHouseSink
from deploytrail_sinks.clickhouse.writer import Writer

EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C; exit code 0 after a clean stop."""
    argparse.ArgumentParser(prog="deploytrail sink clickhouse", description=__doc__).parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.load()
        ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings)
        _migrate(settings)
        sink = ClickHouseSink(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sink.stop())
        metrics.serve(settings.metrics_port, lambda: sink.ready)
        sink.run(on_ready=lambda: print("deploytrail sink clickhouse: ready", file=sys.stderr, flush=True))
    except DeploytrailError as error:
        print(f"deploytrail sink clickhouse: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    return 0


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
