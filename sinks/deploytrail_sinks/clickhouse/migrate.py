"""Numbered migrations: applied once, in order, one process at a time, each remembered with its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.cluster import Statement, for_cluster, tables_of
from deploytrail_sinks.clickhouse.failures import RESPONSES, Response
from deploytrail_sinks.clickhouse.lock import lock
from deploytrail_sinks.clickhouse.shards import Shards, every_url
from deploytrail_sinks.clickhouse.tiers import tier_statements
from deploytrail_sinks.clickhouse.writer import connect

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COLUMNS = "(number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of statements."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, database: str, cluster: str = "") -> list[Statement]:
        """Its statements for a database, on one node or a cluster. Each can be repeated."""
        parts = (part.strip() for part in self.text.replace("{database}", database).split(";\n"))
        plain = [part.removesuffix(";") for part in parts if part]
        if not cluster:
            return [Statement(text) for text in plain]
        return [made for text in plain for made in for_cluster(text, cluster, _tables(database))]


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration, in order. Numbers may have gaps: rooms count in hundreds of their own."""
    folder = resources.files("deploytrail_sinks.clickhouse").joinpath("migrations")
    found = [(_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    every = [Migration(int(m[1]), e.name, e.read_text("utf-8")) for m, e in found if m]
    return tuple(sorted(every, key=lambda migration: migration.number))


def _tables(database: str) -> frozenset[str]:
    return tables_of(m.text.replace("{database}", database) for m in migrations())


def pending(client: Client, database: str) -> list[Migration]:
    """What is not applied yet, in order.

    ConfigurationError where an applied migration has changed since.
    """
    if not int(client.command(f"EXISTS TABLE {database}.schema_migrations")):  # type: ignore[arg-type]  # 0 or 1
        return list(migrations())
    rows = client.query(f"SELECT number, checksum FROM {database}.schema_migrations").result_rows
    known: dict[int, str] = {int(row[0]): str(row[1]) for row in rows}
    missing = []
    for migration in migrations():
        if migration.number not in known:
            missing.append(migration)
        elif known[migration.number] != migration.checksum:
            raise ConfigurationError(
                f"{migration.name} was applied to {database} with other contents; migrations are never edited: "
                "add a new one, or use another database"
            )
    return missing


def migrate(
    client: Client,
    database: str,
    cluster: str = "",
    shards: Sequence[Client] = (),
    patience: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Apply what is missing; the names of what was applied.

    `shards`: a client of each shard of the cluster, for statements that move rows. A migration that was
    cut short is applied again from its first statement. ConfigurationError where one has changed, and for
    names that would need quoting; RetryLater where another process migrates for longer than `patience` seconds.
    """
    _check_names(database, cluster)
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    if not pending(client, database):
        return []  # the sink's own user may create nothing
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}{on}")
    with lock(client, f"{database}.migration_lock", patience):
        client.command(_remembering(database, on))
        applied = []
        for migration in pending(client, database):
            say(migration.name)
            for statement in migration.statements(database, cluster):
                for some in shards if cluster and statement.on_each_shard and shards else (client,):
                    some.command(statement.text)
            row = [migration.number, migration.name, migration.checksum]
            client.insert(f"{database}.schema_migrations", [row], column_names=["number", "name", "checksum"])
            applied.append(migration.name)
        return applied


def drop_database(client: Client, database: str) -> None:
    """Drop a database that was made beside another, however large: servers refuse to drop tables of more than 50 GB
    unless the one who asks says so."""
    client.command(f"DROP DATABASE IF EXISTS {database} SYNC", settings={"max_table_size_to_drop": 0})


def migrate_as_set(
    settings: Settings, patience: float = 60.0, say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """`migrate` for the settings' ClickHouse, cluster, or shards without one. RetryLater while one of them is away."""
    database, cluster = settings.clickhouse_database, settings.clickhouse_cluster
    with _errors_named(settings):
        every = [connect(settings, url) for url in every_url(Shards.from_settings(settings))]
        applied = []
        for client in every[:1] if cluster else every:  # a cluster takes statements ON CLUSTER from any node
            applied += migrate(client, database, cluster, every, patience=patience, say=say)
            for statement in tier_statements(client, settings):
                for part in for_cluster(statement, cluster, _tables(database)) if cluster else [Statement(statement)]:
                    say(part.text)
                    client.command(part.text)
        return applied


def planned(settings: Settings) -> list[tuple[str, list[Statement]]]:
    """What `migrate` would run: each missing migration and its statements. Nothing is changed."""
    database, cluster = settings.clickhouse_database, settings.clickhouse_cluster
    _check_names(database, cluster)
    with _errors_named(settings):
        missing = pending(connect(settings), database)
    return [(m.name, m.statements(database, cluster)) for m in missing]


@contextlib.contextmanager
def _errors_named(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ClickHouseError as error:
        text = in_words(settings.clickhouse_url, error)
        code = getattr(error, "code", None)
        # Without a code it was the connection, not the statement.
        if code is None or RESPONSES.get(code, (Response.STOP,))[0] is Response.RETRY:
            raise RetryLater(text) from error
        raise ConfigurationError(text) from error
    except OSError as error:
        raise RetryLater(in_words(settings.clickhouse_url, error)) from error


def _remembering(database: str, on: str) -> str:
    # On a cluster one table that every node has whole: no shard in its path.
    engine = "ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}')" if on else "MergeTree"
    return (
        f"CREATE TABLE IF NOT EXISTS {database}.schema_migrations{on} {_COLUMNS}ENGINE = {engine} ORDER BY number "
        "COMMENT 'Migrations that were applied'"
    )


def _check_names(database: str, cluster: str) -> None:
    for setting, name in (("DATABASE", database), ("CLUSTER", cluster or "none")):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"DEPLOYTRAIL_CLICKHOUSE_{setting} is {name!r}; expected letters, digits and _")
