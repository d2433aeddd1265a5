"""One at a time: a lock in ClickHouse itself, for what changes tables.

The lock is a table: creating it fails where it exists, which decides between two that come at once. Its
comment says who holds it and since when; the holder renews that while it works. One that was not renewed
for a minute is taken over by renaming it to a name made of what was seen, so that of two that do so at
once the second one fails, and nobody takes over a lock that was taken meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import RetryLater

SWAP_LOCK = "swap_lock"  # of a rebuild: while it is held, no sink starts
STALE_SECONDS = 60
RENEW_SECONDS = 10.0
_ALREADY_EXISTS = 57
_UNKNOWN_TABLE = 60


@contextlib.contextmanager
def lock(client: Client, table: str, patience: float) -> Iterator[None]:
    """Hold `table` (database.name) for a while; RetryLater where another holds it longer than `patience` seconds.

    The client is used in a second thread too. Times are ClickHouse's, so that hosts agree.
    """
    mine = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    deadline = time.monotonic() + patience
    while not _take(client, table, mine):
        holder = _holder(client, table)
        if holder is not None and holder[1] > STALE_SECONDS:
            _take_over(client, table, holder[0])
            continue
        if time.monotonic() > deadline:
            raise RetryLater(f"{table} is held by {holder[0] if holder else 'another'}; wait until it has ended")
        time.sleep(0.2)
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(client, table, mine, done), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        client.command(f"DROP TABLE IF EXISTS {table} SYNC")


def is_held(client: Client, table: str) -> bool:
    """Whether somebody holds it who was alive a minute ago."""
    holder = _holder(client, table)
    return holder is not None and holder[1] <= STALE_SECONDS


def _take(client: Client, table: str, mine: str) -> bool:
    now = client.command("SELECT toUnixTimestamp(now())")
    try:
        client.command(f"CREATE TABLE {table} (nothing UInt8) ENGINE = Memory COMMENT '{mine} {now}'")
    except ClickHouseError as error:
        if getattr(error, "code", None) == _ALREADY_EXISTS:
            return False
        raise
    return True


def _holder(client: Client, table: str) -> tuple[str, int] | None:
    """Who holds it, and seconds since it was renewed; None where nobody does."""
    database, _, name = table.partition(".")
    question = (
        "SELECT splitByChar(' ', comment)[1], toUnixTimestamp(now()) - toUInt32OrZero(splitByChar(' ', comment)[2]) "
        "FROM system.tables WHERE database = {d:String} AND name = {t:String}"
    )
    rows = client.query(question, parameters={"d": database, "t": name}).result_rows
    return (str(rows[0][0]), int(rows[0][1])) if rows else None


def _take_over(client: Client, table: str, holder: str) -> None:
    gone = f"{table}_gone_{holder.rpartition('/')[2]}"
    try:
        client.command(f"RENAME TABLE {table} TO {gone}")
    except ClickHouseError as error:
        if getattr(error, "code", None) in (_ALREADY_EXISTS, _UNKNOWN_TABLE):
            return  # somebody else was first
        raise
    client.command(f"DROP TABLE IF EXISTS {gone} SYNC")


def _renew(client: Client, table: str, mine: str, done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        with contextlib.suppress(ClickHouseError, OSError):
            now = client.command("SELECT toUnixTimestamp(now())")
            client.command(f"ALTER TABLE {table} MODIFY COMMENT '{mine} {now}'")
