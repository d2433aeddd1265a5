"""What every app over the trail shares: a repaired Faust app, its tables, its outputs, partition time.

A handler is told of each record and of each tick of a partition. Whatever it writes follows from
its state, so that a redelivery after a crash writes it again. A handler that raises sends the
record to the dead letters; the stream goes on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import faust
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from faust.exceptions import FaustError

from deploytrail_processors import metrics
from deploytrail_processors.apps.agenda import SLICE, Agenda
from deploytrail_processors.apps.context import Context, Handler, LiveContext, MemoryContext, Row, row_key, rows_of
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.forwarder import USUAL, DeliveryFailed, Forwarder, Linger
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.safe_app import SafeApp
from deploytrail_processors.state_formats import Predecessor, group_of, state_format
from deploytrail_processors.tables import RowTooLarge

__all__ = [
    "SLICE",
    "Agenda",
    "Context",
    "Handler",
    "LiveContext",
    "MemoryContext",
    "ProcessorApp",
    "Row",
    "make_app",
    "over_trail",
    "prepare",
    "raw_topic",
    "row_key",
    "rows_of",
    "set_aside",
    "tables_are_ready",
]
log = logging.getLogger(__name__)


class ProcessorApp(SafeApp):
    """The Faust app of one processor."""

    context: LiveContext
    source: Topic
    # Makes the processor's handler in another context, such as one in memory; None where it has none over the trail.
    make_handler: Callable[[Any], Handler] | None = None

    async def on_start(self) -> None:
        """Make the data folder, which Faust expects with all its parents."""
        Path(self.conf.datadir).mkdir(parents=True, exist_ok=True)
        await super().on_start()


def make_app(name: str, settings: Settings, source: Topic, *, linger: Linger = USUAL, **options: Any) -> ProcessorApp:
    """A Faust app of one processor that reads `source`, and its context. Its consumer group and tables bear its name.

    `linger`: see `Forwarder`. `options`: more settings of Faust.
    """
    forwarder = Forwarder(settings, linger)
    app = ProcessorApp(
        group_of(name, 1),
        forwarder=forwarder,
        follows=source.value,
        version=state_format(name),
        broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
        store="memory://",
        datadir=str(Path(settings.state, name).absolute()),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=5 << 20,
        web_enabled=False,  # one server for all apps of the process: see the command
        worker_redirect_stdouts=False,
        **options,
    )
    app.source = source
    app.context = LiveContext(name, settings, app, forwarder)
    return app


def over_trail(
    name: str, settings: Settings, make_handler: Callable[[LiveContext], Handler], **options: Any
) -> ProcessorApp:
    """The app of a handler over the trail. `options`: of `make_app`."""
    app = make_app(name, settings, Topic.EVENTS, **options)
    app.make_handler = make_handler
    context = app.context
    context.keep_time()
    handler = make_handler(context)
    trail = raw_topic(app, Topic.EVENTS)
    prepare(app)
    for table in list(app.tables.values()):
        table.on_recover(_recovered(handler))

    @app.agent(trail, name=name)
    async def over(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in events_of(stream):
            try:
                with context.at(event.message.partition, event.message.offset):
                    _handle(context, handler, event.message)
                context.read[event.message.partition] = event.message.offset
            except (DeliveryFailed, FaustError) as error:
                context.forwarder.give_up(str(error))
                await app.crash(error)
                raise
        yield

    return app


def raw_topic(app: SafeApp, topic: Topic) -> Any:
    """A topic whose bytes reach the agent undecoded: what Faust cannot decode, it skips."""
    return app.topic(topic.value, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def tables_are_ready(app: SafeApp) -> bool:
    """Whether every table was read back from its changelog."""
    return bool(app.tables.actives_ready)


def prepare(app: ProcessorApp) -> None:
    """Before the app joins its group: read every policy, and learn what an app of an earlier format has answered."""
    context = app.context
    predecessor = Predecessor(context.settings, context.name, app.source)

    async def before() -> None:
        def read() -> PolicyReader:
            if app.source is Topic.INTAKE:
                predecessor.wait_until_gone(lambda: app.should_stop)
            context.answered = predecessor.answered()
            reader = PolicyReader(context.settings)
            reader.read_to_end()
            return reader

        context.reader = await app.loop.run_in_executor(None, read)
        context.reader.follow()

    app.before_start = before


def _recovered(handler: Handler) -> Callable[[], Any]:
    async def recovered() -> None:
        handler.on_recovered()

    return recovered


def _handle(context: LiveContext, handler: Handler, message: Any) -> None:
    try:
        kind, value = decode(message.value)
        context.handle(handler, message.partition, kind, value)
        if kind is not RecordType.TICK:
            metrics.PROCESSED.labels(context.name).inc()
    except DecodeError as error:
        set_aside(context.name, context.forwarder, message, error.reason, error.detail)
    except (DeliveryFailed, FaustError):
        raise  # no fault of this record: stop, commit nothing, start again
    except RowTooLarge as error:  # what it is about grew beyond what can be kept: it goes on without this record
        log.error("%s kept nothing of %s:%s:%s: %s",
                  context.name, message.topic, message.partition, message.offset, error)  # fmt: skip
        set_aside(context.name, context.forwarder, message, DeadLetterReason.TOO_LARGE, f"{context.name}: {error}")
    except Exception as error:  # a defect of a rule must not skip the record unseen, nor stop the stream
        log.exception("%s failed on %s:%s:%s", context.name, message.topic, message.partition, message.offset)
        set_aside(context.name, context.forwarder, message, DeadLetterReason.RULE_FAILED, f"{context.name}: {error!r}")


def set_aside(name: str, forwarder: Forwarder, message: Any, reason: DeadLetterReason, detail: str) -> None:
    """Send a Faust message to the dead letters as it came, but for its secrets."""
    metrics.DEAD_LETTERS.labels(name, reason.value).inc()
    headers = [(key, value) for key, value in message.headers or ()]
    forwarder.dead_letter(
        (message.topic, message.partition, message.offset), message.key, message.value, headers, reason, detail
    )
