"""`deploytrail rebuild`: ClickHouse's tables made again from the trail."""

from __future__ import annotations

import argparse
import sys

from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.rebuild import rebuild
from deploytrail_sinks.clickhouse.serve import quieten_drivers


def main(argv: list[str]) -> int:
    """Exit code 0 rebuilt, 1 contents differ and nothing was changed, 69 try again, 78 a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="deploytrail rebuild",
        description="Replay the trail into tables beside those in use, compare them, put them in their place.",
    )
    parser.add_argument("--wait", type=float, default=600.0, help="seconds to wait for the sinks to step aside (600)")
    parser.add_argument("--accept", action="store_true", help="take the trail's word where contents differ")
    given = parser.parse_args(argv)
    quieten_drivers()

    def say(text: str) -> None:
        sys.stderr.write(f"deploytrail rebuild: {text}\n")
        sys.stderr.flush()

    try:
        settings = Settings.load()
        done = rebuild(settings, patience=given.wait, accept=given.accept, say=say)
    except (ConfigurationError, RetryLater) as error:
        say(str(error))
        return exit_code_of(error)
    except (ClickHouseError, OSError) as error:
        say(redact_text(in_words(settings.clickhouse_url, error)))
        return exit_code_of(error)
    for table in done.tables:
        verdict = "identical" if table.same else f"DIFFERS: the trail gives {counted(table.replayed_rows, 'row')}"
        where = f" on shard {table.shard}" if settings.clickhouse_shards else ""
        print(f"{table.table}{where}: {counted(table.rows, 'row')}, {verdict}")
    if not done.swapped:
        say("nothing was changed; --accept takes what the trail gives")
        return 1
    print(f"rebuilt from {counted(done.messages, 'message')}")
    return 0
