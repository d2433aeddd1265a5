"""`deploytrail sink clickhouse`."""

from __future__ import annotations

import logging
import time

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.lock import SWAP_LOCK, is_held
from deploytrail_sinks.clickhouse.migrate import migrate_as_set
from deploytrail_sinks.clickhouse.sink import ClickHouseSink
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.serving import serve

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    quieten_drivers()
    return serve("clickhouse", argv, _make)


def quieten_drivers() -> None:
    """Errors alone from the client's libraries: they warn at each attempt of what is said here once."""
    for name in ("urllib3", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _make(settings: Settings) -> ClickHouseSink:
    prepare(settings)
    return ClickHouseSink(settings)


def prepare(settings: Settings, patience: float = 60.0) -> None:
    """Bring the tables up to date, waiting a while for a ClickHouse that is starting too."""
    deadline = time.monotonic() + patience
    said = False
    while True:
        try:
            migrate_as_set(settings, patience)
            wait_for_swap(settings)
            return
        except RetryLater as error:
            if time.monotonic() > deadline:
                raise
            if not said:
                log.warning("%s; trying again for %.0f s", error, patience)
                said = True
            time.sleep(0.5)


def wait_for_swap(settings: Settings) -> None:
    """RetryLater while a rebuild puts its tables in place: what is inserted then would be gone."""
    if is_held(connect(settings), f"{settings.clickhouse_database}.{SWAP_LOCK}"):
        raise RetryLater(f"a rebuild of {settings.clickhouse_database} is swapping tables")
