"""A webhook that takes pages, and says who acknowledged them."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploytrail_local import ports


class Receiver:
    """Answers with `statuses` in turn, the last one for good; keeps what it was sent. Asked by GET, it says who
    acknowledged."""

    def __init__(self, *statuses: int) -> None:
        self.pages: list[dict[str, Any]] = []
        self.attempts = 0
        self.acknowledged: dict[str, str] = {}
        self._statuses = list(statuses) or [202]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.attempts += 1
                status = outer._statuses.pop(0) if len(outer._statuses) > 1 else outer._statuses[0]
                if status < 300:
                    outer.pages.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                [key] = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["dedup_key"]
                body = json.dumps({"acknowledged_by": outer.acknowledged.get(key)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
        self.url = f"http://{ports.LOOPBACK}:{self._server.server_address[1]}/pages"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def has(self, key: str) -> bool:
        return (key, "trigger") in self.keys()

    def keys(self) -> list[tuple[str, str]]:
        return [(page["dedup_key"], page["action"]) for page in self.pages]
