"""Which tier rows are in: the hot volume, then the cold one (such as an S3 disk), then only the archive.

Off by default: a table keeps everything. The current state of deployments is in no tier, since what runs
now may have been deployed long ago; it is one row a deployment.
"""

from __future__ import annotations

import re

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.shards import tables_suffix
from deploytrail_sinks.clickhouse.tables import TABLES

# Whose time decides: corrected time on the trail, partition time of what was derived from it.
TIMES = {
    "deployment_events": "corrected_at",
    "signals": "corrected_at",
    "approvals": "corrected_at",
    "observations": "corrected_at",
    "deployment_revisions": "recorded_at",
    "findings": "occurred_at",
}


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
        present = client.query(
            "SELECT engine_full, storage_policy FROM system.tables WHERE database = {d:String} AND name = {t:String}",
            parameters={"d": database, "t": table + tables_suffix(settings)},
        ).result_rows
        engine, used = present[0] if present else ("", "")
        if policy and used != policy:
            found.append(f"ALTER TABLE {database}.{table} MODIFY SETTING storage_policy = '{policy}'")
        rules = _rules(settings)
        if re.findall(r"toIntervalDay\((\d+)\)( TO VOLUME 'cold')?", str(engine)) != rules:
            parts = [f"{TIMES[table]} + toIntervalDay({days}){where or ' DELETE'}" for days, where in rules]
            found.append(f"ALTER TABLE {database}.{table} MODIFY TTL {', '.join(parts)}")
    return found


def _rules(settings: Settings) -> list[tuple[str, str]]:
    hot, cold = settings.clickhouse_hot_days, settings.clickhouse_cold_days
    moved = [(str(hot), " TO VOLUME 'cold'")] if settings.clickhouse_storage_policy else []
    return [*moved, (str(hot + cold), "")]
