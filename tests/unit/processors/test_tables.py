"""Rows in changelogs are Faust's own, byte for byte, though they go another way."""

from __future__ import annotations

from typing import Any, cast

import pytest
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.safe_app import SafeApp
from deploytrail_processors.tables import Table

VALUES: list[Any] = [
    None,
    True,
    -1,
    2**63,
    0.1,
    "",
    "naïve ✓ \u2028 \x00",
    [],
    [1, None, ["two"]],
    (1, "two"),
    {},
    {"b": {"": [0]}, "a": "é"},
]


class Rows:
    """Keeps what it is told to write."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int, bytes, bytes | None]] = []

    def row(self, changelog: str, partition: int, key: bytes, value: bytes | None) -> None:
        self.written.append((changelog, partition, key, value))


def table_of(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Table:
    app = SafeApp("app", forwarder=cast(Forwarder, rows), store="memory://")
    table = app.Table("seen", partitions=4, key_type=str, value_type=None)
    assert isinstance(table, Table)
    monkeypatch.setattr(table, "partition_for_key", lambda _: 2)
    return table


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_row_has_the_bytes_that_faust_would_write(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    table = table_of(rows, monkeypatch)
    key = 'a/ключ "quoted"'
    table[key] = value

    stock: Any = table.changelog_topic.as_future_message(
        key=key, value=value, partition=2, key_serializer="json", value_serializer="json"
    ).message
    assert rows.written == [("app-seen-changelog", 2, stock.key, stock.value)]
    assert table[key] == value


def test_a_row_that_goes_leaves_a_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    table = table_of(rows, monkeypatch)
    table["gone"] = 1
    del table["gone"]

    assert rows.written[1] == ("app-seen-changelog", 2, b'"gone"', None)
    assert "gone" not in table


def test_a_row_cannot_change_outside_of_a_stream() -> None:
    app = SafeApp("app", forwarder=cast(Forwarder, Rows()), store="memory://")
    table = app.Table("seen", partitions=4, key_type=str, value_type=None)

    with pytest.raises(TypeError, match="outside of stream"):
        table["row"] = 1
    assert "row" not in table
