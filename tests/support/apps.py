"""A processor's handler in the product's context in memory: what it writes is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from deploytrail_processors.apps.base import Context, Handler, MemoryContext
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

PARTITION = 1


class Handled:
    """A handler that is told of records and ticks of one partition; its policies hold from the beginning of time."""

    def __init__(
        self, make: Callable[[Context], Handler], policies: Iterable[dict[str, Any]] = (), partition: int = PARTITION
    ) -> None:
        read = [read_document(document) for document in policies]
        assert [problem for document in read for problem in document.problems] == []
        self._partition = partition
        self._kept: list[dict[str, Any]] = []
        self._context = MemoryContext("test", Settings(), PolicySet().with_documents(read), self._keep)
        self._context.keep_time()
        self.handler = make(self._context)

    def _keep(self, _: Topic, partition: int, __: str, kind: RecordType, value: dict[str, Any]) -> None:
        assert partition == self._partition
        self._kept.append(decode(encode(kind, value))[1])  # as it reads after the wire

    def tell(self, *records: dict[str, Any]) -> Handled:
        """Records, known by their ids, and `{"tick": µs}`, in this order."""
        for record in records:
            kind = RecordType.TICK if "tick" in record else _kind(record)
            value = {"at": record["tick"]} if "tick" in record else record
            self.handle(kind, value)
        return self

    def handle(self, kind: RecordType, value: dict[str, Any]) -> None:
        """A record of the trail, ticks included."""
        self._context.handle(self.handler, self._partition, kind, value)

    @property
    def tables(self) -> Mapping[str, MutableMapping[str, Any]]:
        """What is kept, by table."""
        return self._context.tables

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Findings in the order of their first writing, each once."""
        return list({f["finding_id"]: f for f in self._kept if "finding_id" in f}.values())

    @property
    def standing(self) -> list[dict[str, Any]]:
        """Findings that none other supersedes."""
        replaced = {f["supersedes"] for f in self.findings}
        return [f for f in self.findings if f["finding_id"] not in replaced]

    @property
    def written(self) -> list[dict[str, Any]]:
        """Everything that went out, repetitions too."""
        return self._kept


def tick(at: int) -> dict[str, Any]:
    """Partition time comes to `at`."""
    return {"tick": at}


def _kind(record: dict[str, Any]) -> RecordType:
    if "event_id" in record:
        return RecordType.DEPLOYMENT_EVENT
    if "approval_id" in record:
        return RecordType.APPROVAL
    return RecordType.SIGNAL if "signal_id" in record else RecordType.OBSERVATION
