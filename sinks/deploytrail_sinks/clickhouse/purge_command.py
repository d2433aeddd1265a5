"""`deploytrail purge`: old rows of non-production environments out of ClickHouse; the receipt on standard output."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.purge import Receipt, as_text, purge
from deploytrail_sinks.clickhouse.serve import quieten_drivers
from deploytrail_sinks.clickhouse.writer import connect_each


def main(argv: list[str]) -> int:
    """The receipt on standard output; of several shards a list of theirs.

    Exit code 0 done, 1 production is not what it was, 69 ClickHouse refuses or is away, 78 a setting is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="deploytrail purge",
        description="Delete rows of non-production environments that are older than DEPLOYTRAIL_PURGE_AFTER_DAYS.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would go, change nothing")
    given = parser.parse_args(argv)
    quieten_drivers()
    done: list[Receipt] = []
    code = 0
    try:
        settings = Settings.load()
        purge(
            _clients(settings),
            settings.clickhouse_database,
            now=datetime.now(UTC),
            after=timedelta(days=settings.purge_after_days),
            dry_run=given.dry_run,
            tell=done.append,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"deploytrail purge: {error}\n")
        code = CONFIG
    except (ClickHouseError, OSError) as error:
        sys.stderr.write(f"deploytrail purge: {redact_text(in_words(settings.clickhouse_url, error))}\n")
        code = UNAVAILABLE
    if code and not done:
        return code
    # Also where a later shard did not answer: what went is gone.
    print(as_text(done))
    if not all(receipt.untouched for receipt in done):
        sys.stderr.write("deploytrail purge: rows of production changed meanwhile; compare the receipt's tables\n")
        return code or 1
    return code


def _clients(settings: Settings) -> list[Client]:
    if settings.clickhouse_cluster:
        raise ConfigurationError(
            "a purge cannot delete from the tables of a cluster, which are spread over its shards; "
            "delete on each shard, as sinks/README.md says"
        )
    return connect_each(settings, "a purge")
