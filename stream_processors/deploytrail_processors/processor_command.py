"""`deploytrail processor NAME…`: any set of apps in one process."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
from typing import Any

from deploytrail_schemas import logs
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

NAMES = (
    *("intake", "lifecycle", "change_window", "overdue", "correlation", "suppression", "rollback_verification"),
    *("approval", "gate", "governance", "impact", "reconciliation", "success_criteria"),
)
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="deploytrail processor", description="Run stream processors.")
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--verbose", action="store_true", help="log what Faust does")
    options = parser.parse_args(argv)
    logs.configure(logging.INFO if options.verbose else logging.WARNING)
    try:
        settings = Settings.load()
        return run(list(dict.fromkeys(options.names)), settings, verbose=options.verbose)
    except DeploytrailError as error:
        print(f"deploytrail processor: {redact_text(str(error))}", file=sys.stderr)
        return EXIT_UNAVAILABLE


def run(names: list[str], settings: Settings, *, verbose: bool = False) -> int:
    """Run the named apps in this process."""
    wait_for_topics(settings)
    # Faust takes over the process: its imports wait until a processor really runs.
    os.environ.setdefault("FAUST_LOOP", "aio")
    import faust

    apps = [importlib.import_module(f"deploytrail_processors.apps.{name}").make(settings) for name in names]
    make_changelogs(apps, settings)
    serve = Serving(names, apps, settings)

    class Worker(faust.Worker):
        async def on_first_start(self) -> None:
            await super().on_first_start()
            self.add_future(serve.run())

    settings.state.mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(
        *apps,
        loop=loop,
        loglevel="INFO" if verbose else "WARNING",
        redirect_stdouts=False,
        override_logging=False,
        quiet=True,
        workdir=str(settings.state),
    )
    worker.spinner = None  # it writes cursor codes into logs
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def wait_for_topics(settings: Settings) -> None:
    """Make the topics that are missing; RetryLater where Kafka does not answer."""
    from confluent_kafka.admin import AdminClient
    from deploytrail_schemas.kafka import client_config
    from deploytrail_schemas.topics import ensure_topics

    ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings)


def make_changelogs(apps: list[Any], settings: Settings) -> None:
    """Make the tables' changelog topics before any app joins.

    Faust makes them while it starts, and then takes a topic that it does not see yet for one
    without partitions.
    """
    from confluent_kafka.admin import AdminClient
    from deploytrail_schemas.kafka import client_config
    from deploytrail_schemas.topics import TopicSpec, create_topics

    spec = TopicSpec(settings.partitions, {"cleanup.policy": "compact", "segment.ms": str(6 * 3_600_000)})
    names = [table.changelog_topic.get_topic_name() for app in apps for table in app.tables.values()]
    create_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings, dict.fromkeys(names, spec))


class Serving:
    """Says when every app is ready, and serves /healthz, /readyz and /metrics where a port is set."""

    def __init__(self, names: list[str], apps: list[Any], settings: Settings) -> None:
        self._names, self._apps, self._settings = names, apps, settings

    def ready(self) -> bool:
        """Whether every app has joined, has its tables, and is not rebalancing."""
        return all(app.tables.actives_ready and not app.rebalancing and app.consumer.assignment() for app in self._apps)

    async def run(self) -> None:
        """Print one line when ready; keep serving."""
        if self._settings.metrics_port:
            await self._listen()
        while not self.ready():
            await asyncio.sleep(0.05)
        print(f"deploytrail processor: ready: {' '.join(self._names)}", file=sys.stderr, flush=True)

    async def _listen(self) -> None:
        from aiohttp import web
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            ready = self.ready()
            return web.Response(text="ready\n" if ready else "recovering\n", status=200 if ready else 503)

        server = web.Application()
        server.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._settings.metrics_port).start()
