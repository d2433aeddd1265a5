"""Tables and containers follow the schemas."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, versions
from deploytrail_sinks.clickhouse.batches import Range, Row, dead_letter_row, offenders, sort
from deploytrail_sinks.clickhouse.container import container, layout, varint
from deploytrail_sinks.clickhouse.migrate import migrations
from deploytrail_sinks.clickhouse.tables import TABLES, column_type, ddl, quote
from hypothesis import given
from hypothesis import strategies as st
from support.values import NOON, event


def row(offset: int, value: bytes | None, **more: Any) -> Row:
    return Row("deploytrail.events", 1, offset, 1_793_620_800_000, b"key", value, more.get("headers", ()))


def test_the_first_migration_is_what_the_schemas_say() -> None:
    assert migrations()[0].text == ";\n\n".join(ddl("{database}")) + ";\n"


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [m.number for m in migrations()]

    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_later_versions_of_a_schema_bring_is_added_by_a_migration(table: Any) -> None:
    first, *_ = versions(table.kind).values()
    said = {field["name"] for field in first["fields"]}
    later = [field for field in fields(table.kind) if field["name"] not in said]
    added = "\n".join(m.text for m in migrations() if f"ALTER TABLE {{database}}.{table.name} " in m.text)

    for field in later:
        column = f"ADD COLUMN IF NOT EXISTS `{field['name']}` {column_type(field)} COMMENT {quote(field['doc'])}"

        assert column in added


def test_every_column_has_a_comment() -> None:
    for statement in ddl("d"):
        columns = [line for line in statement.splitlines() if line.startswith("    `")]

        assert len(columns) > 10
        assert all(" COMMENT '" in line for line in columns)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_are_the_position_and_every_field(table: Any) -> None:
    expected = ["kafka_partition", "kafka_offset", "kafka_timestamp"] + [f["name"] for f in fields(table.kind)]

    assert list(layout(table.kind, max(versions(table.kind))).columns) == expected


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varint_is_avros_long(number: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)

    assert varint(number) == out.getvalue()


def test_a_container_holds_each_message_behind_its_position() -> None:
    values = [event("started", NOON + i, tags={"a": "ü"}) for i in range(3)]
    messages = [(100 + i, 1_793_620_800_000 + i, encode(RecordType.DEPLOYMENT_EVENT, v)) for i, v in enumerate(values)]
    found = list(fastavro.reader(io.BytesIO(container(layout(RecordType.DEPLOYMENT_EVENT, 1), 7, messages))))

    assert [(r["kafka_partition"], r["kafka_offset"]) for r in found] == [(7, 100), (7, 101), (7, 102)]
    assert [r["event_id"] for r in found] == [v["event_id"] for v in values]
    assert [r["tags"] for r in found] == [{"a": "ü"}] * 3


def test_rows_are_sorted_by_kind_and_ticks_and_what_regions_are_told_of_others_have_no_table() -> None:
    started = encode(RecordType.DEPLOYMENT_EVENT, event("started"))
    told = encode(RecordType.GLOBAL_CHANGE, event("started", region="global"))
    tick = encode(RecordType.TICK, {"at": NOON})
    found = sort([row(1, started), row(2, tick), row(3, b"{}"), row(4, started), row(5, told)])

    assert {key: [r.offset for r in rows] for key, rows in found.inserts.items()} == {
        (RecordType.DEPLOYMENT_EVENT, 1): [1, 4]
    }
    assert [(r.offset, e.reason) for r, e in found.unreadable] == [(3, "unknown_wire_format")]


def test_offenders_are_found_by_decoding() -> None:
    sound = encode(RecordType.DEPLOYMENT_EVENT, event("started"))

    assert [r.offset for r, _ in offenders([row(1, sound), row(2, sound[:-1]), row(3, sound)])] == [2]


def test_a_token_names_the_exact_range() -> None:
    part = Range("deploytrail.events", 3, (row(10, b""), row(11, b"")))

    assert part.token("signals", 1) == "signals/1/deploytrail.events/3/10-12"


def test_a_dead_letter_says_where_from_and_why() -> None:
    headers = (
        ("mine", b"\xff"),
        ("dt-reason", b"malformed"),
        ("dt-detail", b"cut off"),
        ("dt-origin", b"deploytrail.intake:4:77"),
    )

    assert dead_letter_row(row(5, b"\xc3", headers=headers)) == [
        *(1, 5, 1_793_620_800_000, "malformed", "cut off", "deploytrail.intake", 4, 77, b"key", b"\xc3"),
        {"mine": "\\xff"},
    ]
