"""Inserts into ClickHouse: one range, one table, one token; errors named after what to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.instants import EARLIEST, LATEST, from_micros
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.batches import DEAD_LETTER_COLUMNS, Range, Row, dead_letter_row
from deploytrail_sinks.clickhouse.container import Layout, container, layout
from deploytrail_sinks.clickhouse.failures import Response, reason_of, response_to
from deploytrail_sinks.clickhouse.federated_rows import COLUMNS as FEDERATED_COLUMNS
from deploytrail_sinks.clickhouse.policy_rows import COLUMNS as POLICY_COLUMNS
from deploytrail_sinks.clickhouse.shards import DEFAULT, Shards, tables_suffix, urls
from deploytrail_sinks.clickhouse.tables import BY_KIND

log = logging.getLogger(__name__)
_INSERT_SETTINGS = {
    # Off: the file's own schema counts, not the table's.
    "use_structure_from_insertion_table_in_table_functions": 0,
    # On by default: an acknowledgement would then come before the rows are stored.
    "async_insert": 0,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}
# Questions join tables that are spread over shards, which is refused by default: ask each inner one once, of all.
_ON_CLUSTER = {"distributed_product_mode": "global"}
_LOOK_AGAIN_SECONDS = 30.0  # at the columns of a table that lacked some
_WHOLE_TABLE_SECONDS = 600  # a copy or a hash of a large table says nothing until it is done
_DEAD_LETTERS = "dead_letters"
_POLICIES = "policies"
_FEDERATED = "federated_current"

T = TypeVar("T")


class RowsRefused(DeploytrailError):
    """ClickHouse read the rows and will not have one of them: find it."""


class Writer:
    """Writes ranges; safe in threads, with a client for each thread and shard."""

    def __init__(self, settings: Settings, suffix: str = "") -> None:
        self._settings = settings
        self.shards = Shards.from_settings(settings)
        self._replica = [0] * len(self.shards.hosts)  # which one each shard is asked at
        self._suffix = suffix + tables_suffix(settings)  # behind the names of tables
        self._local = threading.local()
        self._known: dict[tuple[RecordType, int], tuple[tuple[str, ...], float]] = {}

    def client(self, shard: int = DEFAULT) -> Client:
        """This thread's client of a shard; RetryLater while none of its replicas answers."""
        clients: dict[int, tuple[str, Client]] = self._clients()
        url = self.url(shard)
        if shard not in clients or clients[shard][0] != url:
            clients[shard] = (url, self._attempt(shard, lambda: connect(self._settings, url)))
        return clients[shard][1]

    def url(self, shard: int) -> str:
        """The replica of a shard that is asked now."""
        replicas = self.shards.hosts[shard]
        return replicas[self._replica[shard] % len(replicas)]

    def insert(self, part: Range, kind: RecordType, version: int, rows: list[Row], shard: int = DEFAULT) -> None:
        """Insert the rows of one kind, writer version and shard of a range."""
        table, shape = BY_KIND[kind].name, layout(kind, version)
        body = container(shape, part.partition, ((r.offset, r.timestamp, r.value or b"") for r in rows))
        columns = self._columns(kind, version, shape, shard)
        self._insert(shard, table, columns, body, part.token(table, version), len(rows))

    def insert_dead_letters(self, part: Range) -> None:
        """Insert a range of the dead-letters topic."""
        rows = [dead_letter_row(row) for row in part.rows]
        for row in rows:
            # A producer's timestamp may be anything.
            row[2] = from_micros(min(max(row[2] * 1000, EARLIEST), LATEST))
        table = self._name(_DEAD_LETTERS)
        settings = _INSERT_SETTINGS | {"insert_deduplication_token": part.token(_DEAD_LETTERS)}
        self._attempt(DEFAULT, lambda: self.client().insert(table, rows, DEAD_LETTER_COLUMNS, settings=settings))

    def insert_policies(self, part: Range, rows: list[list[Any]]) -> None:
        """Insert the documents of a range of the policies topic, columns as in `policy_rows.COLUMNS`."""
        if rows:
            table = self._name(_POLICIES)
            settings = _INSERT_SETTINGS | {"insert_deduplication_token": part.token(_POLICIES)}
            self._attempt(DEFAULT, lambda: self.client().insert(table, rows, POLICY_COLUMNS, settings=settings))

    def insert_federated(self, part: Range, rows: list[list[Any]]) -> None:
        """Insert the records of a range of the topic of federated ones, columns as in `federated_rows.COLUMNS`."""
        if rows:
            table = self._name(_FEDERATED)
            settings = _INSERT_SETTINGS | {"insert_deduplication_token": part.token(_FEDERATED)}
            self._attempt(DEFAULT, lambda: self.client().insert(table, rows, FEDERATED_COLUMNS, settings=settings))

    def _insert(self, shard: int, table: str, columns: tuple[str, ...], body: bytes, token: str, count: int) -> None:
        name, settings = self._name(table), _INSERT_SETTINGS | {"insert_deduplication_token": token}
        summary = self._attempt(
            shard,
            lambda: self.client(shard).raw_insert(name, columns, insert_block=body, fmt="Avro", settings=settings),
        )
        # Views add their own rows to the count; fewer than were sent means a file that was misread.
        if summary.written_rows < count:
            raise RowsRefused(f"{table}: {count} rows were sent, {summary.written_rows} were written")

    def _name(self, table: str) -> str:
        return f"{self._settings.clickhouse_database}.{table}{self._suffix}"

    def _columns(self, kind: RecordType, version: int, shape: Layout, shard: int) -> tuple[str, ...]:
        """The columns that both the file and the table have.

        A writer may be newer than the tables: its new fields wait for the migration that brings their
        columns, and for a rebuild, while everything else goes in.
        """
        known, until = self._known.get((kind, version), ((), 0.0))
        if known and time.monotonic() < until:
            return known
        table = BY_KIND[kind].name
        question = "SELECT name FROM system.columns WHERE database = {d:String} AND table = {t:String}"
        named = {"d": self._settings.clickhouse_database, "t": table + self._suffix}
        found = self._attempt(shard, lambda: self.client(shard).query(question, parameters=named).result_columns)
        there = set(found[0]) if found else set()
        if not there:
            raise ConfigurationError(f"ClickHouse has no table {self._name(table)}; run `deploytrail migrate`")
        columns = tuple(name for name in shape.columns if name in there)
        missing = [name for name in shape.columns if name not in there]
        if missing and columns != known:
            log.warning(
                "%s has no column for %s of writer version %s: run `deploytrail migrate`, then `deploytrail rebuild`",
                *(table, ", ".join(missing), version),
            )
        self._known[kind, version] = (columns, time.monotonic() + _LOOK_AGAIN_SECONDS if missing else float("inf"))
        return columns

    def _attempt(self, shard: int, call: Callable[[], T]) -> T:
        url = self.url(shard)
        try:
            return call()
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            response = response_to(code)
            if response is Response.SPLIT:
                raise RowsRefused(str(error)) from error
            if response is Response.STOP:
                raise ConfigurationError(f"ClickHouse at {url}: {reason_of(code)}: {_brief(error)}") from error
            raise self._leave(shard, url, error) from error
        except OSError as error:
            raise self._leave(shard, url, error) from error

    def _leave(self, shard: int, url: str, error: Exception) -> RetryLater:
        """Ask the next replica from now on, unless another thread turned to it already."""
        self._clients().pop(shard, None)
        if self.url(shard) == url:
            self._replica[shard] += 1
        return RetryLater(in_words(url, error))

    def _clients(self) -> dict[int, tuple[str, Client]]:
        if not hasattr(self._local, "clients"):
            self._local.clients = {}
        clients: dict[int, tuple[str, Client]] = self._local.clients
        return clients


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def connect(settings: Settings, url: str = "", patience: int = 60) -> Client:
    """A client of the first that answers of the URLs given, separated by commas; of the settings' where none are.

    `patience`: seconds that an answer may keep silent.
    """
    every = urls(url or settings.clickhouse_url, "DEPLOYTRAIL_CLICKHOUSE_URL")
    for other in every[:-1]:
        try:
            return _connect(settings, other, patience)
        except (ClickHouseError, OSError):
            continue
    return _connect(settings, every[-1], patience)


def connect_each(settings: Settings, doing: str) -> list[Client]:
    """A client of each shard without a cluster, the default one first.

    `doing`: what changes plain tables and so would leave other replicas as they are. ConfigurationError for shards of
    several replicas.
    """
    hosts = Shards.from_settings(settings).hosts
    if settings.clickhouse_shards and any(len(replicas) > 1 for replicas in hosts):
        raise ConfigurationError(
            f"{doing} takes one URL a shard, since plain tables are changed on one host only; "
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS or DEPLOYTRAIL_CLICKHOUSE_URL names several replicas"
        )
    return [connect(settings, ",".join(replicas), _WHOLE_TABLE_SECONDS) for replicas in hosts]


def _connect(settings: Settings, url: str, patience: int) -> Client:
    parts = urlsplit(url)
    return clickhouse_connect.get_client(
        interface=parts.scheme,
        host=parts.hostname or "127.0.0.1",
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        username=settings.clickhouse_user,
        password=settings.clickhouse_password,
        autogenerate_session_id=False,  # threads that share a session fail
        settings=_ON_CLUSTER if settings.clickhouse_cluster else None,
        compress=False,
        connect_timeout=5,
        send_receive_timeout=patience,
    )
