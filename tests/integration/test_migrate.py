"""`deploytrail migrate` on the real engine: once, one at a time, resumable, and what a cluster would get."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse import lock as locking
from deploytrail_sinks.clickhouse.lock import lock
from deploytrail_sinks.clickhouse.migrate import drop_database, migrate, migrations, pending
from deploytrail_sinks.clickhouse.tables import TABLES
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run

NAMES = [migration.name for migration in migrations()]


@pytest.fixture
def client(clickhouse: str) -> Client:
    return connect(Settings(clickhouse_url=clickhouse))


@pytest.fixture
def database() -> str:
    return f"migrate_{uuid.uuid4().hex[:8]}"


def env(clickhouse: str, database: str, **more: str) -> dict[str, str]:
    return {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database, **more}


def tables(client: Client, database: str) -> set[str]:
    rows = client.query("SELECT name FROM system.tables WHERE database = {d:String}", parameters={"d": database})
    return {row[0] for row in rows.result_rows}


def test_a_dry_run_prints_every_statement_and_changes_nothing(
    client: Client, clickhouse: str, database: str, tmp_path: Path
) -> None:
    found = run("migrate", "--dry-run", env=env(clickhouse, database), cwd=tmp_path)

    assert (found.returncode, found.stderr) == (0, "")
    assert [line.removeprefix("-- ") for line in found.stdout.splitlines() if line.startswith("-- 0")] == NAMES
    assert f"CREATE TABLE IF NOT EXISTS {database}.deployment_events\n" in found.stdout
    assert tables(client, database) == set()


def test_the_command_applies_what_is_missing_and_then_nothing(
    client: Client, clickhouse: str, database: str, tmp_path: Path
) -> None:
    first = run("migrate", env=env(clickhouse, database), cwd=tmp_path)
    second = run("migrate", env=env(clickhouse, database), cwd=tmp_path)

    assert first.stdout.splitlines()[:-1] == [f"applying {name}" for name in NAMES]
    assert second.stdout == f"0 applied; the tables of {database} are up to date\n"
    assert {"deployment_events", "deployments"} <= tables(client, database)
    assert "migration_lock" not in tables(client, database)


def test_a_database_is_dropped_that_a_server_would_keep_for_its_size(client: Client, database: str) -> None:
    migrate(client, database)
    client.set_client_setting("max_table_size_to_drop", 1)  # byte, instead of 50 GB
    with pytest.raises(DatabaseError, match="TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT"):
        client.command(f"DROP DATABASE {database} SYNC")
    drop_database(client, database)

    assert tables(client, database) == set()


def definitions(client: Client, database: str) -> dict[str, str]:
    query = "SELECT name, create_table_query FROM system.tables WHERE database = {d:String}"
    rows = client.query(query, parameters={"d": database}).result_rows
    texts = {str(name): str(text).replace(database, "d") for name, text in rows}
    return {name: re.sub(r"UUID '[^']*'", "", text) for name, text in texts.items() if name != "schema_migrations"}


def test_each_migration_can_be_repeated_that_was_cut_short_before_it_was_remembered(
    client: Client, database: str
) -> None:
    client.command(f"CREATE DATABASE {database}")
    for migration in migrations():
        for statement in (*migration.statements(database), *migration.statements(database)):
            client.command(statement.text)
    fresh = f"{database}_fresh"
    migrate(client, fresh)

    assert definitions(client, database) == {
        name: text.replace("d_fresh", "d") for name, text in definitions(client, fresh).items()
    }


@pytest.mark.requirement("M7.1")
@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_what_comes_back_from_the_archive_has_the_columns_of_its_table(
    client: Client, database: str, table: str
) -> None:
    """A migration that gives a table a column gives it to its rehydrated twin and to the view of both."""
    migrate(client, database)

    def columns(name: str) -> list[tuple[str, str]]:
        return [(str(row[0]), str(row[1])) for row in client.query(f"DESCRIBE {database}.{name}").result_rows]

    assert columns(f"{table}_rehydrated") == columns(table)
    assert columns(f"all_{table}") == columns(table)
    assert client.query(f"SELECT count() FROM {database}.all_{table}").result_rows == [(0,)]


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_what_is_applied_goes_on_where_it_stopped(client: Client, database: str, stop: int) -> None:
    class Cut(Exception):
        pass

    class Cutting:
        left = stop

        def command(self, text: str, *arguments: Any, **more: Any) -> Any:
            if text.startswith(("CREATE TABLE IF NOT", "CREATE MAT", "CREATE VIEW")) and "schema_mig" not in text:
                self.left -= 1
                if self.left < 0:
                    raise Cut
            return client.command(text, *arguments, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    with pytest.raises(Cut):
        migrate(Cutting(), database)  # type: ignore[arg-type]  # stands in for a client that dies
    before = NAMES if not tables(client, database) else [m.name for m in pending(client, database)]

    assert migrate(client, database) == before
    assert pending(client, database) == []


def test_a_user_who_may_create_nothing_starts_on_tables_that_are_up_to_date(client: Client, database: str) -> None:
    class ReadsOnly:
        def command(self, text: str, *arguments: Any, **more: Any) -> Any:
            assert not text.startswith(("CREATE", "DROP", "ALTER"))
            return client.command(text, *arguments, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    migrate(client, database)

    assert migrate(ReadsOnly(), database) == []  # type: ignore[arg-type]  # stands in for the sink's own user


def test_a_migration_that_changed_is_refused(client: Client, clickhouse: str, database: str, tmp_path: Path) -> None:
    migrate(client, database)
    client.command(
        f"ALTER TABLE {database}.schema_migrations UPDATE checksum = 'other' WHERE number = 2",
        settings={"mutations_sync": 1},
    )
    found = run("migrate", env=env(clickhouse, database), cwd=tmp_path)

    assert found.returncode == 78
    assert "0002_dead_letters.sql was applied" in found.stderr and "never edited" in found.stderr


def test_two_at_once_apply_each_migration_once(client: Client, clickhouse: str, database: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        each = threads.map(lambda _: migrate(connect(Settings(clickhouse_url=clickhouse)), database), range(2))
        applied = [name for names in each for name in names]

    assert applied == NAMES
    assert client.query(f"SELECT count() FROM {database}.schema_migrations").result_rows == [(len(NAMES),)]


def test_a_lock_that_is_held_is_waited_for_and_named(client: Client, database: str) -> None:
    client.command(f"CREATE DATABASE {database}")
    table = f"{database}.migration_lock"
    said = f"{table} is held by .*; wait until it has ended"
    with lock(client, table, 1), pytest.raises(RetryLater, match=said), lock(client, table, 0.1):
        pass
    with lock(client, table, 0.1):
        pass

    assert tables(client, database) == set()


def test_a_lock_whose_holder_died_is_taken_over(client: Client, database: str) -> None:
    client.command(f"CREATE DATABASE {database}")
    table = f"{database}.migration_lock"
    client.command(f"CREATE TABLE {table} (nothing UInt8) ENGINE = Memory COMMENT 'host/1/abc 1700000000'")
    with lock(client, table, 0.1):
        holder = locking._holder(client, table)

    assert holder is not None and holder[0] != "host/1/abc"
    assert tables(client, database) == set()


def test_a_database_that_would_need_quoting_is_refused(client: Client) -> None:
    with pytest.raises(ConfigurationError, match="expected letters, digits and _"):
        migrate(client, "a; DROP DATABASE b")


@pytest.mark.requirement("M8.1")
@pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
def test_what_a_cluster_would_get_is_read_by_clickhouses_own_parser(client: Client, migration: Any) -> None:
    """No cluster runs here: that each statement parses, and says what it should, is what can be proven."""
    for statement in migration.statements("d", "prod"):
        formatted = client.query("SELECT formatQuery({q:String})", parameters={"q": statement.text}).result_rows[0][0]

        assert client.command(f"EXPLAIN AST {statement.text}")
        assert statement.on_each_shard or " ON CLUSTER prod" in formatted
