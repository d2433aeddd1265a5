"""`deploytrail sink on-call`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time

from confluent_kafka.admin import AdminClient
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import ensure_topics

from deploytrail_sinks import metrics
from deploytrail_sinks.on_call.senders import sender_for
from deploytrail_sinks.on_call.sink import OnCallSink

EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_CONFIGURATION = 78  # EX_CONFIG


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C; exit code 0 after a clean stop."""
    argparse.ArgumentParser(prog="deploytrail sink on-call", description=__doc__).parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.load()
        sender = sender_for(settings.oncall_url)
        ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings)
        sink = OnCallSink(settings, sender, lambda: time.time_ns() // 1000)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sink.stop())
        metrics.serve(settings.metrics_port, lambda: sink.ready)
        sink.run(on_ready=lambda: _say("ready"))
    except ConfigurationError as error:
        _say(str(error))
        return EXIT_CONFIGURATION
    except DeploytrailError as error:
        _say(str(error))
        return EXIT_UNAVAILABLE
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"deploytrail sink on-call: {text}\n")
    sys.stderr.flush()
