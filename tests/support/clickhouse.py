"""The real ClickHouse engine as a process of a test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploytrail_local import ports, processes


class ClickHouseProcess:
    """The embedded server on a free port; `kill` and `start` keep folder and port."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._env = None if env is None else {**os.environ, **env}
        self.port = ports.free_port()
        self.url = f"http://{ports.LOOPBACK}:{self.port}"

    def start(self) -> ClickHouseProcess:
        """Start it and wait until it answers."""
        log = self.folder / "clickhouse.log"
        argv = [sys.executable, "-m", "deploytrail_local.clickhouse_server", str(self.folder / "data"), str(self.port)]
        self.process = processes.spawn(argv, log=log, env=self._env)
        if not processes.wait_until(lambda: ports.answers(self.port) or self.process.poll() is not None, seconds=90):
            raise AssertionError("ClickHouse did not answer within 90 s")
        assert self.process.poll() is None, processes.tail(log)
        return self

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return processes.stop(self.process, grace=60.0)

    def __enter__(self) -> ClickHouseProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
