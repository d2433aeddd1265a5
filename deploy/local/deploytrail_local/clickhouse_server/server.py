"""HTTP in front of the engine: what clickhouse-connect, curl and Grafana's client need of it."""

from __future__ import annotations

import gzip
import json
import select
import socket
import sys
import threading
import time
import uuid
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from deploytrail_local.clickhouse_server import errors
from deploytrail_local.clickhouse_server.engine import Answer, Engine
from deploytrail_local.clickhouse_server.errors import RequestError
from deploytrail_local.clickhouse_server.queries import Query, decompress, read_query
from deploytrail_local.clickhouse_server.users import User, Users

MAX_BODY_BYTES = 256 << 20
_DRAIN_SECONDS = 3.0
# Grafana's client asks this first, in Native with block information, which the library cannot give.
_PREFLIGHT = b"SELECT displayName(), version(), revision(), timezone()"


class Server(ThreadingHTTPServer):
    """One listener; a thread a connection; queries are killed when their client goes away."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], engine: Engine, users: Users | None = None) -> None:
        super().__init__(address, Handler)
        self.users = users
        self.engine = engine
        self.draining = threading.Event()
        self._running: dict[str, socket.socket] = {}
        self._running_lock = threading.Lock()

    def watch(self) -> None:
        """Kill the queries of clients that have gone; runs until the server drains."""
        while not self.draining.wait(0.25):
            with self._running_lock:
                running = {connection.fileno(): query_id for query_id, connection in self._running.items()}
            if not running:
                continue
            poll = select.poll()
            for descriptor in running:
                if descriptor >= 0:
                    poll.register(descriptor, select.POLLRDHUP)
            for descriptor, _ in poll.poll(0):
                self.engine.kill(running[descriptor])

    def execute(self, query: Query, query_id: str, connection: socket.socket) -> Answer:
        """Run a query while its client is watched."""
        with self._running_lock:
            self._running[query_id] = connection
        try:
            return self.engine.run(query, query_id)
        finally:
            with self._running_lock:
                del self._running[query_id]

    def drain(self) -> bool:
        """Wait for running queries, then kill them; whether none is left."""
        self.draining.set()
        for kill in (False, True):
            if kill:
                self.engine.kill_all()
            deadline = time.monotonic() + _DRAIN_SECONDS
            while time.monotonic() < deadline:
                with self._running_lock:
                    if not self._running:
                        return True
                time.sleep(0.02)
        return False


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "deploytrail-clickhouse"
    disable_nagle_algorithm = True
    rbufsize = 1 << 20
    wbufsize = 1 << 16

    def log_message(self, *_: Any) -> None:
        """Quiet: the client is told, and errors go to standard error by themselves."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        if url.path in ("/ping", "/replicas_status") or (not url.query and self.command != "POST"):
            self._reply(200, b"Ok.\n", {"Content-Type": "text/plain; charset=UTF-8"})
            return
        query_id = str(uuid.uuid4())
        user: User | None = None
        try:
            body = decompress(self._body(), self.headers.get("Content-Encoding", ""))
            if self.server.draining.is_set():
                raise RequestError(503, 0, "The server is shutting down.")
            query = read_query(url.query, body, self.headers.get("Content-Type", ""))
            if self.command != "POST" and query.readonly is None:
                # As the real server does: what a link can make a browser ask must not write.
                query = replace(query, readonly="2")
            if self.server.users is not None:
                user, query = self.server.users.admit(query, url.query, self.headers)
            self._run(query, query_id)
        except RequestError as error:
            self._fail(error.status, error.code, str(error), query_id)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:  # the engine raises RuntimeError, clients' bytes raise anything
            if user is not None and self.server.users is not None:
                self.server.users.failed(user)
            code, text = errors.parse(str(error))
            self._fail(errors.status_of(code), code, f"{text} (version {self.server.engine.version})", query_id)

    def _run(self, query: Query, query_id: str) -> None:
        began = time.perf_counter()
        if query.text.strip().startswith(_PREFLIGHT):
            answer = Answer(_preflight(self.server.engine), 1, 0)
        else:
            answer = self.server.execute(query, query_id, self.connection)
        summary = {
            "read_rows": answer.rows_read,
            "read_bytes": 0,
            "written_rows": answer.rows_written,
            "written_bytes": 0,
            "total_rows_to_read": 0,
            "result_rows": answer.rows_written,
            "result_bytes": len(answer.data),
            "elapsed_ns": int((time.perf_counter() - began) * 1e9),
        }
        kind = "application/json" if query.answer_format.startswith("JSON") else "text/plain"
        headers = {
            "Content-Type": f"{kind}; charset=UTF-8",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self.server.engine.timezone,
            "X-ClickHouse-Server-Display-Name": "deploytrail",
            "X-ClickHouse-Summary": json.dumps({name: str(value) for name, value in summary.items()}),
        }
        if query.gives_rows:  # for any other query clients would look for rows in an empty answer
            headers["X-ClickHouse-Format"] = query.answer_format
        data, encoding = _compress(answer.data, self.headers.get("Accept-Encoding", ""), urlsplit(self.path).query)
        if encoding:
            headers["Content-Encoding"] = encoding
        self._reply(200, data, headers)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            raise RequestError(413, 0, f"{length} bytes; at most {MAX_BODY_BYTES} are accepted")
        return self.rfile.read(length) if length else b""

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            total += size
            if total > MAX_BODY_BYTES:
                self.close_connection = True
                raise RequestError(413, 0, f"more than {MAX_BODY_BYTES} bytes")
            parts.append(self.rfile.read(size))
            self.rfile.readline(64)
        while self.rfile.readline(1024) not in (b"\r\n", b"\n", b""):
            pass  # trailers
        return b"".join(parts)

    def _fail(self, status: int, code: int, text: str, query_id: str) -> None:
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Exception-Code": str(code),
            "X-ClickHouse-Query-Id": query_id,
        }
        self._reply(status, (text + "\n").encode("utf-8", "replace"), headers)

    def _reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _compress(data: bytes, accepted: str, url_query: str) -> tuple[bytes, str]:
    if not data or "enable_http_compression=1" not in url_query:
        return data, ""
    names = {part.partition(";")[0].strip() for part in accepted.lower().split(",")}
    if "lz4" in names:
        import lz4.frame

        return lz4.frame.compress(data), "lz4"
    if "gzip" in names:
        return gzip.compress(data, 1), "gzip"
    return data, ""


def _preflight(engine: Engine) -> bytes:
    """The Native block that says revision 0: from then on the client reads plain Native."""

    def text(value: str) -> bytes:
        return bytes((len(value),)) + value.encode()

    columns = (
        ("displayName()", "String", text("deploytrail")),
        ("version()", "String", text(engine.version)),
        ("revision()", "UInt32", (0).to_bytes(4, "little")),
        ("timezone()", "String", text(engine.timezone)),
    )
    block = b"\x01\x00\x02\xff\xff\xff\xff\x00" + bytes((len(columns), 1))
    return block + b"".join(text(name) + text(kind) + b"\x00" + value for name, kind, value in columns)


def say(text: str) -> None:
    """One line on standard error."""
    print(f"clickhouse: {text}", file=sys.stderr, flush=True)
