"""`deploytrail purge`: old rows of non-production environments out of ClickHouse; the receipt on standard output."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.purge import purge
from deploytrail_sinks.clickhouse.serve import quieten_drivers
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.serving import EXIT_CONFIGURATION, EXIT_UNAVAILABLE


def main(argv: list[str]) -> int:
    """Exit code 0 done, 1 production is not what it was, 69 ClickHouse refuses or is away, 78 a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="deploytrail purge",
        description="Delete rows of non-production environments that are older than DEPLOYTRAIL_PURGE_AFTER_DAYS.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would go, change nothing")
    given = parser.parse_args(argv)
    quieten_drivers()
    try:
        settings = Settings.load()
        receipt = purge(
            connect(settings),
            settings.clickhouse_database,
            now=datetime.now(UTC),
            after=timedelta(days=settings.purge_after_days),
            dry_run=given.dry_run,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"deploytrail purge: {error}\n")
        return EXIT_CONFIGURATION
    except (ClickHouseError, OSError) as error:
        sys.stderr.write(f"deploytrail purge: {redact_text(in_words(settings.clickhouse_url, error))}\n")
        return EXIT_UNAVAILABLE
    print(receipt.text())
    if not receipt.untouched:
        sys.stderr.write("deploytrail purge: rows of production changed meanwhile; compare the receipt's tables\n")
        return 1
    return 0
