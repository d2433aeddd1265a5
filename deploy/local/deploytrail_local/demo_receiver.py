"""A receiver of pages on loopback, as an on-call engineer's system would be."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from deploytrail_local.ports import LOOPBACK


class PageReceiver:
    """Keeps every page that it was sent; a context manager."""

    def __init__(self) -> None:
        self._pages: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="page-receiver")

    @property
    def url(self) -> str:
        """Where pages are to be sent."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/pages"

    @property
    def pages(self) -> list[dict[str, Any]]:
        """What was received so far."""
        with self._lock:
            return list(self._pages)

    def times_by_key(self) -> Counter[tuple[str, str]]:
        """How often each (dedup key, action) was received."""
        return Counter((str(page.get("dedup_key")), str(page.get("action", ""))) for page in self.pages)

    def __enter__(self) -> PageReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                page = json.loads(body)
                with receiver._lock:
                    receiver._pages.extend(page if isinstance(page, list) else [page])
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the demo says what arrived."""

        return Handler
