"""`deploytrail processor NAME…`: any set of stream processors in one process, or a replay of them."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from deploytrail_schemas import logs
from deploytrail_schemas.arguments import did_you_mean, instant
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

log = logging.getLogger(__name__)
NAMES = (
    *("intake", "lifecycle", "change_window", "overdue", "correlation", "suppression", "rollback_verification"),
    *("approval", "gate", "governance", "impact", "reconciliation", "success_criteria"),
    "federation",
)


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C; the exit code of the process: 69 Kafka is away, 78 a setting is wrong."""
    parser = argparse.ArgumentParser(prog="deploytrail processor", description="Run stream processors.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--verbose", action="store_true", help="log what Faust does")
    _replay_arguments(parser)
    options = parser.parse_args(argv)
    names = list(dict.fromkeys(options.names))
    if unknown := [name for name in names if name not in NAMES]:
        meant = did_you_mean(unknown[0], NAMES)
        parser.error(f"there is no processor {', '.join(unknown)}; there are {', '.join(NAMES)}{meant}")
    if options.compare and not options.replay:
        parser.error("--compare says with what a replay is compared: give --replay, too")
    if not names and not options.replay:
        parser.error(f"which processors? Name some of {', '.join(NAMES)}")
    logs.configure(logging.INFO if options.verbose else logging.WARNING)
    try:
        settings = Settings.load()
        if options.replay:
            from deploytrail_processors.replay_command import NOT_REPLAYED, WrongWords, run_replay

            try:
                return run_replay(names or [name for name in NAMES if name not in NOT_REPLAYED], options, settings)
            except WrongWords as error:
                parser.error(str(error))
        return run(names, settings, verbose=options.verbose)
    except DeploytrailError as error:
        print(f"deploytrail processor: {redact_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a replay."""
    group = parser.add_argument_group("replay")
    group.add_argument("--replay", action="store_true", help="tell the trail to fresh state in memory; write nothing")
    group.add_argument(
        "--compare", action="store_true", help="with what stands on the topics; exit status 1: it differs"
    )
    group.add_argument("--partitions", metavar="N,…", help="of these partitions only")
    group.add_argument("--until", type=_offset_or_time, metavar="OFFSET|TIME",
                       help="up to an offset of one partition, or an RFC 3339 time; "
                       "without it as far as each app has come")  # fmt: skip
    group.add_argument("--policies", metavar="PATH", action="append", type=Path,
                       help="as if these files had been applied, in place of policies of the same name")  # fmt: skip
    group.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _offset_or_time(text: str) -> str:
    if not text.isdecimal():
        instant(text)
    return text


def run(names: list[str], settings: Settings, *, verbose: bool = False) -> int:
    """Run the named apps in this process."""
    wait_for_topics(settings)
    # Faust takes over the process: its imports wait until a processor really runs.
    os.environ.setdefault("FAUST_LOOP", "aio")
    import faust

    from deploytrail_processors.bounded_stop import BoundedStop
    from deploytrail_processors.serving import Serving

    bounded = BoundedStop()
    apps = [importlib.import_module(f"deploytrail_processors.apps.{name}").make(settings) for name in names]
    make_changelogs(apps, settings)
    serve = Serving(names, apps, settings)

    class Worker(faust.Worker):
        async def on_first_start(self) -> None:
            await super().on_first_start()
            self.add_future(serve.run())

        async def on_start(self) -> None:
            await super().on_start()
            # Beside each other: as Faust starts them, each waits until the one before it has joined its group and read
            # its tables; and that takes seconds on a Kafka that lets a new group wait for members.
            try:
                await asyncio.gather(*(app.maybe_start() for app in apps))
            except Exception:
                if not self.should_stop or self.crash_reason is not None:
                    raise  # else it is of a start that a stop has cut short

        def install_signal_handlers(self) -> None:
            super().install_signal_handlers()
            bounded.on_signals()

        async def stop(self) -> None:
            bounded.begin()  # also where an app has crashed
            await super().stop()

    # Tables are many small objects that stay: collections look at all of them, and a stream waits meanwhile.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
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
    from deploytrail_schemas.topics import TopicSpec, configure_topics, create_topics

    from deploytrail_processors.tables import SPARED_SECONDS

    # By the broker's clock is judged how old a row is, by compaction and by whoever reads rows back.
    spared = {"min.compaction.lag.ms": str(SPARED_SECONDS * 1000), "message.timestamp.type": "LogAppendTime"}
    spec = TopicSpec(settings.partitions, {"cleanup.policy": "compact", "segment.ms": str(6 * 3_600_000)} | spared)
    names = [table.changelog_topic.get_topic_name() for app in apps for table in app.tables.values()]
    admin = AdminClient(client_config(settings) | {"log_level": 0})
    made = create_topics(admin, settings, dict.fromkeys(names, spec))
    try:
        configure_topics(admin, {name: spared for name in names if name not in made})
    except RetryLater as error:  # perhaps it is an administrator's to do
        log.warning("%s; set %s on it", error, ", ".join(f"{name}={value}" for name, value in spared.items()))
