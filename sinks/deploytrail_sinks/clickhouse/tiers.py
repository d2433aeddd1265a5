"""Which tier rows are in: the hot volume, then the cold one (such as an S3 disk), then only the archive.

Off by default: a table keeps everything. The current state of deployments is in no tier, since what runs
now may have been deployed long ago; it is one row a deployment.
"""

from __future__ import annotations

import re

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.shards import tables_suffix
from deploytrail_sinks.clickhouse.tables import TABLES, quote

# Whose time decides: corrected time on the trail, partition time of what was derived from it.
TIMES = {
    "deployment_events": "corrected_at",
    "signals": "corrected_at",
    "approvals": "corrected_at",
    "observations": "corrected_at",
    "deployment_revisions": "recorded_at",
    "findings": "occurred_at",
}


_TIME_TO_LIVE = re.compile(r" TTL (.+?)(?= SETTINGS |$)")
_KEPT = re.compile(r"(\w+) \+ toIntervalDay\((\d+)\)(?=,|$)")  # rules that delete; those that move say where to


def tier_statements(client: Client, settings: Settings) -> list[str]:
    """ALTER TABLE statements for the tables whose tiers are not what the settings say, on one node.

    Nothing where DEPLOYTRAIL_CLICKHOUSE_HOT_DAYS is 0, also where it was not before: rows that may be deleted
    by a setting that somebody forgot are worse than rows that stay.
    """
    if settings.clickhouse_hot_days <= 0:
        return []
    database, policy = settings.clickhouse_database, settings.clickhouse_storage_policy
    found = []
    for table in (table.name for table in TABLES):
        engine, used = _present(client, database, table + tables_suffix(settings))
        if policy and used != policy:
            found.append(f"ALTER TABLE {database}.{table} MODIFY SETTING storage_policy = '{policy}'")
        rules = _rules(settings)
        if re.findall(r"toIntervalDay\((\d+)\)( TO VOLUME 'cold')?", engine) != rules:
            parts = [f"{TIMES[table]} + toIntervalDay({days}){where or ' DELETE'}" for days, where in rules]
            found.append(f"ALTER TABLE {database}.{table} MODIFY TTL {', '.join(parts)}")
    return found


def like(client: Client, database: str, other: str, table: str) -> None:
    """Give a table of another database the tiers that the same table has here, whoever gave them to it."""
    (engine, policy), (_, its_policy) = (_present(client, name, table) for name in (database, other))
    if policy != its_policy:
        client.command(f"ALTER TABLE {other}.{table} MODIFY SETTING storage_policy = {quote(policy)}")
    if ttl := _TIME_TO_LIVE.search(engine):
        client.command(f"ALTER TABLE {other}.{table} MODIFY TTL {ttl[1]}")


def kept_days(client: Client, database: str, table: str) -> tuple[str, int] | None:
    """The column whose time decides, and how many days a row is kept; None where a table keeps everything."""
    ttl = _TIME_TO_LIVE.search(_present(client, database, table)[0])
    found = [(int(days), str(column)) for column, days in _KEPT.findall(ttl[1] if ttl else "")]
    return min(found)[::-1] if found else None


def _present(client: Client, database: str, table: str) -> tuple[str, str]:
    """Engine in full and storage policy; empty where there is no such table."""
    found = client.query(
        "SELECT engine_full, storage_policy FROM system.tables WHERE database = {d:String} AND name = {t:String}",
        parameters={"d": database, "t": table},
    ).result_rows
    return (str(found[0][0]), str(found[0][1])) if found else ("", "")


def _rules(settings: Settings) -> list[tuple[str, str]]:
    hot, cold = settings.clickhouse_hot_days, settings.clickhouse_cold_days
    moved = [(str(hot), " TO VOLUME 'cold'")] if settings.clickhouse_storage_policy else []
    return [*moved, (str(hot + cold), "")]
