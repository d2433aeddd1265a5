"""What every sink's command does: settings, topics, signals, metrics, one line when ready, an exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from typing import Protocol

from confluent_kafka.admin import AdminClient
from deploytrail_schemas import logs
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import ensure_topics

from deploytrail_sinks import metrics


class Sink(Protocol):
    """One consumer that runs until it is stopped."""

    @property
    def ready(self) -> bool:
        """Whether it takes messages now."""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Consume until `stop`."""

    def stop(self) -> None:
        """Let `run` end; called from a signal handler."""


def serve(name: str, argv: list[str], make: Callable[[Settings], Sink]) -> int:
    """Run a sink until SIGTERM or Ctrl-C; exit code 0 after a clean stop."""
    argparse.ArgumentParser(prog=f"deploytrail sink {name}").parse_args(argv)
    logs.configure(logging.WARNING)

    def say(text: str) -> None:
        sys.stderr.write(f"deploytrail sink {name}: {redact_text(text)}\n")
        sys.stderr.flush()

    try:
        settings = Settings.load()
        ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings)
        sink = make(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sink.stop())
        metrics.serve(settings.metrics_port, lambda: sink.ready)
        sink.run(on_ready=lambda: say("ready"))
    except DeploytrailError as error:
        say(str(error))
        return exit_code_of(error)
    return 0
