"""Tables of Faust whose rows go to their changelogs the way in which outputs go to their topics.

Faust sends each row by itself through aiokafka, which was half of what an app cost and much of what the broker did.

A row names the record that it was written on. So a table that is read back leaves out what lies behind the committed
offset (`recovery`): the records from there on come again, and meet the state that they met the first time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import faust
from deploytrail_schemas import headers
from deploytrail_schemas.errors import DeploytrailError
from faust.streams import current_event

from deploytrail_processors.forwarder import Forwarder

log = logging.getLogger(__name__)
Headers = list[tuple[str, str | bytes | None]]

# Byte for byte what Faust's own codec writes: a key in other bytes would be another row to compaction.
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode

# Bytes of JSON: what a changelog takes (`deploytrail_schemas.topics`) also where nothing of it can be compressed.
LARGEST_ROW = 1 << 20
# For so long compaction leaves every row in a changelog, also those that a later one replaces.
SPARED_SECONDS = 6 * 3600
# How a row begins to say what it is of where it overwrites rows that do not count, whatever those are of.
_STANDS = b"="


@dataclass
class Progress:
    """How far the rows in memory are. `topic`: whose offsets these are; empty: rows are read back as far as they were
    written. `at`: the offset before which everything is in them, where that is committed. `written`: the offset of the
    last record on which one was written. Both by partition."""

    topic: str = ""
    at: dict[int, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)

    def is_at(self, partition: int, cut: int | None) -> bool:
        """Whether the rows in memory are those of an offset."""
        return cut is not None and self.at.get(partition) == cut and self.written.get(partition, -1) < cut


class RowTooLarge(DeploytrailError):
    """A row that its changelog would refuse: set the record aside. The row is as it was before."""


class Table(faust.Table[str, Any]):
    """Keys are text, values are JSON. `Forwarder.barrier` waits for its rows; it must be changed in a stream.

    RowTooLarge before a row is changed to one of more than `LARGEST_ROW`: the broker would refuse it behind the scenes,
    nothing could be committed any more, and each start would come to the same record.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._progress: Progress = app.progress
        self.cuts: dict[int, int] = {}  # offsets from which on rows are left out when they are read back, by partition
        self._read: dict[int, _Read] = {}  # what reading them back has come upon, by partition

    @property
    def _forwarder(self) -> Forwarder:
        forwarder: Forwarder = self.app.forwarder  # type: ignore[attr-defined]  # a SafeApp has one
        return forwarder

    @cached_property
    def _changelog(self) -> str:
        return self.changelog_topic.get_topic_name()

    def on_key_set(self, key: str, value: Any) -> None:
        """A row is about to change."""
        row = _encode(value).encode()
        if len(row) > LARGEST_ROW:
            raise RowTooLarge(f"{self.name}: a row of {len(row)} bytes; at most {LARGEST_ROW} are kept")
        self._write(key, row)

    def on_key_del(self, key: str) -> None:
        """A row is about to go."""
        self._write(key, None)

    def _write(self, key: str, value: bytes | None) -> None:
        partition = self.partition_for_key(key)
        if partition is None:  # would be the hash's partition, which need not be this worker's
            raise TypeError(f"{self.name}: rows of this table follow the record they come from")
        self._forwarder.row(self._changelog, partition, _encode(key).encode(), value, self._cause(partition))
        if value is None:
            self._partitions.pop(key, None)
        else:
            self._partitions[key] = partition

    def _cause(self, partition: int) -> Headers | None:
        event = current_event()
        if event is None or event.message.topic != self._progress.topic:
            return None
        self._progress.written[partition] = event.message.offset
        return _of(event.message.offset)

    @property
    def _partitions(self) -> dict[str, int]:
        """The partition of each row in memory; of those that are written Faust does not keep it."""
        partitions: dict[str, int] = self.data._key_partition  # type: ignore[attr-defined]  # its store in memory has it
        return partitions

    def forget(self, partitions: Collection[int]) -> None:
        """Drop the rows of partitions from memory, which are to be read back from the changelog's begin."""
        rows = self.data.data
        for key in [key for key, of in self._partitions.items() if of in partitions]:
            rows.pop(key, None)
            del self._partitions[key]
        for partition in partitions:
            self._read.pop(partition, None)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Rows that are read back, in their order; without those that do not count."""
        super().apply_changelog_batch([event for event in batch if self._counts(event)])

    def _counts(self, event: Any) -> bool:
        message = event.message
        read, key = self._read.setdefault(message.partition, _Read()), self._to_key(event.key)
        cut, (of, stands) = self.cuts.get(message.partition), _cause_of(message.headers)
        if cut is not None and of is not None and of >= cut:
            read.ahead[key] = event
            read.since.setdefault(key, message.timestamp)
            return False
        if of is not None and not stands and of < read.of.get(key, -1):
            read.late.add(key)  # of a worker that had lost the partition, and went on for a moment
            return False
        read.ahead.pop(key, None)
        read.since.pop(key, None)
        read.late.discard(key)
        if of is not None:
            read.of[key] = of
        return True

    def ahead_since(self, partition: int) -> float | None:
        """When the first of the rows was written that are ahead of the committed offset; None: none is."""
        read = self._read.get(partition)
        return min(read.since.values(), default=None) if read else None

    def settle(self, partition: int, *, stay: bool) -> None:
        """All rows were read. Those that do not count are overwritten in the changelog by what stands.

        Else compaction could keep, of a row that was ahead and the one that stands, only the former. `stay`: what stood
        before the rows that are ahead may be gone already, so they count.
        """
        read = self._read.pop(partition, None)
        if read is None or not (read.ahead or read.late):
            return
        if stay:
            super().apply_changelog_batch(read.ahead.values())
        log.info("%s: %d rows of partition %d were ahead of the committed offset %d, %d of a worker that had lost it",
                 self.name, len(read.ahead), partition, self.cuts[partition], len(read.late))  # fmt: skip
        rows = self.data.data
        for key in read.ahead.keys() | read.late:
            value = _encode(rows[key]).encode() if key in rows else None
            cause = _of(self.cuts[partition] - 1, _STANDS)
            self._forwarder.row(self._changelog, partition, _encode(key).encode(), value, cause)


@dataclass
class _Read:
    """Rows of a partition that are read back. By key: the last one `ahead` of the committed offset, `since` when there
    are such, seconds, and of which offset (`of`) the one is that counts. `late`: whose last one does not count since an
    earlier one is of a later record."""

    ahead: dict[str, Any] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    of: dict[str, int] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)


def _of(offset: int, how: bytes = b"") -> Headers:
    return [(headers.ROW_OF, b"%b%d" % (how, offset))]


def _cause_of(given: Iterable[tuple[str, bytes]] | None) -> tuple[int | None, bool]:
    """The offset of the record that a row was written on, None where it does not say; whether it overwrites others."""
    for name, value in given or ():
        if name == headers.ROW_OF:
            return int(value.removeprefix(_STANDS)), value.startswith(_STANDS)
    return None, False
