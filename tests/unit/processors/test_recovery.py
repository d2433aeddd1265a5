"""Tables that are read back are those of the committed offset, whatever was written behind it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import faust.streams
import pytest
from deploytrail_processors import safe_app
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.recovery import CUT_WITHIN_SECONDS
from deploytrail_processors.safe_app import SafeApp, SafeConsumer
from deploytrail_processors.tables import SPARED_SECONDS, Progress, Table
from deploytrail_schemas import headers
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

SOURCE = "source"
GONE = None


class Changelog:
    """What a table has written, as it comes back."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def row(self, topic: str, partition: int, key: bytes, value: bytes | None, said: Any) -> None:
        """Take a row."""
        assert topic.startswith("app-")
        self.add(partition, json.loads(key), None if value is None else json.loads(value), dict(said or []))

    def add(self, partition: int, key: str, value: Any, said: dict[str, bytes], at: float = 0.0) -> None:
        """A row that was written at a time, seconds."""
        message = SimpleNamespace(
            partition=partition,
            offset=len(self.rows),
            headers=tuple(said.items()),
            timestamp=at or time.time(),
            value=None if value is None else b"some",
        )
        self.rows.append(SimpleNamespace(key=key, value=value, message=message))

    def left(self) -> list[tuple[str, Any, bytes]]:
        """Keys, rows and what they are of."""
        return [(row.key, row.value, dict(row.message.headers)[headers.ROW_OF]) for row in self.rows]


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def table(changelog: Changelog) -> Table:
    app = SafeApp("app", forwarder=cast(Forwarder, changelog), follows=SOURCE, store="memory://")
    made = app.Table("seen", partitions=4, key_type=str, value_type=None)
    assert isinstance(made, Table)
    return made


@pytest.fixture
def on(table: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes rows on the record of an offset, as a stream does."""
    monkeypatch.setattr(table, "_verify_source_topic_partitions", lambda _: None)

    def write(offset: int, partition: int = 0, topic: str = SOURCE, **rows: Any) -> None:
        event: Any = SimpleNamespace(message=SimpleNamespace(topic=topic, partition=partition, offset=offset))
        monkeypatch.setattr("faust.tables.base.current_event", lambda: event)
        monkeypatch.setattr("deploytrail_processors.tables.current_event", lambda: event)
        for name, row in rows.items():
            if row is GONE:
                del table[name]
            else:
                table[name] = row

    assert faust.streams.current_event() is None
    yield write


def read_back(table: Table, changelog: Changelog, cut: int | None, partition: int = 0) -> dict[str, Any]:
    """What a worker that takes over finds, row by row."""
    table.forget({partition})
    table.cuts = {} if cut is None else {partition: cut}
    for row in list(changelog.rows):
        if row.message.partition == partition:
            table.apply_changelog_batch([row])
    if cut is not None:
        table.settle(partition, stay=False)
    return {key: table.data[key] for key, of in table._partitions.items() if of == partition}


@pytest.mark.requirement("M8.4")
def test_rows_are_those_of_the_committed_offset(table: Table, changelog: Changelog, on: Callable[..., None]) -> None:
    on(3, a=1, b=1)
    on(4, a=2)
    on(5, a=3, c=1)
    on(6, b=GONE)

    assert read_back(table, changelog, 5) == {"a": 2, "b": 1}
    assert read_back(table, changelog, 4) == {"a": 1, "b": 1}
    assert read_back(table, changelog, 0) == {}


def test_where_nothing_was_committed_rows_are_as_they_were_written(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    on(3, a=1, b=1)
    on(9, a=2, b=GONE)

    assert read_back(table, changelog, None) == {"a": 2}


def test_what_comes_again_is_written_again_and_counts_once_it_is_committed(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    on(3, a=["3"])
    on(4, a=["3", "4"])  # and then it was killed

    assert read_back(table, changelog, 4) == {"a": ["3"]}
    on(4, a=[*table["a"], "4"])
    on(5, a=[*table["a"], "5"])

    assert read_back(table, changelog, 6) == {"a": ["3", "4", "5"]}
    assert read_back(table, changelog, 5) == {"a": ["3", "4"]}


def test_a_row_that_was_left_out_is_overwritten_so_that_compaction_cannot_take_what_stands(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    on(3, a=1, b=1)
    on(4, a=2, b=GONE, c=1)
    read_back(table, changelog, 4)

    assert sorted(changelog.left()[5:]) == [("a", 1, b"=3"), ("b", 1, b"=3"), ("c", None, b"=3")]

    newest = {row.key: row for row in changelog.rows}
    changelog.rows = list(newest.values())  # as compaction leaves it
    assert read_back(table, changelog, 4) == {"a": 1, "b": 1}
    assert len(changelog.rows) == 3  # there is nothing to overwrite any more


def test_rows_that_are_ahead_for_longer_than_compaction_spares_stay_in_all_tables(
    table: Table, changelog: Changelog, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has set the offsets back, or it was down for long: what stood before these rows may be gone."""
    app = table.app
    other = app.Table("other", partitions=4, key_type=str, value_type=None)
    assert isinstance(other, Table)
    recovery = cast(Any, app.tables).recovery
    now = time.time()
    changelog.add(0, "a", 1, {headers.ROW_OF: b"3"}, at=now - 2 * SPARED_SECONDS)
    changelog.add(0, "a", 2, {headers.ROW_OF: b"7"}, at=now - CUT_WITHIN_SECONDS - 1)
    changelog.add(0, "b", 1, {headers.ROW_OF: b"8"}, at=now)
    fresh, changelog.rows = changelog.rows[2:], changelog.rows[:2]
    table.cuts = other.cuts = {0: 7}
    table.apply_changelog_batch(changelog.rows)
    other.apply_changelog_batch(fresh)

    recovery._settle(0, 7)

    assert (table.data["a"], other.data["b"]) == (2, 1)
    assert "rows of partition 0 were ahead of the committed offset 7 for too long; they stay" in caplog.text


def test_a_worker_that_cannot_get_on_leaves_nothing_ahead_for_long(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    """Each start writes the same rows again, and each is settled at the next one."""
    long_ago = time.time() - 3 * SPARED_SECONDS
    changelog.add(0, "a", 1, {headers.ROW_OF: b"9"}, at=long_ago)
    changelog.add(0, "a", 2, {headers.ROW_OF: b"10"}, at=long_ago)
    changelog.add(0, "a", 1, {headers.ROW_OF: b"=9"}, at=long_ago + 60)

    assert table.ahead_since(0) is None
    on(10, a=2)
    began = changelog.rows[-1].message.timestamp
    table.forget({0})
    table.cuts = {0: 10}
    table.apply_changelog_batch(changelog.rows)
    assert table.ahead_since(0) == began


@pytest.mark.requirement("M8.4")
def test_rows_of_a_worker_that_had_lost_the_partition_do_not_count(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    on(3, a=1, b=1)
    on(9, a=2)  # by whoever has it now
    on(4, a="late", b="late", c="late")  # by one that was paused, and wakes

    assert read_back(table, changelog, 10) == {"a": 2, "b": "late", "c": "late"}
    assert changelog.left()[6:] == [("a", 2, b"=9")]
    assert read_back(table, changelog, 10)["a"] == 2
    assert len(changelog.rows) == 7  # settled


def test_rows_of_another_topic_and_of_before_rows_said_so_are_never_ahead(
    table: Table, changelog: Changelog, on: Callable[..., None]
) -> None:
    changelog.add(0, "old", 1, {})
    on(99, topic="another", other=1)
    on(7, ahead=1)

    assert read_back(table, changelog, 7) == {"old": 1, "other": 1}


def test_the_rows_of_other_partitions_stay(table: Table, changelog: Changelog, on: Callable[..., None]) -> None:
    on(3, partition=0, a=1)
    on(3, partition=1, b=1)
    on(8, partition=1, c=1)

    assert read_back(table, changelog, 3, partition=0) == {}
    assert dict(table.data.items()) == {"b": 1, "c": 1}


def test_rows_in_memory_are_read_again_unless_they_are_those_of_the_committed_offset() -> None:
    progress = Progress(SOURCE, at={0: 5})

    assert progress.is_at(0, 5)
    assert not progress.is_at(0, 6)  # another worker has had it meanwhile
    assert not progress.is_at(0, None)
    assert not progress.is_at(1, 5)  # it was another worker's
    progress.written[0] = 4
    assert progress.is_at(0, 5)
    progress.written[0] = 5  # a record was handled whose offset is not committed
    assert not progress.is_at(0, 5)


def test_a_stream_begins_where_its_tables_are_also_if_a_commit_came_late_or_nothing_is_committed(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = {TP(SOURCE, 0): 12, TP(SOURCE, 1): 7, TP(SOURCE, 2): None, TP(SOURCE, 3): 5, TP(SOURCE, 4): 0}
    sought: dict[TP, int] = {}

    class Consumer(SafeConsumer):
        def __init__(self) -> None:
            self.app = table.app
            self._read_offset = {}
            self._committed_offset = {}

        async def seek_wait(self, partitions: Any) -> None:
            sought.update(partitions)

    async def seek(consumer: Any) -> None:
        consumer._read_offset.update(committed)
        consumer._committed_offset.update(committed)

    monkeypatch.setattr(driver.Consumer, "perform_seek", seek)
    cast(Any, table.app.tables).recovery.cuts = {0: 10, 1: 7, 2: 0, 3: 0, 4: 0}
    consumer = Consumer()
    loop = asyncio.new_event_loop()  # the thread's own stays as it is: Faust asks for it
    loop.run_until_complete(consumer.perform_seek())
    loop.close()

    begins = dict.fromkeys((TP(SOURCE, number) for number in (2, 3, 4)), None)
    assert sought == {TP(SOURCE, 0): 10, **dict.fromkeys(begins, 0)}
    assert consumer._read_offset == {**committed, TP(SOURCE, 0): 10, **begins} == consumer._committed_offset


@pytest.mark.parametrize(
    ("committed", "begin", "cut"), [(None, 0, 0), (None, 5, None), (9, 0, 9), (9, 5, 9), (9, 20, 20), (0, 0, 0)]
)
def test_a_stream_goes_on_where_it_was_committed_and_the_trail_still_is(
    committed: int | None, begin: int, cut: int | None
) -> None:
    assert safe_app._goes_on(committed, begin) == cut
