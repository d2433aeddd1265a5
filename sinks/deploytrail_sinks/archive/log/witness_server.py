"""A small HTTP server around a witness."""

from __future__ import annotations

import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deploytrail_schemas.errors import DeploytrailError

from deploytrail_sinks.archive.log.notes import NOTE_LIMIT
from deploytrail_sinks.archive.log.witness import Answer, Witness

log = logging.getLogger(__name__)
_BODY_LIMIT = NOTE_LIMIT + 4096
_SECONDS = 20  # that a client may take to send its request


def server(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """A server that answers POST /add-checkpoint, bound and not yet serving; port 0: any free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _SECONDS

        def log_message(self, *_: object) -> None:
            return None

        def do_POST(self) -> None:
            if self.path != "/add-checkpoint":
                self._answer(Answer(404, "not found\n"))
                return
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdigit() or int(length) > _BODY_LIMIT:
                self.close_connection = True
                self._answer(Answer(400, f"expected Content-Length of at most {_BODY_LIMIT}\n"))
                return
            body = self.rfile.read(int(length))
            try:
                self._answer(witness.add_checkpoint(body))
            except DeploytrailError as error:
                log.error("%s", error)
                self._answer(Answer(503, "the checkpoint cannot be remembered now\n"))

        def do_GET(self) -> None:
            self._answer(Answer(200, "ok\n") if self.path == "/healthz" else Answer(404, "not found\n"))

        def _answer(self, answer: Answer) -> None:
            data = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer((host, port), Handler)
