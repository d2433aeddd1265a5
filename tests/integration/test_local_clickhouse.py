"""The ClickHouse engine behind HTTP, as clickhouse-connect and others use it."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import clickhouse_connect
import fastavro
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from support.clickhouse import ClickHouseProcess


def connect(url: str) -> Client:
    return clickhouse_connect.get_client(dsn=url.replace("http://", "clickhouse://"), autogenerate_session_id=False)


@pytest.fixture
def client(clickhouse: str) -> Iterator[Client]:
    client = connect(clickhouse)
    client.command("CREATE DATABASE IF NOT EXISTS t")
    yield client
    client.close()


def test_rows_come_back_as_they_went_in(client: Client) -> None:
    columns = "a Int64, b String, c DateTime64(6, 'UTC')"
    client.command(f"CREATE OR REPLACE TABLE t.rows ({columns}) ENGINE MergeTree ORDER BY a")
    noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
    naive = noon.replace(tzinfo=None)  # how the client gives columns in UTC
    client.insert("t.rows", [[1, "ü'\\\n", noon], [2, "", noon]], column_names=["a", "b", "c"])

    assert client.query("SELECT * FROM t.rows ORDER BY a").result_rows == [(1, "ü'\\\n", naive), (2, "", naive)]


def test_avro_is_passed_through(client: Client) -> None:
    client.command("CREATE OR REPLACE TABLE t.avro (a Int64, b String) ENGINE MergeTree ORDER BY a")
    out = BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}
    fastavro.writer(out, schema, [{"a": i, "b": str(i)} for i in range(1000)])
    summary = client.raw_insert("t.avro", ["a", "b"], insert_block=out.getvalue(), fmt="Avro")

    assert summary.written_rows == 1000
    assert client.command("SELECT sum(a), max(b) FROM t.avro") == ["499500", "999"]


def test_an_error_has_its_code(client: Client) -> None:
    with pytest.raises(DatabaseError, match=r"(?s)60.*UNKNOWN_TABLE"):
        client.query("SELECT * FROM t.nothing_of_this_name")


def test_an_insert_that_breaks_a_constraint_is_reported(client: Client) -> None:
    client.command("CREATE OR REPLACE TABLE t.checked (a Int64, CONSTRAINT c CHECK a > 0) ENGINE MergeTree ORDER BY a")
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.raw_insert("t.checked", ["a"], insert_block=b"1\n-1\n", fmt="TSV")

    assert client.command("SELECT count() FROM t.checked") == 0


def test_settings_and_parameters_stay_in_their_request(client: Client) -> None:
    first = client.query(
        "SELECT getSetting('max_threads'), {x:String}", parameters={"x": "it's"}, settings={"max_threads": 1}
    )
    second = client.query("SELECT getSetting('max_threads') = 1")

    assert first.result_rows == [(1, "it's")]
    assert second.result_rows[0][0] == 0


def test_a_readonly_request_cannot_write(client: Client) -> None:
    with pytest.raises(DatabaseError, match="READONLY"):
        client.command("CREATE TABLE t.never (a Int8) ENGINE Memory", settings={"readonly": 1})


def test_a_get_request_cannot_write(clickhouse: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{clickhouse}/?query=CREATE%20DATABASE%20by_link")

    assert caught.value.headers["X-ClickHouse-Exception-Code"] == "164"
    with urllib.request.urlopen(f"{clickhouse}/?query=SELECT%201") as answer:
        assert answer.read() == b"1\n"


def test_clients_work_side_by_side(clickhouse: str) -> None:
    client = connect(clickhouse)
    sums: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: sums.append(client.command(f"SELECT sum(number) FROM numbers({n})")))
        for n in range(1, 21)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert sorted(map(int, sums)) == [n * (n - 1) // 2 for n in range(1, 21)]  # type: ignore[arg-type, call-overload]


def test_the_asynchronous_client_works_too(clickhouse: str) -> None:
    async def ask() -> object:
        client = await clickhouse_connect.get_async_client(
            dsn=clickhouse.replace("http://", "clickhouse://"), autogenerate_session_id=False
        )
        try:
            return (await client.query("SELECT 6 * 7")).result_rows
        finally:
            await client.close()

    assert asyncio.run(ask()) == [(42,)]


def test_grafanas_first_question_is_answered(clickhouse: str) -> None:
    question = b"SELECT displayName(), version(), revision(), timezone()"
    with urllib.request.urlopen(
        f"{clickhouse}/?default_format=Native&client_protocol_version=54460", question
    ) as answer:
        data = answer.read()

    assert b"displayName()" in data
    assert b"deploytrail" in data


def test_a_query_ends_when_its_client_goes(clickhouse: str, client: Client) -> None:
    slow = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    connection = urllib.request.Request(f"{clickhouse}/", slow.encode())
    with pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(connection, timeout=0.5)
    deadline = time.monotonic() + 60
    running = (
        "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number) = 1' AND query NOT LIKE '%system%'"
    )
    while client.command(running) != 0:
        assert time.monotonic() < deadline, "the query went on"
        time.sleep(0.1)


def test_an_unknown_setting_is_refused(clickhouse: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{clickhouse}/?no_such_setting=1", b"SELECT 1")

    assert caught.value.headers["X-ClickHouse-Exception-Code"] == "115"


def test_kill_9_loses_no_acknowledged_row(tmp_path: Path) -> None:
    with ClickHouseProcess(tmp_path) as server:
        client = connect(server.url)
        client.command("CREATE DATABASE t")
        client.command("CREATE TABLE t.rows (a Int64) ENGINE MergeTree ORDER BY a")
        for i in range(5):
            client.raw_insert("t.rows", ["a"], insert_block=f"{i}\n".encode(), fmt="TSV")
        server.kill()
        server.start()

        assert connect(server.url).command("SELECT count(), sum(a) FROM t.rows") == ["5", "10"]
        assert server.stop() == 0


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with ClickHouseProcess(tmp_path) as first:
        second = ClickHouseProcess(tmp_path)
        with pytest.raises(AssertionError, match="in use by another ClickHouse"):
            second.start()

        assert connect(first.url).command("SELECT 1") == 1
