"""What a handler works with: tables, policies, partition time and a way out; on Kafka, or in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from deploytrail_schemas import headers
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors import metrics
from deploytrail_processors.rules.policies import Policies, PolicySet
from deploytrail_processors.state_formats import REVISIONS, state_format

if TYPE_CHECKING:
    from deploytrail_processors.forwarder import Forwarder
    from deploytrail_processors.policy_reader import PolicyReader
    from deploytrail_processors.safe_app import SafeApp

Row = dict[str, Any]


class Handler(Protocol):
    """One app's decisions."""

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        """A record of the trail; ticks go to `on_tick`."""

    def on_tick(self, partition: int, now: int) -> None:
        """Partition time has come to `now` (microseconds)."""

    def on_recovered(self) -> None:
        """The tables were read anew: what was derived from them must be too."""


class Context(ABC):
    """What a handler works with, wherever it runs."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.tables: dict[str, MutableMapping[str, Any]] = {}
        self._times: MutableMapping[str, Any] = {}

    def table(self, name: str) -> MutableMapping[str, Any]:
        """A table of JSON rows; keys begin with `row_key`, since a worker holds several partitions."""
        self.tables[name] = self._make_table(name)
        return self.tables[name]

    @abstractmethod
    def policies_at(self, when: int) -> Policies:
        """The policies in force at an instant."""

    @abstractmethod
    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        """Write a record to the partition that its cause was read from."""

    @abstractmethod
    def _make_table(self, name: str) -> MutableMapping[str, Any]: ...

    def keep_time(self) -> None:
        """Keep partition times in a table, for an app that reads ticks."""
        self._times = self.table("times")

    def partition_time(self, partition: int) -> int:
        """The newest tick of a partition; 0 before the first."""
        return int(self._times.get(str(partition), 0))

    def advance(self, partition: int, now: int) -> bool:
        """Take a tick; False for one that is not newer."""
        if now <= self.partition_time(partition):
            return False
        self._times[str(partition)] = now
        return True

    def handle(self, handler: Handler, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        """Tell a handler of one record of the trail, or that its time has come on."""
        if kind is not RecordType.TICK:
            handler.on_record(partition, kind, value)
        elif self.advance(partition, value["at"]):
            handler.on_tick(partition, value["at"])

    @property
    def first_revision(self) -> int:
        """The number of the first revision that a state of this format gives a deployment."""
        return (state_format(self.name) - 1) * REVISIONS + 1


class LiveContext(Context):
    """A context on Kafka: tables of Faust, outputs of the worker's producer."""

    def __init__(self, name: str, settings: Settings, app: SafeApp, forwarder: Forwarder) -> None:
        super().__init__(name, settings)
        self.app = app
        self.forwarder = forwarder
        self.reader: PolicyReader | None = None
        self.read: dict[int, int] = {}  # offset of the last record that was handled, by partition
        self.answered: dict[int, int] = {}  # offsets before which an app of an earlier state format has answered
        self._cause: bytes | None = None

    def policies_at(self, when: int) -> Policies:
        return self.reader.policies.at(when) if self.reader else Policies()

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        # Which trail record it follows from, so that a replay up to some offset knows what to compare with.
        said: list[tuple[str, str | bytes | None]] = [(headers.CAUSE, self._cause)] if self._cause else []
        self.forwarder.forward(topic, partition, key, kind, value, said)

    @contextmanager
    def at(self, partition: int, offset: int) -> Iterator[None]:
        """While one message is handled: outputs name it, and are kept back where it was answered before."""
        self._cause = b"%b:%d:%d" % (self.name.encode(), partition, offset)
        self.forwarder.muted = offset < self.answered.get(partition, 0)
        try:
            yield
        finally:
            self._cause, self.forwarder.muted = None, False

    def advance(self, partition: int, now: int) -> bool:
        newer = super().advance(partition, now)
        if newer:
            metrics.PARTITION_TIME.labels(self.name, str(partition)).set(now / 1e6)
        return newer

    def _make_table(self, name: str) -> MutableMapping[str, Any]:
        table: MutableMapping[str, Any] = self.app.Table(
            name, partitions=self.settings.partitions, key_type=str, value_type=None
        )
        return table


class MemoryContext(Context):
    """A context without Kafka: tables are dicts, and `take` gets what would be written.

    For replays and for tests: a fresh state, whose outputs go nowhere else.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        policies: PolicySet,
        take: Callable[[Topic, int, str, RecordType, dict[str, Any]], None],
    ) -> None:
        super().__init__(name, settings)
        self.policies = policies
        self._take = take

    def policies_at(self, when: int) -> Policies:
        return self.policies.at(when)

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        self._take(topic, partition, key, kind, value)

    def _make_table(self, name: str) -> MutableMapping[str, Any]:
        return self.tables.get(name, {})


def row_key(partition: int, name: str) -> str:
    """The table key of something in a partition."""
    return f"{partition}/{name}"


def rows_of(table: MutableMapping[str, Any], partition: int) -> Iterator[tuple[str, Any]]:
    """The rows of one partition."""
    prefix = f"{partition}/"
    return ((key, row) for key, row in list(table.items()) if key.startswith(prefix))
