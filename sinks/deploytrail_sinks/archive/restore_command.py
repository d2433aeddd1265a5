"""`deploytrail archive restore`: an empty ClickHouse filled from the archive alone."""

from __future__ import annotations

import argparse
import sys

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

EXIT_FLAWED = 1


def main(argv: list[str]) -> int:
    """Exit code 0 restored, 1 an object is damaged, 69 ClickHouse or the store is away, 78 a setting is wrong."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from deploytrail_sinks.archive.restore import restore
    from deploytrail_sinks.archive.segment import SegmentError
    from deploytrail_sinks.archive.store import open_store
    from deploytrail_sinks.clickhouse.away import in_words
    from deploytrail_sinks.clickhouse.serve import quieten_drivers

    parser = argparse.ArgumentParser(
        prog="deploytrail archive restore",
        description="Fill the empty database of DEPLOYTRAIL_CLICKHOUSE_URL from the archive. Kafka is not needed.",
    )
    parser.add_argument(
        "--continue", dest="again", action="store_true", help="go on after a restore that was cut short"
    )
    options = parser.parse_args(argv)
    quieten_drivers()
    try:
        settings = Settings.load()
        done = restore(open_store(settings.archive), settings, again=options.again)
    except ConfigurationError as error:
        code, text = CONFIG, str(error)
    except SegmentError as error:
        code, text = EXIT_FLAWED, str(error)
    except DeploytrailError as error:
        code, text = UNAVAILABLE, str(error)
    except (ClickHouseError, OSError) as error:
        code, text = UNAVAILABLE, redact_text(in_words(settings.clickhouse_url, error))
    else:
        messages = counted(done.messages, "message")
        print(f"{messages} of {counted(done.partitions, 'partition')} {'is' if done.messages == 1 else 'are'} restored")
        return 0
    sys.stderr.write(f"deploytrail archive: {text}\n")
    return code
