"""`deploytrail agent`: sends what is spooled on this host, and takes events on a socket and on localhost.

For a host, or as a sidecar. Deploy scripts then need no DEPLOYTRAIL_URL: what they spool is sent
from here, also when their process is long gone; a shell needs nothing but curl.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploytrail_schemas.codec import encode
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_value
from deploytrail_schemas.settings import Settings

from deploytrail import _agent_http, _clock, _time_sync
from deploytrail._backlog import waiting
from deploytrail._sender import Sender, transport_for
from deploytrail._spool import Spool

if TYPE_CHECKING:
    import socketserver
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

SOCKET = Path("/run/deploytrail/agent.sock")
PORT = 8471
# How soon a spool that another process wrote to is looked at, and how often the clock is measured; seconds.
_LOOK, _MEASURE = 0.2, 60.0
_LAST_TRY = 5.0
# The spool numbers what it keeps, of whatever kind; a kind without a field for its number has it in a map, as text.
_NUMBERED_IN = {RecordType.SIGNAL: "labels", RecordType.APPROVAL: "tags", RecordType.OBSERVATION: "tags"}


class Agent:
    """Spools, each with its sender; the first also keeps what the agent itself is told."""

    def __init__(self, settings: Settings, spools: list[Path]) -> None:
        self.settings = settings
        self.spool = Spool(str(spools[0]), settings.spool_max_bytes, settings.spool_max_events)
        self.clock: _time_sync.ClockError | None = None
        self._senders = {folder: Sender(settings, folder, transport_for) for folder in spools}
        self._boot_id = _clock.boot_id()
        self._stored = 0
        self._looked: dict[Path, tuple[float, ...]] = {}

    def usual(self, kind: RecordType) -> dict[str, Any]:
        """What a record that the agent is told of may leave out."""
        known: dict[str, Any] = {kind.id_field: uuid7(), "occurred_at": _clock.now(), "producer_id": "agent"}
        known |= {name: text for name in ("region", "environment", "service") if (text := getattr(self.settings, name))}
        if kind is RecordType.DEPLOYMENT_EVENT:
            known |= {"source": "agent", "clock_state": _clock.clock_state()}
        return known

    def store(self, kind: RecordType, values: list[dict[str, Any]]) -> list[str]:
        """Keep records, fsynced, and have them sent; their ids. OSError where they cannot be kept."""
        for done, value in enumerate(values):
            try:
                self.spool.append(self._encoder(kind, value), droppable=value.get("event_type") == "progressed")
            except OSError as error:
                why = f"{error.strerror or error}; {done} of {len(values)} are kept" if done else str(error)
                raise OSError(why) from error
            self._stored += 1
        self._senders[Path(self.spool.folder)].wake()
        return [value[kind.id_field] for value in values]

    def _encoder(self, kind: RecordType, value: dict[str, Any]) -> Callable[[str, int], bytes]:
        value = redact_value(value)

        def encoded(producer: str, seq: int) -> bytes:
            return encode(kind, value | {"producer_id": producer} | _numbered(kind, value, seq))

        return encoded

    def look(self) -> None:
        """Wake the senders of spools that somebody wrote to."""
        for folder, sender in self._senders.items():
            seen = tuple(sorted(path.stat().st_mtime_ns for path in folder.glob("*/*.segment")))
            if seen and seen != self._looked.get(folder):
                self._looked[folder] = seen
                sender.wake()

    def measure(self) -> None:
        """Ask what disciplines the clock how far it may be off; the next records carry it."""
        self.clock = _time_sync.measure()
        for sender in self._senders.values():
            sender.clock = self.clock.header() if self.clock else ""

    def waiting(self) -> int:
        """How many events are not delivered."""
        return sum(waiting(folder) for folder in self._senders)

    def metrics(self) -> str:
        """Prometheus text."""
        lines = [
            "# HELP deploytrail_agent_waiting_events Events in the spools that are not delivered.",
            "# TYPE deploytrail_agent_waiting_events gauge",
            f"deploytrail_agent_waiting_events {self.waiting()}",
            "# HELP deploytrail_agent_stored_events_total Events that the agent was told of over HTTP.",
            "# TYPE deploytrail_agent_stored_events_total counter",
            f"deploytrail_agent_stored_events_total {self._stored}",
        ]
        if self.clock is not None:
            lines += [
                "# HELP deploytrail_agent_clock_uncertainty_seconds How far the clock may be off.",
                "# TYPE deploytrail_agent_clock_uncertainty_seconds gauge",
                f"deploytrail_agent_clock_uncertainty_seconds {self.clock.uncertainty / 1e6}",
            ]
        return "\n".join(lines) + "\n"

    def stop(self, seconds: float) -> int:
        """Try for so long to deliver what is there; how many events are left."""
        deadline = time.monotonic() + seconds
        while (left := self.waiting()) and time.monotonic() < deadline:
            for sender in self._senders.values():
                sender.wake()
            time.sleep(0.05)
        for sender in self._senders.values():
            sender.stop()
        return left


def _numbered(kind: RecordType, value: dict[str, Any], seq: int) -> dict[str, Any]:
    if kind is RecordType.DEPLOYMENT_EVENT:
        return {"producer_seq": seq}
    place = _NUMBERED_IN[kind]
    return {place: {**value.get(place, {}), "producer_seq": str(seq)}}


def main(argv: list[str]) -> int:
    """Run until SIGTERM; 0 then, 69 where a socket or a port cannot be had, 78 where a setting is wrong."""
    options = _options(argv)
    try:
        settings = Settings.load()
    except ConfigurationError as error:
        sys.stderr.write(f"deploytrail agent: {error}\n")
        return CONFIG
    if not settings.url:
        sys.stderr.write("deploytrail agent: DEPLOYTRAIL_URL says where to send; set it to https://… or kafka://…\n")
        return CONFIG
    spools = options.spool or [settings.spool]
    settings = replace(settings, spool=spools[0].expanduser())
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        agent = Agent(settings, [folder.expanduser() for folder in spools])
        servers = _listen(agent, options)
    except OSError as error:
        sys.stderr.write(f"deploytrail agent: {error}\n")
        return UNAVAILABLE
    _run(agent, stopping)
    for server in servers:
        server.shutdown()
        server.server_close()
    if options.socket is not None:
        options.socket.unlink(missing_ok=True)
    left = agent.stop(options.last_try)
    if left:
        waiting = counted(left, "event is not delivered; it waits", "events are not delivered; they wait")
        sys.stderr.write(f"deploytrail agent: {waiting} in the spool\n")
    return 0


def _run(agent: Agent, stopping: threading.Event) -> None:
    measured = float("-inf")
    while not stopping.is_set():
        if time.monotonic() - measured > _MEASURE:
            agent.measure()
            measured = time.monotonic()
        agent.look()
        stopping.wait(_LOOK)


def _listen(agent: Agent, options: argparse.Namespace) -> list[socketserver.BaseServer]:
    handler = _agent_http.handler_of(agent.store, agent.usual, agent.metrics)
    servers: list[socketserver.BaseServer] = []
    said = []
    if options.socket is not None:
        servers.append(_agent_http.listen_unix(options.socket, handler))
        said.append(str(options.socket))
    if options.port:
        servers.append(_local(options.port, handler))
        said.append(f"127.0.0.1:{options.port}")
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    sys.stderr.write(f"deploytrail agent: ready{' on ' if said else ''}{' and '.join(said)}\n")
    sys.stderr.flush()
    return servers


def _local(port: int, handler: type[BaseHTTPRequestHandler]) -> socketserver.BaseServer:
    try:
        return _agent_http.LocalServer(("127.0.0.1", port), handler)
    except OSError as error:
        why = f"port {port} of 127.0.0.1 cannot be had ({error.strerror}); free it, or give --port"
        raise OSError(why) from error


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploytrail agent", description=(__doc__ or "").partition("\n\n")[2])
    add = parser.add_argument
    add("--spool", type=Path, action="append", metavar="FOLDER", help="default: DEPLOYTRAIL_SPOOL; may be given often")
    add("--socket", type=Path, metavar="PATH", help=f"Unix socket; default: {SOCKET} where that folder is ours")
    add("--port", type=int, default=PORT, help=f"port on 127.0.0.1; 0: none; default: {PORT}")
    add("--last-try", type=float, default=_LAST_TRY, metavar="SECONDS", help="for delivery, at the end")
    options = parser.parse_args(argv)
    if options.socket is None and os.access(SOCKET.parent, os.W_OK):
        options.socket = SOCKET
    return options
