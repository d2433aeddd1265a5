"""`deploytrail migrate`: bring ClickHouse's tables up to date, or show what that would do."""

from __future__ import annotations

import argparse
import sys

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.migrate import migrate_as_set, planned
from deploytrail_sinks.clickhouse.serve import quieten_drivers


def main(argv: list[str]) -> int:
    """Exit code 0 done, 69 ClickHouse is away or another one migrates, 78 a migration or a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="deploytrail migrate",
        description="Bring ClickHouse's tables up to date: one node's, or those of DEPLOYTRAIL_CLICKHOUSE_CLUSTER.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the statements that would be run, change nothing")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for another one that migrates (60)")
    given = parser.parse_args(argv)
    quieten_drivers()
    try:
        settings = Settings.load()
        if given.dry_run:
            for name, statements in planned(settings):
                print(f"-- {name}")
                for statement in statements:
                    each = "-- on each shard\n" if statement.on_each_shard else ""
                    print(f"{each}{statement.text};\n")
            return 0
        applied = migrate_as_set(settings, given.wait, say=lambda name: print(f"applying {name}", flush=True))
        print(f"{len(applied)} applied; the tables of {settings.clickhouse_database} are up to date")
    except (ConfigurationError, RetryLater) as error:
        sys.stderr.write(f"deploytrail migrate: {error}\n")
        return exit_code_of(error)
    return 0
