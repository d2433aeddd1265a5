"""Rows in changelogs are Faust's own, byte for byte, though they go another way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from deploytrail_processors.apps import base
from deploytrail_processors.apps.base import LiveContext
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.safe_app import SafeApp
from deploytrail_processors.tables import LARGEST_ROW, RowTooLarge, Table
from deploytrail_schemas.codec import encode
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import MESSAGE_BYTES
from support.values import event

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

    def row(self, changelog: str, partition: int, key: bytes, value: bytes | None, _: Any) -> None:
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


def test_a_row_that_no_changelog_takes_is_refused_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    table = table_of(rows, monkeypatch)
    table["grown"] = "x" * (LARGEST_ROW - 2)

    with pytest.raises(RowTooLarge, match=f"a row of {LARGEST_ROW + 1} bytes; at most {LARGEST_ROW} are kept"):
        table["grown"] = "x" * (LARGEST_ROW - 1)
    assert len(rows.written) == 1
    assert table["grown"] == "x" * (LARGEST_ROW - 2)
    # With its key and headers, and as incompressible as it may be.
    assert LARGEST_ROW + (32 << 10) < MESSAGE_BYTES


@pytest.mark.requirement("M3.4")
def test_a_record_whose_row_would_be_too_large_is_set_aside_and_the_stream_goes_on() -> None:
    class Grows:
        def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
            if value["service"] == "grown":
                raise RowTooLarge("deployments: a row of 2000000 bytes; at most 1048576 are kept")
            taken.append(value["service"])

        def on_tick(self, partition: int, now: int) -> None: ...
        def on_recovered(self) -> None: ...

    class Letters(Rows):
        muted = False

        def dead_letter(self, origin: tuple[str, int, int], *more: Any) -> None:
            letters.append((origin, *more[-2:]))

    taken: list[str] = []
    letters: list[tuple[Any, ...]] = []
    forwarder = cast(Forwarder, Letters())
    context = LiveContext("lifecycle", Settings(kafka="127.0.0.1:1"), cast(SafeApp, None), forwarder)
    for offset, service in enumerate(("shop", "grown", "cart")):
        value = encode(RecordType.DEPLOYMENT_EVENT, event("started", service=service))
        message = SimpleNamespace(
            topic="deploytrail.events", partition=1, offset=offset, key=b"k", value=value, headers=[]
        )
        base._handle(context, cast(Any, Grows()), message)

    assert taken == ["shop", "cart"]
    assert letters == [
        (
            ("deploytrail.events", 1, 1),
            DeadLetterReason.TOO_LARGE,
            "lifecycle: deployments: a row of 2000000 bytes; at most 1048576 are kept",
        )
    ]
