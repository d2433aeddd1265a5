"""Who has taken an incident, asked of an Alertmanager that answers whatever it likes."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.on_call.incidents import Action
from deploytrail_sinks.on_call.ledger import Incident, Status
from deploytrail_sinks.on_call.senders import Alertmanager
from support.values import NOON

INCIDENT = Incident("deployment_failed/shop-1", Status.OPEN, Action.TRIGGER, NOON)
SILENCED = [{"status": {"silencedBy": ["s1"]}}]
Answers = dict[str, tuple[int, Any]]
Start = Callable[[Answers], Alertmanager]


@pytest.fixture
def answering() -> Iterator[Start]:
    """An Alertmanager of these answers, status and JSON by the end of the path."""
    with ExitStack() as stack:

        def start(answers: Answers) -> Alertmanager:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, body = answers[urllib.parse.urlsplit(self.path).path.removeprefix("/api/v2")]
                    data = b"" if body is None else json.dumps(body).encode()
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

                def log_message(self, format: str, *args: object) -> None:
                    return None

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            return Alertmanager(f"http://127.0.0.1:{server.server_address[1]}")

        yield start


@pytest.mark.parametrize(
    ("answers", "by"),
    [
        ({"/alerts": (200, SILENCED), "/silence/s1": (200, {"createdBy": "grace"})}, "grace"),
        ({"/alerts": (200, SILENCED), "/silence/s1": (200, {"createdBy": ""})}, "somebody"),
        ({"/alerts": (200, SILENCED), "/silence/s1": (404, None)}, ""),
        ({"/alerts": (200, SILENCED), "/silence/s1": (200, None)}, ""),
        ({"/alerts": (200, SILENCED), "/silence/s1": (200, {})}, ""),
        ({"/alerts": (200, [{}, {"status": {}}, {"status": {"silencedBy": None}}])}, ""),
        ({"/alerts": (200, {"alerts": []})}, ""),
        ({"/alerts": (200, None)}, ""),
        ({"/alerts": (403, {"error": "a proxy lets nobody read"})}, ""),
        ({"/alerts": (302, None)}, ""),
    ],
)
def test_who_cannot_be_asked_has_no_word_for_it(answering: Start, answers: Answers, by: str) -> None:
    assert answering(answers).acknowledged(INCIDENT) == by


def test_who_is_away_is_asked_again(answering: Start) -> None:
    with pytest.raises(RetryLater):
        answering({"/alerts": (503, None)}).acknowledged(INCIDENT)
