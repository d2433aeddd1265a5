"""A server that answers as the gateway does, and as it does in trouble."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, Any]], int], tuple[int, dict[str, Any]]]


class Received:
    """What a server was sent: (headers, events) of each request, and how many connections were made."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
        self.connections = 0
        self.url = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, events in self.requests for event in events]


_IDS = ("event_id", "approval_id", "signal_id", "observation_id")


def accept(events: list[dict[str, Any]], _request: int) -> tuple[int, dict[str, Any]]:
    now = time.time_ns() // 1000
    ids = [next(event[name] for name in _IDS if name in event) for event in events]
    return 202, {"accepted": len(events), "received_at": now, "ids": ids}


@contextmanager
def gateway(answer: Answer = accept, context: ssl.SSLContext | None = None) -> Iterator[Received]:
    """A gateway on localhost; over TLS where there is a context."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            received.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events = json.loads(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            status, body = answer(events, len(received.requests))
            received.requests.append(({**dict(self.headers), "path": self.path, "status": str(status)}, events))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.url = f"http://127.0.0.1:{server.server_port}"
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        received.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
