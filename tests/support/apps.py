"""A processor's handler without Kafka: its tables are dicts, what it writes is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from deploytrail_processors.apps.base import Context, Handler
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_processors.safe_app import SafeApp
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

PARTITION = 1


class Tables:
    """Stands for the Faust app: makes tables."""

    def Table(self, name: str, **_: Any) -> dict[str, Any]:  # Faust's name
        return {}


class Kept:
    """Stands for the forwarder: keeps what goes out, as it reads after the wire."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        assert partition == PARTITION
        self.values.append(decode(encode(kind, value))[1])


class Applied:
    """Stands for the policy reader: policies that hold from the beginning of time."""

    def __init__(self, documents: Iterable[dict[str, Any]]) -> None:
        read = [read_document(document) for document in documents]
        assert [problem for document in read for problem in document.problems] == []
        self.policies = PolicySet().with_documents(read)


class Handled:
    """A handler that is told of records and ticks of one partition."""

    def __init__(self, make: Callable[[Context], Handler], policies: Iterable[dict[str, Any]] = ()) -> None:
        self._kept = Kept()
        self._context = Context("test", Settings(), cast(SafeApp, Tables()), cast(Forwarder, self._kept))
        self._context.keep_time()
        self._context.reader = cast(PolicyReader, Applied(policies))
        self.handler = make(self._context)

    def tell(self, *records: dict[str, Any]) -> Handled:
        """Records, known by their ids, and `{"tick": µs}`, in this order."""
        for record in records:
            if "tick" in record:
                if self._context.advance(PARTITION, record["tick"]):
                    self.handler.on_tick(PARTITION, record["tick"])
            else:
                self.handler.on_record(PARTITION, _kind(record), record)
        return self

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Findings in the order of their first writing, each once."""
        return list({f["finding_id"]: f for f in self._kept.values}.values())

    @property
    def standing(self) -> list[dict[str, Any]]:
        """Findings that none other supersedes."""
        replaced = {f["supersedes"] for f in self.findings}
        return [f for f in self.findings if f["finding_id"] not in replaced]

    @property
    def written(self) -> list[dict[str, Any]]:
        """Everything that went out, repetitions too."""
        return self._kept.values


def tick(at: int) -> dict[str, Any]:
    """Partition time comes to `at`."""
    return {"tick": at}


def _kind(record: dict[str, Any]) -> RecordType:
    if "event_id" in record:
        return RecordType.DEPLOYMENT_EVENT
    return RecordType.SIGNAL if "signal_id" in record else RecordType.OBSERVATION
