"""`deploytrail rehydrate`: rows from the archive back into ClickHouse, for as long as they are needed."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive.store import open_store
from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.rehydrate import forget, rehydrate
from deploytrail_sinks.clickhouse.serve import quieten_drivers
from deploytrail_sinks.clickhouse.shards import Shards, every_url, tables_suffix
from deploytrail_sinks.clickhouse.writer import connect

_DEAD_LETTERS = "messages cannot be read: they are dead letters"


def main(argv: list[str]) -> int:
    """Exit code 0 done, 69 ClickHouse or the archive is away or damaged, 78 a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="deploytrail rehydrate",
        description="Bring rows back from DEPLOYTRAIL_ARCHIVE into ClickHouse; the views all_… show them.",
    )
    parser.add_argument("--from", dest="since", type=_day, metavar="DAY", help="first day, 2025-01-31 (UTC)")
    parser.add_argument("--to", dest="until", type=_day, metavar="DAY", help="the day after the last one")
    parser.add_argument("--forget", action="store_true", help="take everything that was brought back out again")
    given = parser.parse_args(argv)
    if not given.forget and (given.since is None or given.until is None):
        parser.error("--from and --to say which days; or --forget")
    if not given.forget and given.until <= given.since:
        parser.error("--to is the day after the last one: later than --from")
    quieten_drivers()
    try:
        settings = Settings.load()
        if given.forget:
            for url in every_url(Shards.from_settings(settings)):
                forget(connect(settings, url), settings.clickhouse_database, tables_suffix(settings))
            return 0
        done = rehydrate(open_store(settings.archive), settings, given.since, given.until, say=_say)
    except ClickHouseError as error:
        _say(redact_text(in_words(settings.clickhouse_url, error)))
        return exit_code_of(error)
    except (DeploytrailError, OSError) as error:
        _say(str(error))
        return exit_code_of(error)
    if not done.segments:
        _say(f"{settings.archive} holds nothing of these days{if_not_set('archive', settings.archive)}")
    dead = counted(done.unreadable, "message cannot be read: it is a dead letter", _DEAD_LETTERS)
    unreadable = f"; {dead}" if done.unreadable else ""
    print(f"{counted(done.rows, 'row')} of {counted(done.segments, 'segment')}{unreadable}")
    return 0


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; expected one such as 2025-01-31") from None


def _say(text: str) -> None:
    sys.stderr.write(f"deploytrail rehydrate: {text}\n")
