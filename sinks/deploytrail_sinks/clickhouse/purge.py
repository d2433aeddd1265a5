"""Old rows of non-production environments out of ClickHouse, with a receipt.

The receipt says by which policy, lists what went, and proves of each table that what is left of production
is what was there before: as many rows, and the same hash of every value. Only rows that stood there when
the purge began are counted and deleted, so that a sink may go on meanwhile, and a rebuild can do it again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.errors import ConfigurationError

from deploytrail_sinks.archive.retention import is_production
from deploytrail_sinks.clickhouse.content import content
from deploytrail_sinks.clickhouse.tables import quote

# Whose time decides: corrected time on the trail, partition time of what was derived from it.
TIMES = {
    "deployment_events": "corrected_at",
    "signals": "corrected_at",
    "approvals": "corrected_at",
    "observations": "corrected_at",
    "deployment_revisions": "recorded_at",
    "findings": "occurred_at",
    "current_deployments": "recorded_at",
    "federated_current": "recorded_at",
}
# Made by materialized views of the rows of another table, with their times and positions: a row goes with its own.
# No part of the proof, since their rows are merged away at any time.
DERIVED = {
    "deployment_heads": "deployment_revisions",
    "placed_deployments": "deployment_revisions",
    "newest_placed": "deployment_revisions",
    "deployment_beginnings": "deployment_revisions",
    "part_history": "deployment_revisions",
    "newest_observations": "observations",
    "config_values": "deployment_events",
}
COLUMNS = ("purge_id", "purged_at", "before", "deleted", "production_untouched", "receipt")
# A record's number in its producer's gapless count, and what it says was lost: kept, since a gap counts as a loss.
_NUMBERS = {
    "deployment_events": ("producer_seq", "0"),
    "approvals": ("toInt64OrZero(tags['producer_seq'])", "0"),
    "signals": ("toInt64OrZero(labels['producer_seq'])", "toInt64OrZero(labels['lost_events'])"),
    "observations": ("toInt64OrZero(tags['producer_seq'])", "0"),
}
_MERGING = frozenset({"current_deployments", "federated_current"})
_UNNAMED = frozenset({"", "unknown"})  # may be production: kept


@dataclass(frozen=True, slots=True)
class PurgedTable:
    """What a purge did to a table."""

    table: str
    condition: str  # what was deleted, in SQL
    deleted: int
    by_environment: dict[str, int]
    kept_rows_before: int  # those of production, and of no named environment
    kept_content_before: str
    kept_rows_after: int
    kept_content_after: str

    @property
    def untouched(self) -> bool:
        """Whether production is what it was."""
        before = (self.kept_rows_before, self.kept_content_before)
        return before == (self.kept_rows_after, self.kept_content_after)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A purge, as it is kept in the table `purges`."""

    purge_id: str
    purged_at: str
    before: str  # rows older than this went
    environments: list[str]
    tables: list[PurgedTable]
    deployments: list[list[str]]  # region, environment, service, deployment id of what went

    @property
    def untouched(self) -> bool:
        """Whether production is what it was, in every table."""
        return all(table.untouched for table in self.tables)

    def text(self) -> str:
        """JSON, with the verdict."""
        return json.dumps(self.fields(), indent=1, ensure_ascii=False)

    def fields(self) -> dict[str, Any]:
        """What stands in the JSON."""
        return asdict(self) | {"production_untouched": self.untouched}


def as_text(receipts: Sequence[Receipt]) -> str:
    """The JSON of the one receipt, or the list of those of several shards, each with its number."""
    if len(receipts) == 1:
        return receipts[0].text()
    fields = [{"shard": shard} | receipt.fields() for shard, receipt in enumerate(receipts)]
    return json.dumps(fields, indent=1, ensure_ascii=False)


def purge(
    shards: Sequence[Client],
    database: str,
    *,
    now: datetime,
    after: timedelta,
    dry_run: bool = False,
    tell: Callable[[Receipt], None] = lambda _: None,
) -> list[Receipt]:
    """Delete what is older than `after` and not of production; one receipt a shard, stored there but for a dry run.

    `tell` is given each one as soon as it is there. What is production is asked of all shards first, since policies are
    on one of them only. ConfigurationError for less than a day.
    """
    if after < timedelta(days=1):
        raise ConfigurationError(f"a purge of what is older than {after} is refused; expected a day at least")
    flagged = {name for client in shards for name in _called_production(client, database)}
    receipts = []
    for client in shards:
        receipts.append(_purge_shard(client, database, flagged, now, after, dry_run))
        tell(receipts[-1])
    return receipts


def _purge_shard(
    client: Client, database: str, flagged: set[str], now: datetime, after: timedelta, dry_run: bool
) -> Receipt:
    cutoff = now - after
    environments = _environments(client, database, flagged)
    condition = f"environment IN ({', '.join(map(quote, environments))})" if environments else "0"
    tables, went = [], []
    for table, time in TIMES.items():
        then = _as_it_stands(client, database, table)
        where = (
            f"{condition} AND {time} < toDateTime64({quote(cutoff.strftime('%Y-%m-%d %H:%M:%S'))}, 6, 'UTC') AND {then}"
        )
        if table == "current_deployments":
            went = _deployments(client, database, where)
        tables.append(_purged(client, f"{database}.{table}", condition, then, where, dry_run))
    if environments and not dry_run:
        _refill(client, database, condition)
    receipt = Receipt(str(uuid.uuid4()), now.isoformat(), cutoff.isoformat(), environments, tables, went)
    if not dry_run:
        row = [[receipt.purge_id, now, cutoff, sum(t.deleted for t in tables), receipt.untouched, receipt.text()]]
        client.insert(f"{database}.purges", row, column_names=COLUMNS)
    return receipt


def purge_again(shards: Sequence[Client], live: str, target: str) -> None:
    """Delete from another database's tables what every purge deleted from this one's.

    On each shard what was deleted on any: a region may have lain elsewhere then. A receipt names what it deleted by
    partition and offset, so that it takes no more on another shard.
    """
    query = f"SELECT receipt FROM {live}.purges ORDER BY purged_at"
    receipts = [json.loads(text) for client in shards for (text,) in client.query(query).result_rows]
    deleted = [table for receipt in receipts for table in receipt["tables"] if table["deleted"]]
    for client in shards:
        for table in deleted:
            # Into the living table, which no swap touches: those of a purge that kept none come that way.
            _keep_numbers(client, target, live, table["table"], table["condition"])
            _delete(client, target, table["table"], table["condition"])
        _refill(client, target, "1")


def _purged(client: Client, name: str, condition: str, then: str, where: str, dry_run: bool) -> PurgedTable:
    kept = f"NOT ({condition}) AND {then}"
    database, _, table = name.partition(".")
    # A merge meanwhile takes rows that were replaced before.
    source = f"{name} FINAL" if table in _MERGING else name
    counts = client.query(f"SELECT environment, count() FROM {name} WHERE {where} GROUP BY 1 ORDER BY 1").result_rows
    before = content(client, source, where=kept)
    if counts and not dry_run:
        _keep_numbers(client, database, database, table, where)
        _delete(client, database, table, where)
    after = content(client, source, where=kept)
    by_environment = {str(environment): int(count) for environment, count in counts}
    return PurgedTable(table, where, sum(by_environment.values()), by_environment, *before, *after)


def _keep_numbers(client: Client, database: str, into: str, table: str, where: str) -> None:
    """Remember the numbers of the rows that are about to go; repeating it changes nothing."""
    if table not in _NUMBERS:
        return
    seq, told = _NUMBERS[table]
    client.command(
        f"INSERT INTO {into}.purged_numbers (producer_id, seq, told_lost, received_at, kafka_timestamp) "
        f"SELECT producer_id, {seq} AS number, {told}, received_at, kafka_timestamp FROM {database}.{table} "
        f"WHERE {where} AND producer_id != '' AND number > 0"
    )


def _refill(client: Client, database: str, condition: str) -> None:
    """Let what was merged behind a purged row of `newest_placed` come forth again; repeating it changes nothing."""
    query = "SELECT as_select FROM system.tables WHERE database = {d:String} AND name = 'newest_placed_feed'"
    [(select,)] = client.query(query, parameters={"d": database}).result_rows
    client.command(f"INSERT INTO {database}.newest_placed SELECT * FROM ({select}) WHERE {condition}")


def _delete(client: Client, database: str, table: str, where: str) -> None:
    for name in (*(name for name, source in DERIVED.items() if source == table), table):
        client.command(f"ALTER TABLE {database}.{name} DELETE WHERE {where}", settings={"mutations_sync": 2})


def _called_production(client: Client, database: str) -> set[str]:
    """What a policy has ever called production, whatever its name says and whatever a newer version does."""
    said = "kind = 'environment' AND JSONExtractBool(spec, 'production')"
    flagged = client.query(f"SELECT DISTINCT name FROM {database}.policies WHERE {said}").result_rows
    return {str(row[0]).strip().lower() for row in flagged}


def _environments(client: Client, database: str, flagged: set[str]) -> list[str]:
    found: set[str] = set()
    for table in TIMES:
        rows = client.query(f"SELECT DISTINCT environment FROM {database}.{table}").result_rows
        found |= {str(row[0]) for row in rows}
    kept = _UNNAMED | flagged
    named = {name for name in found if name.strip().lower() not in kept}
    return sorted(name for name in named if not is_production(name.strip().lower()))


def _as_it_stands(client: Client, database: str, table: str) -> str:
    """A condition that holds for the rows that are there now, and for none that comes."""
    query = f"SELECT kafka_partition, max(kafka_offset) FROM {database}.{table} GROUP BY 1 ORDER BY 1"
    rows = client.query(query).result_rows
    if not rows:
        return "0"
    partitions, offsets = ([int(row[i]) for row in rows] for i in (0, 1))
    return f"kafka_offset <= transform(toInt64(kafka_partition), {partitions}, {offsets}, -1)"


def _deployments(client: Client, database: str, where: str) -> list[list[str]]:
    query = (
        f"SELECT DISTINCT region, environment, service, deployment_id FROM {database}.current_deployments "
        f"WHERE {where} ORDER BY ALL"
    )
    return [[str(value) for value in row] for row in client.query(query).result_rows]
