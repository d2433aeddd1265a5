"""`deploytrail sink archive`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from confluent_kafka.admin import AdminClient
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import ensure_topics

from deploytrail_sinks import metrics
from deploytrail_sinks.archive.sink import ArchiveSink

EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C; exit code 0 after a clean stop."""
    argparse.ArgumentParser(prog="deploytrail sink archive", description=__doc__).parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.load()
        ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings)
        sink = ArchiveSink(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sink.stop())
        metrics.serve(settings.metrics_port, lambda: sink.ready)
        sink.run(on_ready=lambda: print("deploytrail sink archive: ready", file=sys.stderr, flush=True))
    except DeploytrailError as error:
        print(f"deploytrail sink archive: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    return 0
