"""Numbered migrations: applied once, in order, each remembered with its checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.errors import ConfigurationError

_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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

    def statements(self, database: str) -> Iterator[str]:
        """Its statements for a database."""
        for statement in self.text.replace("{database}", database).split(";\n"):
            if statement.strip():
                yield statement.strip()


def migrations() -> list[Migration]:
    """Every migration, in order."""
    folder = resources.files("deploytrail_sinks.clickhouse").joinpath("migrations")
    found = [(_NAME.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    every = [Migration(int(m[1]), e.name, e.read_text("utf-8")) for m, e in found if m]
    return sorted(every, key=lambda migration: migration.number)


def migrate(client: Client, database: str) -> list[str]:
    """Apply what is missing; the names of what was applied.

    ConfigurationError where an applied migration has changed since, or for a database name that
    would need quoting. Statements can be repeated, so a migration that was cut short is applied again.
    """
    if not _DATABASE.fullmatch(database):
        raise ConfigurationError(f"DEPLOYTRAIL_CLICKHOUSE_DATABASE is {database!r}; expected letters, digits and _")
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.schema_migrations (number UInt32, name String, checksum String, "
        "applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY number "
        "COMMENT 'Migrations that were applied'"
    )
    rows = client.query(f"SELECT number, checksum FROM {database}.schema_migrations").result_rows
    known: dict[int, str] = {int(row[0]): str(row[1]) for row in rows}
    applied = []
    for migration in migrations():
        if migration.number in known:
            if known[migration.number] != migration.checksum:
                raise ConfigurationError(
                    f"{migration.name} was applied to {database} with other contents; migrations are never edited: "
                    "add a new one, or use another database"
                )
            continue
        for statement in migration.statements(database):
            client.command(statement)
        client.insert(
            f"{database}.schema_migrations",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
        )
        applied.append(migration.name)
    return applied
