"""Tables that hold no Avro records: every value at the edge of what a column can show is written and read back."""

from __future__ import annotations

import itertools
import math
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.headers import DETAIL, ORIGIN, REASON
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.batches import Range, Row
from deploytrail_sinks.clickhouse.federated_rows import COLUMNS as FEDERATED
from deploytrail_sinks.clickhouse.grants_command import COLUMNS as GRANTS
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.policy_rows import COLUMNS as POLICIES
from deploytrail_sinks.clickhouse.purge import COLUMNS as PURGES
from deploytrail_sinks.clickhouse.writer import Writer

TEXTS = ["", "plain", "ünïcode ☃ 𝄞", 'it\'s \\ "quoted"\n\t\0', "x" * 70_000]
FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, 23, 59, 59, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXTREMES: dict[str, list[Any]] = {
    "String": TEXTS,
    "Int32": [0, -(1 << 31), (1 << 31) - 1],
    "Int64": [0, -(1 << 63), (1 << 63) - 1],
    "UInt64": [0, (1 << 64) - 1],
    "Float64": [0.0, -0.0, -1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
    "Bool": [False, True],
    "DateTime64(3, 'UTC')": [EPOCH, FIRST, LAST, EPOCH - timedelta(milliseconds=1), EPOCH.replace(microsecond=123_000)],
    "DateTime64(6, 'UTC')": [EPOCH, FIRST, LAST, EPOCH - timedelta(microseconds=1), EPOCH.replace(microsecond=123_456)],
    "Array(String)": [[], [""], TEXTS],
    "Map(String, String)": [{}, {"": ""}, {"k": "v", "ü☃": "𝄞'\\"}],
}
# Of those with equal keys the newest is kept: each row has a key of its own, but where the key is what is varied.
KEYS = {"policies": ["name"], "federated_current": ["deployment_id"], "grants": [], "purges": []}


@pytest.fixture(scope="module")
def writer(clickhouse: str) -> Iterator[Writer]:
    database = f"extremes_{uuid.uuid4().hex[:8]}"
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database}
    made = Writer(Settings.load(env))
    migrate(made.client(), database)
    yield made
    made.client().command(f"DROP DATABASE {database}")


def database(writer: Writer) -> str:
    return writer._settings.clickhouse_database


def extremes(client: Client, name: str, table: str) -> dict[str, list[Any]]:
    """Column → its values; a column may be null, and LowCardinality is no other value."""
    asked = "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String}"
    found = {}
    for column, declared in client.query(asked, parameters={"d": name, "t": table}).result_rows:
        plain = re.sub(r"LowCardinality\(String\)", "String", declared)
        inner = re.fullmatch(r"Nullable\((.*)\)", plain)
        found[column] = [None, *EXTREMES[inner[1]]] if inner else EXTREMES[plain]
    return found


def told(value: Any) -> str:
    """A value as text, which tells 0.0 from -0.0, and a number that is none from others."""
    return repr(value.replace(tzinfo=None) if isinstance(value, datetime) else value)


@pytest.mark.requirement("M3.4")
@pytest.mark.parametrize(
    ("table", "columns"),
    [("policies", POLICIES), ("federated_current", FEDERATED), ("grants", GRANTS), ("purges", PURGES)],
)
def test_every_extreme_of_every_column_comes_back(table: str, columns: tuple[str, ...], writer: Writer) -> None:
    client, name = writer.client(), database(writer)
    values = extremes(client, name, table)
    base = {column: values[column][0] for column in columns}
    names = (f"row {number}" for number in itertools.count())
    written = [
        base | {key: next(names) for key in KEYS[table]} | {column: value}
        for column in columns
        for value in values[column]
    ]
    lists = [[row[column] for column in columns] for row in written]
    part = Range(table, 0, (Row(table, 0, 0, 0, None, b"", ()),))
    if table == "policies":
        writer.insert_policies(part, lists)
    elif table == "federated_current":
        writer.insert_federated(part, lists)
    else:
        client.insert(f"{name}.{table}", lists, list(columns))
    found = client.query(f"SELECT {', '.join(columns)} FROM {name}.{table}").result_rows

    assert set(values) == set(columns)
    assert sorted([told(cell) for cell in row] for row in found) == sorted(
        [told(cell) for cell in row] for row in lists
    )


@pytest.mark.requirement("M3.4", "M7.4")
def test_every_extreme_of_a_dead_letter_comes_back(writer: Writer) -> None:
    """Bytes are whatever came; a time outside of the years that we know is the nearest in them."""
    bytes_of = [None, b"", bytes(range(256)), "ünïcode ☃ 𝄞".encode(), b"\xff\xfe" * 35_000]
    origin = (ORIGIN, f"{Topic.EVENTS.value}:{(1 << 31) - 1}:{(1 << 63) - 1}".encode())
    said: list[tuple[tuple[str, bytes | None], ...]] = [
        *(((REASON, reason.value.encode()), origin) for reason in DeadLetterReason),
        *(((DETAIL, text.encode()), origin) for text in TEXTS),
        (),
        ((ORIGIN, b"no place"),),
        (("a", None), ("b", b"\xff"), ("ü", "☃".encode()), ("", b"")),
    ]
    times = [-(1 << 62), -1, 0, 1, 1_793_620_800_123, 1 << 62]
    rows = [Row(Topic.DEAD_LETTERS.value, 3, n, 1, key, value, ()) for n, (key, value) in
            enumerate((k, v) for k in bytes_of for v in bytes_of)]  # fmt: skip
    rows += [Row(Topic.DEAD_LETTERS.value, 3, 100 + n, 1, b"", b"", headers) for n, headers in enumerate(said)]
    rows += [Row(Topic.DEAD_LETTERS.value, 3, 200 + n, at, b"", b"", ()) for n, at in enumerate(times)]
    writer.insert_dead_letters(Range(Topic.DEAD_LETTERS.value, 3, tuple(rows)))
    found = {
        row["kafka_offset"]: row
        for row in writer.client()
        .query(f"SELECT * REPLACE (hex(key) AS key, hex(value) AS value) FROM {database(writer)}.dead_letters")
        .named_results()
    }
    reasons = list(DeadLetterReason)
    first = 100 + len(reasons)
    texts, rest = first, first + len(TEXTS)

    assert len(found) == len(rows)
    for row in rows[: len(bytes_of) ** 2]:
        back = found[row.offset]
        assert (bytes.fromhex(back["key"]), bytes.fromhex(back["value"])) == (row.key or b"", row.value or b"")
    assert [found[100 + n]["reason"] for n in range(len(reasons))] == [reason.value for reason in reasons]
    assert [found[texts + n]["detail"] for n in range(len(TEXTS))] == TEXTS
    place = ("origin_topic", "origin_partition", "origin_offset")
    assert tuple(found[100][name] for name in place) == (Topic.EVENTS.value, (1 << 31) - 1, (1 << 63) - 1)
    assert tuple(found[rest][name] for name in place) == ("", -1, -1)
    assert tuple(found[rest + 1][name] for name in place) == ("no place", -1, -1)
    assert found[rest + 2]["headers"] == {"a": "", "b": "\\xff", "ü": "☃", "": ""}
    shown = [found[200 + n]["kafka_timestamp"].replace(tzinfo=UTC) for n in range(len(times))]
    assert shown[:4] == [EPOCH.replace(year=2000)] * 4
    assert shown[4] == EPOCH + timedelta(milliseconds=times[4])
    assert shown[5] == EPOCH.replace(year=2100)
