"""How far back the tables reach, where they have a time to live: what is older is in the archive alone.

The questions read the tables, so a report of a time before that is about what is left there. It says so itself,
without a date, so that the same report is the same on another day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.counted import counted
from deploytrail_schemas.instants import to_micros
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.shards import tables_suffix
from deploytrail_sinks.clickhouse.tables import TABLES
from deploytrail_sinks.clickhouse.tiers import kept_days
from deploytrail_sinks.reports.document import Report
from deploytrail_sinks.reports.engines import told_by

LABEL = "Incomplete"
_HOW = (
    "for all of it, fill a database of its own: DEPLOYTRAIL_CLICKHOUSE_DATABASE=NAME deploytrail archive restore, "
    "and ask for the report there"
)


def days_kept(engines: Iterable[Client], settings: Settings) -> int | None:
    """How many days the table that keeps the fewest does keep; None where all keep everything."""
    found: list[int] = []
    for engine in engines:
        with told_by(engine):
            for table in TABLES:
                kept = kept_days(engine, settings.clickhouse_database, table.name + tables_suffix(settings))
                found += [kept[1]] if kept else []
    return min(found, default=None)


def marked(report: Report, since: int | None, days: int | None, now: datetime) -> Report:
    """The report, with a fact that says so where it begins before what the tables keep. `since`: µs."""
    if since is None or days is None or since >= to_micros(now - timedelta(days=days)):
        return report
    said = (
        f"it begins before what the tables keep, {counted(days, 'day')}; what is older is in the archive alone: {_HOW}"
    )
    return replace(report, facts=((LABEL, said), *report.facts))
