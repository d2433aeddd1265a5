"""Serve one folder on one port until SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.exit_codes import UNAVAILABLE

from deploytrail_local import ports
from deploytrail_local.clickhouse_server.engine import Engine
from deploytrail_local.clickhouse_server.server import Server, say
from deploytrail_local.clickhouse_server.users import read_users


def main(argv: list[str]) -> int:
    """`FOLDER PORT`; exit code 0 after a clean stop. DEPLOYTRAIL_CLICKHOUSE_USERS: a users.xml; without it, anyone."""
    folder, port = Path(argv[0]), int(argv[1])
    named, config = (os.environ.get(f"DEPLOYTRAIL_CLICKHOUSE_{name}") for name in ("USERS", "CONFIG"))
    if not ports.is_free(port):
        say(f"port {port} is in use; free it or set another one in DEPLOYTRAIL_CLICKHOUSE_URL")
        return UNAVAILABLE
    try:
        users = read_users(Path(named)) if named else None
        engine = Engine(folder, Path(config) if config else None)
    except ConfigurationError as error:
        say(str(error))
        return UNAVAILABLE
    server = Server((ports.LOOPBACK, port), engine, users)

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=server.watch, name="watch", daemon=True).start()
    say(f"ready on {ports.LOOPBACK}:{port}, ClickHouse {engine.version}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    if not server.drain():
        say("a query did not stop in time; what was acknowledged is on disk")
        os._exit(1)
    engine.close()
    os._exit(0)  # threads of idle connections would meet an engine that is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
