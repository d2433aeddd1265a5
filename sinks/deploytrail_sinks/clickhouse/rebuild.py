"""The tables made again from the trail: replayed beside them, compared with them, put in their place.

The replay goes into a shadow database while the sinks go on. Then they see its lock, end, and wait for it
when their supervisor starts them again; the shadow catches up to where they stopped, both are compared row
by row (by a hash of every column), and each table takes over the shadow's parts in one atomic step
(REPLACE PARTITION), so that views, grants and what the tables know of earlier inserts stay as they are.
Where regions lie on shards of their own, one replay fills the shadow of every shard as the sink would, and all
are compared before any is swapped; so rows that an earlier map of the shards left elsewhere are seen, and moved.
Killed at any moment, the tables are as they were or as they should be, and another run begins again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.buffer import Offsets
from deploytrail_sinks.clickhouse.content import content
from deploytrail_sinks.clickhouse.keeping import Keeping, filled
from deploytrail_sinks.clickhouse.lock import STALE_SECONDS, SWAP_LOCK, lock
from deploytrail_sinks.clickhouse.migrate import drop_database, migrate
from deploytrail_sinks.clickhouse.purge import purge_again
from deploytrail_sinks.clickhouse.replay import Replay, committed, members
from deploytrail_sinks.clickhouse.shards import DEFAULT
from deploytrail_sinks.clickhouse.sink import ClickHouseSink
from deploytrail_sinks.clickhouse.tables import quote
from deploytrail_sinks.clickhouse.tiers import kept_days, like
from deploytrail_sinks.clickhouse.writer import connect_each

_LOCK_PATIENCE = STALE_SECONDS + 15.0  # one that was killed has left its lock behind
_POSITION = ("kafka_partition", "kafka_offset", "kafka_timestamp")
_SOON = timedelta(hours=1)  # rows whose time to live ends within it may go on either side while they are compared


@dataclass(frozen=True, slots=True)
class Compared:
    """A table as it stands and as it was replayed: rows, and a hash of every value of every row.

    Where it has a time to live, only rows within it are counted: a replay brings older ones back, until they go again.
    """

    table: str
    rows: int
    content: str
    replayed_rows: int
    replayed_content: str
    shard: int = DEFAULT  # the settings' shard that holds it

    @property
    def same(self) -> bool:
        """Whether the contents are identical."""
        return (self.rows, self.content) == (self.replayed_rows, self.replayed_content)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found, and whether it put the replayed tables in place."""

    messages: int
    tables: tuple[Compared, ...]
    swapped: bool


def rebuild(
    settings: Settings,
    *,
    patience: float = 600.0,
    accept: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Rebuilt:
    """Replay, compare, swap. With differences, swap only where `accept` says that the trail is right.

    RetryLater where a sink does not step aside within `patience` seconds after the replay, and where one
    wrote during the swap: run it again. ConfigurationError on a cluster, and for shards of several replicas.
    """
    clients, live = _clients(settings), settings.clickhouse_database
    client, shadow = clients[DEFAULT], f"{live}_rebuild"
    for some in clients:
        migrate(some, live)
    with lock(client, f"{live}.rebuild_lock", _LOCK_PATIENCE):
        for some in clients:
            drop_database(some, shadow)  # of a run that was cut short
            migrate(some, shadow)
            for name in filled(some, live):
                like(some, live, shadow, name)
        replay = Replay(replace(settings, clickhouse_database=shadow))
        try:
            say("replaying; the sink may go on")
            stored = committed(settings)[0]
            keeping = Keeping(live, shadow, replay.oldest(), stored)
            for some in clients:
                keeping.before(some)
            count = replay.up_to(stored, lambda n: say(f"{n} messages"))
            with lock(client, f"{live}.{SWAP_LOCK}", _LOCK_PATIENCE):
                _wait_for_sinks(settings, patience, say)
                _settle(settings)
                ends, _ = committed(settings)
                count += replay.up_to(ends)
                for some in clients:
                    keeping.behind(some, ends)
                purge_again(clients, live, shadow)
                compared = tuple(
                    replace(_compare(some, live, shadow, table), shard=shard)
                    for shard, some in enumerate(clients)
                    for table in filled(some, live)
                )
                swapped = accept or all(table.same for table in compared)
                if swapped:
                    for table in compared:
                        _swap(clients[table.shard], live, shadow, table)
                    _check_alone(settings, ends)
        finally:
            replay.close()
        if swapped:
            for some in clients:
                drop_database(some, shadow)
    return Rebuilt(count, compared, swapped)


def _clients(settings: Settings) -> list[Client]:
    """A client of each shard, the default one first. ConfigurationError where tables cannot be swapped."""
    if settings.clickhouse_cluster:
        raise ConfigurationError(
            "a rebuild cannot swap the replicated tables of a cluster; fill another database instead, "
            "as sinks/README.md says"
        )
    return connect_each(settings, "a rebuild")


def _wait_for_sinks(settings: Settings, patience: float, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + patience
    said = False
    while count := members(settings):
        if not said:
            say("replayed; waiting for the sinks to step aside, which wait until this has ended")
            said = True
        if time.monotonic() > deadline:
            sinks = counted(count, "sink still has", "sinks still have")
            raise RetryLater(f"{sinks} partitions; stop them and run this again: nothing was changed")
        time.sleep(0.5)


def _settle(settings: Settings) -> None:
    """Let a sink that was killed in the middle of a range have that range stored whole."""
    if not committed(settings)[1]:
        return
    sink = ClickHouseSink(settings, heeds_swaps=False)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            sink.run()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="settle")
    thread.start()
    deadline = time.monotonic() + 120
    while thread.is_alive() and committed(settings)[1] and time.monotonic() < deadline:
        time.sleep(0.2)
    sink.stop()
    thread.join()
    if failure:
        raise failure[0]
    if committed(settings)[1]:
        raise RetryLater("what a killed sink left half stored cannot be finished; start the sink, stop it, try again")


def _compare(client: Client, live: str, shadow: str, table: str) -> Compared:
    engine = client.query(
        "SELECT engine FROM system.tables WHERE database = {d:String} AND name = {t:String}",
        parameters={"d": live, "t": table},
    ).result_rows[0][0]
    # Where equal revisions stand at several offsets, which one a merge keeps is nowhere said.
    columns, final = ("*", "") if engine == "MergeTree" else (f"* EXCEPT ({', '.join(_POSITION)})", " FINAL")
    columns = columns if final == "" or _has_position(client, live, table) else "*"

    where = _within(client, live, table)
    here, there = (content(client, f"{database}.{table}{final}", columns, where) for database in (live, shadow))
    return Compared(table, *here, *there)


def _within(client: Client, live: str, table: str) -> str:
    """A condition on rows that no time to live takes for now."""
    if (kept := kept_days(client, live, table)) is None:
        return "1"
    column, days = kept
    since = datetime.now(UTC) - timedelta(days=days) + _SOON
    return f"{column} >= toDateTime64({quote(since.strftime('%Y-%m-%d %H:%M:%S'))}, 6, 'UTC')"


def _has_position(client: Client, live: str, table: str) -> bool:
    query = (
        "SELECT count() FROM system.columns WHERE database = {d:String} AND table = {t:String} AND name = {n:String}"
    )
    return bool(client.query(query, parameters={"d": live, "t": table, "n": _POSITION[0]}).result_rows[0][0])


def _swap(client: Client, live: str, shadow: str, table: Compared) -> None:
    if client.query(f"SELECT 1 FROM {shadow}.{table.table} LIMIT 1").result_rows:
        client.command(f"ALTER TABLE {live}.{table.table} REPLACE PARTITION ID 'all' FROM {shadow}.{table.table}")
    else:
        client.command(f"TRUNCATE TABLE {live}.{table.table}")


def _check_alone(settings: Settings, ends: Offsets) -> None:
    if members(settings) or committed(settings)[0] != ends:
        raise RetryLater(
            "a sink wrote while the tables were swapped: stop it and run this again, or rows may be missing"
        )
