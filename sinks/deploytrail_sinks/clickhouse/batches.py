"""What a batch of Kafka messages becomes: inserts by table and writer schema, and what cannot be one."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deploytrail_schemas.codec import DecodeError, Writer, decode, learn, writer_of
from deploytrail_schemas.headers import DETAIL, ORIGIN, REASON
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType

from deploytrail_sinks.clickhouse.tables import BY_KIND

log = logging.getLogger(__name__)
DEAD_LETTER_COLUMNS = (
    *("kafka_partition", "kafka_offset", "kafka_timestamp", "reason", "detail"),
    *("origin_topic", "origin_partition", "origin_offset", "key", "value", "headers"),
)
_OURS = frozenset({REASON, DETAIL, ORIGIN})


class Row(NamedTuple):
    """One Kafka message, as far as a sink needs it.

    A tuple, since many wait at once: it is made in half the time of a frozen dataclass, and the garbage collector
    stops looking at it.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive messages of one partition, as they are re-sent after a crash."""

    topic: str
    partition: int
    rows: tuple[Row, ...]
    begin: int | None = None  # as it was announced; Kafka may have compacted the first messages away since
    attempt: str = ""  # of what is stored whether or not the same range was stored before

    @property
    def first(self) -> int:
        """Offset of the first message, also where it is no longer there."""
        return self.rows[0].offset if self.begin is None else self.begin

    @property
    def end(self) -> int:
        """Offset behind the last message."""
        return self.rows[-1].offset + 1

    def token(self, table: str, version: int = 0) -> str:
        """The name by which ClickHouse knows this insert when it comes again."""
        again = f"/{self.attempt}" if self.attempt else ""
        return f"{table}/{version}/{self.topic}/{self.partition}/{self.first}-{self.end}{again}"


@dataclass(slots=True)
class Sorted:
    """A range by destination."""

    inserts: dict[tuple[RecordType, int], list[Row]] = field(default_factory=dict)
    unreadable: list[tuple[Row, DecodeError]] = field(default_factory=list)


def sort(rows: Iterable[Row]) -> Sorted:
    """Rows by kind and writer version; ticks and global changes have no table. Bodies are not decoded."""
    found = Sorted()
    for row in rows:
        try:
            writer = _writer(row.value)
        except DecodeError as error:
            found.unreadable.append((row, error))
            continue
        if writer.kind in BY_KIND:
            found.inserts.setdefault((writer.kind, writer.version), []).append(row)
    return found


def _writer(value: bytes | None) -> Writer:
    try:
        return writer_of(value)
    except DecodeError as error:
        # A writer that is newer than this process may have had its schema laid beside it since.
        if error.reason is DeadLetterReason.UNKNOWN_SCHEMA and _learned():
            return writer_of(value)
        raise


def _learned() -> bool:
    try:
        return learn()
    except (OSError, ValueError) as error:  # half written
        log.warning("a new schema cannot be read yet: %s", error)
        return False


def offenders(rows: Iterable[Row]) -> list[tuple[Row, DecodeError]]:
    """Rows that cannot be decoded, found by decoding each one whole."""
    found = []
    for row in rows:
        try:
            decode(row.value)
        except DecodeError as error:
            found.append((row, error))
    return found


def dead_letter_row(row: Row) -> list[Any]:
    """The row of a dead letter, columns as in DEAD_LETTER_COLUMNS."""
    given = {name: _text(value) for name, value in row.headers}
    topic, _, place = given.get(ORIGIN, "").partition(":")
    partition, _, offset = place.partition(":")
    return [
        row.partition,
        row.offset,
        row.timestamp,
        given.get(REASON, ""),
        given.get(DETAIL, ""),
        topic,
        int(partition) if partition.isdecimal() else -1,
        int(offset) if offset.isdecimal() else -1,
        row.key or b"",
        row.value or b"",
        {name: text for name, text in given.items() if name not in _OURS},
    ]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "backslashreplace")
