"""The rows of all engines in one database, where the views answer for all: owners, medians and tickets join rows of
several shards, and no sum of their answers would be the answer.

The database is made for one report, beside the settings' own on the first engine, and dropped behind it. Parts of the
first engine's tables are linked, not copied; rows of the others pass through this process as they come.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError

from deploytrail_sinks.clickhouse.migrate import drop_database, migrate, pending
from deploytrail_sinks.clickhouse.tiers import like
from deploytrail_sinks.reports.engines import EngineFailed, told_by, url_of

_FORBIDDEN = (164, 497)  # READONLY, ACCESS_DENIED
_STAMP = "%Y%m%d%H%M%S"
_LEFT_BEHIND = timedelta(days=1)  # no report takes so long: whoever made such a database was killed
# No question of a report reads them.
_UNREAD = frozenset({"schema_migrations", "dead_letters", "purges"})
_COLUMNS = (
    "SELECT name FROM system.columns WHERE database = {d:String} AND table = {t:String} AND default_kind != 'ALIAS' "
    "ORDER BY position"
)
_CHUNK = 1 << 20  # bytes
_INSERT = {"async_insert": 0, "insert_deduplicate": 0}


@contextmanager
def gathered(engines: Sequence[Client], database: str) -> Iterator[tuple[Client, str]]:
    """An engine, and the database in it that holds the rows of all: of one engine the given one itself.

    ConfigurationError where tables are older than this program, and where the user may not make a database;
    EngineFailed where an engine is away.
    """
    first = engines[0]
    if len(engines) == 1:
        yield first, database
        return
    for engine in engines:
        with told_by(engine):
            if pending(engine, database):
                raise ConfigurationError(f"{database} at {url_of(engine)} lacks migrations: run `deploytrail migrate`")
    now = datetime.now(UTC)
    whole = f"{database}_report_{now:{_STAMP}}_{uuid.uuid4().hex[:8]}"
    try:
        with told_by(first):
            _drop_left_behind(first, database, now)
            _make(first, database, whole)
        for other in engines[1:]:
            for table in _tables(first, whole):
                _copy(other, f"{database}.{table}", first, f"{whole}.{table}")
        yield first, whole
    except BaseException:
        with suppress(EngineFailed), told_by(first):  # what went wrong before is what is said
            drop_database(first, whole)
        raise
    with told_by(first):
        drop_database(first, whole)


def _make(client: Client, database: str, whole: str) -> None:
    """The tables, with the engine's own rows, and the views of questions over them."""
    try:
        migrate(client, whole)
    except ClickHouseError as error:
        if getattr(error, "code", None) not in _FORBIDDEN:
            raise
        raise ConfigurationError(
            f"this report gathers the rows of all shards in a database beside {database}, which "
            f"DEPLOYTRAIL_CLICKHOUSE_USER may not make at {url_of(client)}: take an administrator "
            "(`report audit` needs none)"
        ) from error
    feeds = "SELECT name FROM system.tables WHERE database = {d:String} AND engine = 'MaterializedView'"
    for (name,) in client.query(feeds, parameters={"d": whole}).result_rows:
        client.command(f"DROP VIEW {whole}.{name} SYNC")  # what they would add is copied, too
    for table in _tables(client, whole):
        like(client, database, whole, table)
        client.command(f"ALTER TABLE {whole}.{table} ATTACH PARTITION ID 'all' FROM {database}.{table}")


def _tables(client: Client, database: str) -> list[str]:
    found = client.query(
        "SELECT name FROM system.tables WHERE database = {d:String} AND engine LIKE '%MergeTree' "
        "AND name NOT LIKE '%\\_rehydrated' ORDER BY name",
        parameters={"d": database},
    ).result_rows
    return [str(name) for (name,) in found if name not in _UNREAD]


def _copy(source: Client, table: str, target: Client, into: str) -> None:
    with told_by(source):
        if not source.query(f"SELECT 1 FROM {table} LIMIT 1").result_rows:
            return
    with told_by(target):
        columns = target.query(_COLUMNS, parameters=dict(zip("dt", into.split("."), strict=True))).result_columns[0]
        rows = _read(source, f"SELECT {', '.join(columns)} FROM {table}")
        target.raw_insert(into, columns, insert_block=rows, fmt="Native", settings=_INSERT)


def _read(source: Client, question: str) -> Generator[bytes, None, None]:
    with told_by(source), source.raw_stream(question, fmt="Native") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _drop_left_behind(client: Client, database: str, now: datetime) -> None:
    for (name,) in client.query("SELECT name FROM system.databases").result_rows:
        found = re.fullmatch(rf"{database}_report_(\d{{14}})_[0-9a-f]{{8}}", str(name))
        if found and datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) < now - _LEFT_BEHIND:
            drop_database(client, str(name))
