"""The agent's ears: HTTP on a Unix socket and on localhost, light enough to run beside every service.

202 means: fsynced in the agent's spool. The routes and bodies are those of the gateway's /v1.

Whoever runs on this host may report; a page in a browser on this host may not, though it can post a
form to any port of localhost, or have its own name resolved to 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import stat
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.json_values import JsonError, Violation
from deploytrail_schemas.records import RecordType

from deploytrail import _reported
from deploytrail._reported import FORM, JSON, KINDS, MAX_BODY_BYTES, media_type
from deploytrail.gateway.anonymity import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Store = Callable[[RecordType, list[dict[str, Any]]], list[str]]

_IDLE_SECONDS = 30.0
_MOST_DIGITS = 12  # of a Content-Length
# What every browser of today sends with a POST, and no page can leave out: https://fetch.spec.whatwg.org/#origin-header
_BY_BROWSERS = ("Origin", "Sec-Fetch-Site")
_OVER_UNIX = "local"
_NOT_FOR_PAGES = "a page in a browser may not report; call it from a process, as 127.0.0.1 or localhost"


def handler_of(
    store: Store, usual: Callable[[RecordType], dict[str, Any]], metrics: Callable[[], str]
) -> type[http.server.BaseHTTPRequestHandler]:
    """A handler that stores what it is told.

    `store(kind, values)` returns their ids once they are fsynced, or raises OSError.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "deploytrail-agent", ""
        timeout = _IDLE_SECONDS
        wbufsize = 1 << 16  # an answer in one write: in two, the second would wait for the first's acknowledgement

        def do_GET(self) -> None:
            if self._is_of_a_page():
                self._problem(403, _NOT_FOR_PAGES)
            elif self.path == "/healthz":
                self._answer(200, b"ok\n", "text/plain")
            elif self.path == "/metrics":
                self._answer(200, metrics().encode(), "text/plain; version=0.0.4")
            else:
                self._problem(404, f"GET {self.path} is not served here")

        def do_POST(self) -> None:
            if self._is_of_a_page():
                self.close_connection = True
                self._problem(403, _NOT_FOR_PAGES)
                return
            body = self._body()
            if body is None:
                return
            kind = KINDS.get(self.path.partition("?")[0].removeprefix("/v1/"))
            called = media_type(self.headers.get("Content-Type", ""))
            if kind is None:
                self._problem(404, f"POST {self.path} is not served here; there are /v1/{', /v1/'.join(KINDS)}")
            elif called not in (JSON, FORM):
                self._problem(415, f"Content-Type is {called!r}; expected {JSON} or {FORM}")
            else:
                self._report(kind, called, body)

        def _report(self, kind: RecordType, called: str, body: bytes) -> None:
            try:
                values, wrong = _reported.check(
                    kind, _reported.read(kind, called, body), lambda given: usual(kind) | given
                )
            except JsonError as error:
                self._problem(413 if error.too_large else 400, error.detail)
                return
            if wrong:
                self._problem(422, f"{counted(len(wrong), 'violation')}; nothing was accepted", wrong)
                return
            try:
                ids = store(kind, values)
            except OSError as error:
                self._problem(503, f"the spool takes nothing more: {error.strerror or error}", retry=True)
                return
            self._answer(202, json.dumps({"accepted": len(ids), "ids": ids}).encode(), JSON)

        def _is_of_a_page(self) -> bool:
            """Whether a browser sends it, or it came by a name that is not of this host."""
            called = self.headers.get("Host", "")
            return any(name in self.headers for name in _BY_BROWSERS) or (
                self.client_address[0] != _OVER_UNIX and called != "" and not is_loopback(_without_port(called))
            )

        def _body(self) -> bytes | None:
            lengths = self.headers.get_all("Content-Length", [])
            length = lengths[0] if lengths else ""
            if "Transfer-Encoding" in self.headers or len(set(lengths)) != 1 or not _is_count(length):
                # Where such a body ends, nobody can say for sure: what follows it must not be read as a request.
                self.close_connection = True
                self._problem(411, "the request needs one Content-Length, and no Transfer-Encoding")
                return None
            if len(length) > _MOST_DIGITS or int(length) > MAX_BODY_BYTES:
                self.close_connection = True
                self._problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")
                return None
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True
                self._problem(400, "the body ends early")
                return None
            return body

        def _problem(self, status: int, detail: str, wrong: Sequence[Violation] = (), *, retry: bool = False) -> None:
            body: dict[str, Any] = {
                "type": "about:blank",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": detail,
            }
            if wrong:
                body["violations"] = [{"pointer": v.pointer, "detail": v.detail} for v in wrong]
            self._answer(status, json.dumps(body).encode(), "application/problem+json", retry=retry)

        def _answer(self, status: int, body: bytes, called: str, *, retry: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", called)
            self.send_header("Content-Length", str(len(body)))
            if retry:
                self.send_header("Retry-After", "2")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def address_string(self) -> str:
            return _OVER_UNIX

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet when well; what is wrong is in the answer."""

    return Handler


def _without_port(host: str) -> str:
    """The name or address of a Host header: [::1]:8471 → ::1."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away is nothing to tell of; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LocalServer(_Server, socketserver.TCPServer):
    """Localhost, over TCP."""

    allow_reuse_address = True
    request_queue_size = 128


class UnixServer(_Server, socketserver.UnixStreamServer):
    """A Unix socket that its user and group may use."""

    request_queue_size = 128

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, (_OVER_UNIX, 0)


def listen_unix(path: Path, handler: type[http.server.BaseHTTPRequestHandler]) -> UnixServer:
    """Serve on a socket; one that a dead agent left is replaced. OSError where another agent listens."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(f"another agent listens on {path}")
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o117)
    try:
        return UnixServer(str(path), handler)
    finally:
        os.umask(before)
