"""Inserts into ClickHouse: one range, one table, one token; errors named after what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.batches import DEAD_LETTER_COLUMNS, Range, Row, dead_letter_row
from deploytrail_sinks.clickhouse.container import container, layout
from deploytrail_sinks.clickhouse.tables import BY_KIND

# Error codes that say something of the rows, and not of the server's day:
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_OF_THE_DATA = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 469, 691, 1001})
_INSERT_SETTINGS = {
    # Off: the file's own schema counts, not the table's.
    "use_structure_from_insertion_table_in_table_functions": 0,
    # On by default: an acknowledgement would then come before the rows are stored.
    "async_insert": 0,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}


T = TypeVar("T")


class RowsRefused(DeploytrailError):
    """ClickHouse read the rows and will not have one of them: find it."""


class Writer:
    """Writes ranges; safe in threads, with a client for each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()

    def client(self) -> Client:
        """This thread's client; RetryLater while ClickHouse does not answer."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._attempt(lambda: connect(self._settings))
            self._local.client = client
        return client

    def insert(self, part: Range, kind: RecordType, version: int, rows: list[Row]) -> None:
        """Insert the rows of one kind and writer version of a range."""
        table, shape = BY_KIND[kind].name, layout(kind, version)
        body = container(shape, part.partition, ((r.offset, r.timestamp, r.value or b"") for r in rows))
        self._insert(table, list(shape.columns), body, part.token(table, version), len(rows))

    def insert_dead_letters(self, part: Range) -> None:
        """Insert a range of the dead-letters topic."""
        rows = [dead_letter_row(row) for row in part.rows]
        for row in rows:
            row[2] = datetime.fromtimestamp(row[2] / 1000, UTC)
        table = f"{self._settings.clickhouse_database}.dead_letters"
        settings = _INSERT_SETTINGS | {"insert_deduplication_token": part.token("dead_letters")}
        self._attempt(lambda: self.client().insert(table, rows, DEAD_LETTER_COLUMNS, settings=settings))

    def _insert(self, table: str, columns: list[str], body: bytes, token: str, count: int) -> None:
        name = f"{self._settings.clickhouse_database}.{table}"
        settings = _INSERT_SETTINGS | {"insert_deduplication_token": token}
        summary = self._attempt(
            lambda: self.client().raw_insert(name, columns, insert_block=body, fmt="Avro", settings=settings)
        )
        # Views add their own rows to the count; fewer than were sent means a file that was misread.
        if summary.written_rows < count:
            raise RowsRefused(f"{table}: {count} rows were sent, {summary.written_rows} were written")

    def _attempt(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            if code in _OF_THE_DATA:
                raise RowsRefused(str(error)) from error
            self._local.client = None
            raise RetryLater(f"ClickHouse at {self._settings.clickhouse_url}: {error}") from error
        except OSError as error:
            self._local.client = None
            raise RetryLater(f"ClickHouse at {self._settings.clickhouse_url}: {error}") from error


def connect(settings: Settings) -> Client:
    """A client of the settings' ClickHouse."""
    from urllib.parse import urlsplit

    url = urlsplit(settings.clickhouse_url)
    return clickhouse_connect.get_client(
        interface=url.scheme or "http",
        host=url.hostname or "127.0.0.1",
        port=url.port or (8443 if url.scheme == "https" else 8123),
        username=settings.clickhouse_user,
        password=settings.clickhouse_password,
        autogenerate_session_id=False,  # threads that share a session fail
        compress=False,
        connect_timeout=5,
        send_receive_timeout=60,
    )
