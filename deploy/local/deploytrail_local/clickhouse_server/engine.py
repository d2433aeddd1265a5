"""The engine in this process: one folder, one connection a request.

INSERT data reaches the engine as a file in memory and `FROM INFILE`, never through chdb's own
streaming insert: that reports CHECK violations, failing views and a full disk as success.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_local.clickhouse_server.queries import Insert, Query, quote, quote_name, read_insert

WORKERS = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave."""

    data: bytes
    rows_read: int
    rows_written: int


class Engine:
    """The ClickHouse engine over a folder that it owns until `close`."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # A second engine on the same folder fails without saying why.
        self._lock_file = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"{folder} is in use by another ClickHouse; stop that one first") from None
        import chdb

        self._chdb: Any = chdb
        # With an underscore it would be ignored in silence.
        self._path = f"{folder / 'data'}?config-file={config}" if config else str(folder / "data")
        self._keep: Any = self._chdb.connect(self._path)  # without one open connection the engine is torn down
        self._places = threading.BoundedSemaphore(WORKERS)
        self._kill_lock = threading.Lock()
        self.version: str = self._keep.query("SELECT version()", "TSVRaw").bytes().decode().strip()
        self.timezone: str = self._keep.query("SELECT timezone()", "TSVRaw").bytes().decode().strip()

    def run(self, query: Query, query_id: str) -> Answer:
        """Run one query; the engine's exception text comes as RuntimeError."""
        with self._places, self._connection() as connection:
            if query.database:
                connection.query(f"USE {quote_name(query.database)}")
            # Query ids do not reach the embedded engine: this comment is how a query is found to be killed.
            settings = {"log_comment": query_id, **query.settings}
            connection.query("SET " + ", ".join(f"{name}={quote(value)}" for name, value in settings.items()))
            if query.readonly is not None:
                connection.query(f"SET readonly={query.readonly}")
            insert = read_insert(query.text)
            if insert is not None:
                return self._insert(connection, insert, query)
            result = connection.query(query.text, query.format, params=query.parameters)
            return Answer(result.bytes() or b"", result.rows_read(), result.rows_written())

    def kill(self, query_id: str) -> None:
        """Stop a query of `run`, which then raises."""
        with self._kill_lock:
            self._keep.query(f"KILL QUERY WHERE Settings['log_comment'] = {quote(query_id)} ASYNC", "TSV")

    def kill_all(self) -> None:
        """Stop every query."""
        with self._kill_lock:
            self._keep.query("KILL QUERY WHERE query NOT LIKE 'KILL%' ASYNC", "TSV")

    def close(self) -> None:
        """Let go of the folder. No query may be running: the engine would crash."""
        self._keep.close()
        self._lock_file.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        # A connection of its own for each request: USE, SET and parameters stay in it.
        connection = self._chdb.connect(self._path)
        try:
            yield connection
        finally:
            connection.close()

    @staticmethod
    def _insert(connection: Any, insert: Insert, query: Query) -> Answer:
        if not insert.data:
            return Answer(b"", 0, 0)
        descriptor = os.memfd_create("insert")
        try:
            rest = insert.data
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            text = f"{insert.head} FROM INFILE '/proc/self/fd/{descriptor}' {insert.settings} FORMAT {insert.format}"
            result = connection.query(text, query.format, params=query.parameters)
            return Answer(b"", 0, result.rows_written())
        finally:
            os.close(descriptor)
