"""What every app over the trail shares: a repaired Faust app, its tables, its outputs, partition time.

A handler is told of each record and of each tick of a partition. Whatever it writes follows from
its state, so that a redelivery after a crash writes it again. A handler that raises sends the
record to the dead letters; the stream goes on.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Protocol

import faust
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from faust.exceptions import FaustError

from deploytrail_processors import metrics
from deploytrail_processors.forwarder import DeliveryFailed, Forwarder
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.safe_app import SafeApp

log = logging.getLogger(__name__)
Row = dict[str, Any]
# Of what is due at one tick, so much is done at once; the rest waits for the next record.
SLICE = 500


class Handler(Protocol):
    """One app's decisions."""

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        """A record of the trail; ticks go to `on_tick`."""

    def on_tick(self, partition: int, now: int) -> None:
        """Partition time has come to `now` (microseconds)."""

    def on_recovered(self) -> None:
        """The tables were read anew: what was derived from them must be too."""


class Context:
    """What a handler works with."""

    def __init__(self, name: str, settings: Settings, app: SafeApp, forwarder: Forwarder) -> None:
        self.name = name
        self.settings = settings
        self.app = app
        self.forwarder = forwarder
        self.reader: PolicyReader | None = None
        self.read: dict[int, int] = {}  # offset of the last record that was handled, by partition
        self._times: MutableMapping[str, Any] = {}

    def keep_time(self) -> None:
        """Keep partition times in a table, for an app that reads ticks."""
        self._times = self.table("times")

    def table(self, name: str) -> MutableMapping[str, Any]:
        """A table of JSON rows; keys begin with `row_key`, since a worker holds several partitions."""
        table: MutableMapping[str, Any] = self.app.Table(
            name, partitions=self.settings.partitions, key_type=str, value_type=None
        )
        return table

    def policies_at(self, when: int) -> Policies:
        """The policies in force at an instant."""
        return self.reader.policies.at(when) if self.reader else Policies()

    def partition_time(self, partition: int) -> int:
        """The newest tick of a partition; 0 before the first."""
        return int(self._times.get(str(partition), 0))

    def advance(self, partition: int, now: int) -> bool:
        """Take a tick; False for one that is not newer."""
        if now <= self.partition_time(partition):
            return False
        self._times[str(partition)] = now
        metrics.PARTITION_TIME.labels(self.name, str(partition)).set(now / 1e6)
        return True

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        """Write a record to the partition that its cause was read from."""
        self.forwarder.forward(topic, partition, key, kind, value)


def row_key(partition: int, name: str) -> str:
    """The table key of something in a partition."""
    return f"{partition}/{name}"


def rows_of(table: MutableMapping[str, Any], partition: int) -> Iterator[tuple[str, Any]]:
    """The rows of one partition."""
    prefix = f"{partition}/"
    return ((key, row) for key, row in list(table.items()) if key.startswith(prefix))


class Agenda:
    """When rows of a table are due, by partition; rebuilt from the table when it was recovered.

    A row has one note however often it is written: one that became due later is noted again when
    its old time comes.
    """

    def __init__(self, table: MutableMapping[str, Any], due: Callable[[Any], int | None]) -> None:
        self._table, self._due = table, due
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._noted: dict[int, dict[str, int]] = {}

    def forget(self) -> None:
        """Rebuild from the table at the next use."""
        self._heaps.clear()
        self._noted.clear()

    def put(self, partition: int, key: str, row: Any) -> None:
        """A row was written: note when it is due."""
        self._heap(partition)
        self._note(partition, key, self._due(row))

    def pop(self, partition: int, now: int) -> Iterator[tuple[str, Any]]:
        """Rows that are due at `now`, in order of their due time, at most a slice."""
        heap = self._heap(partition)
        noted = self._noted[partition]
        for _ in range(SLICE):
            if not heap or heap[0][0] > now:
                return
            at, key = heapq.heappop(heap)
            if noted.get(key) != at:
                continue  # noted again for an earlier time
            del noted[key]
            row = self._table.get(key)
            due = self._due(row) if row is not None else None
            if due is not None and due > now:
                self._note(partition, key, due)
            elif due is not None:
                yield key, row

    def pop_all(self, partition: int, now: int) -> Iterator[tuple[str, Any]]:
        """Every row that is due at `now`, each once, also those that fall due while others are handled."""
        seen: set[str] = set()
        while batch := [(key, row) for key, row in self.pop(partition, now) if key not in seen]:
            seen.update(key for key, _ in batch)
            yield from batch

    def _note(self, partition: int, key: str, at: int | None) -> None:
        noted = self._noted[partition]
        if at is not None and at < noted.get(key, at + 1):
            noted[key] = at
            heapq.heappush(self._heaps[partition], (at, key))

    def _heap(self, partition: int) -> list[tuple[int, str]]:
        if partition not in self._heaps:
            self._heaps[partition], self._noted[partition] = [], {}
            for key, row in rows_of(self._table, partition):
                self._note(partition, key, self._due(row))
        return self._heaps[partition]


def make_app(name: str, settings: Settings, **options: Any) -> tuple[SafeApp, Forwarder]:
    """A Faust app of one processor, and its outputs. Its consumer group and tables bear its name.

    `options`: more settings of Faust.
    """
    datadir = Path(settings.state) / name
    datadir.mkdir(parents=True, exist_ok=True)
    app = SafeApp(
        f"deploytrail-{name}",
        broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
        store="memory://",
        datadir=str(datadir),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_request_timeout=30.0,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=5 << 20,
        web_enabled=False,  # one server for all apps of the process: see the command
        worker_redirect_stdouts=False,
        **options,
    )
    forwarder = Forwarder(settings)
    app.barrier = forwarder.barrier
    return app, forwarder


def over_trail(name: str, settings: Settings, make_handler: Callable[[Context], Handler], **options: Any) -> SafeApp:
    """The app of a handler over the trail. `options`: more settings of Faust."""
    app, forwarder = make_app(name, settings, **options)
    context = Context(name, settings, app, forwarder)
    context.keep_time()
    handler = make_handler(context)
    trail = app.topic(
        Topic.EVENTS.value, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    follow_policies(app, context)
    for table in list(app.tables.values()):
        table.on_recover(_recovered(handler))

    @app.agent(trail, name=name)
    async def over(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in stream.events():
            try:
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


def follow_policies(app: SafeApp, context: Context) -> None:
    """Read every policy before the app joins its group, and follow them while it runs."""

    async def read() -> None:
        reader = PolicyReader(context.settings)
        await app.loop.run_in_executor(None, reader.read_to_end)
        reader.follow()
        context.reader = reader

    app.before_start = read


def _recovered(handler: Handler) -> Callable[[], Any]:
    async def recovered() -> None:
        handler.on_recovered()

    return recovered


def _handle(context: Context, handler: Handler, message: Any) -> None:
    try:
        kind, value = decode(message.value)
        if kind is RecordType.TICK:
            if context.advance(message.partition, value["at"]):
                handler.on_tick(message.partition, value["at"])
        else:
            handler.on_record(message.partition, kind, value)
            metrics.PROCESSED.labels(context.name).inc()
    except DecodeError as error:
        set_aside(context.name, context.forwarder, message, error.reason, error.detail)
    except (DeliveryFailed, FaustError):
        raise  # no fault of this record: stop, commit nothing, start again
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
