"""Callers who never come to the point cost the gateway neither memory nor connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from deploytrail.gateway import bodies, connections
from deploytrail.gateway.app import create_app
from deploytrail.gateway.connections import Connection
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.settings import Settings
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.own_time import quickest

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: gateway\r\n"
EVENT = b'{"event_type":"started","deployment_id":"d","region":"r","environment":"e","service":"s"}'
# Within it a connection ends that has so long as `port` says, whatever else the machine does; by default it has 15 s.
SOON = 8.0


def app() -> Starlette:
    return create_app(Settings(), MemoryPublisher())


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server as `deploytrail gateway` has it, that waits less long."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.8)
    with serving() as found:
        yield found


@contextlib.contextmanager
def serving() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app(), http=Connection, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(60)
    listener.close()
    gc.collect()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 60)


def seconds_until_closed(caller: socket.socket, drip: bytes = b"") -> float:
    """How long the gateway keeps a connection on which so much comes ten times a second."""
    began = time.monotonic()
    caller.settimeout(0.1)
    with caller, contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 30:
            try:
                if not caller.recv(65536):
                    break
            except TimeoutError:
                caller.sendall(drip)
    return time.monotonic() - began


@pytest.mark.requirement("M8.5")
@pytest.mark.parametrize(
    ("said", "drip"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (HEAD, b"X"),
        (HEAD + b"Content-Length: 9000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["nothing", "empty lines", "a slow head", "a slow body", "a slow chunked body"],
)
def test_a_caller_who_does_not_come_to_the_point_loses_his_connection(port: int, said: bytes, drip: bytes) -> None:
    def kept() -> float:
        caller = connect(port)
        caller.sendall(said)
        return seconds_until_closed(caller, drip)

    assert quickest(kept, at_most=SOON, times=3) < SOON


def test_a_second_request_has_no_more_time_than_the_first(port: int) -> None:
    def kept() -> float:
        caller = connect(port)
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
        caller.sendall(HEAD)
        return seconds_until_closed(caller, b"X")

    assert quickest(kept, at_most=SOON, times=3) < SOON


@pytest.mark.parametrize("start", [b"GET /", HEAD + b"X: "], ids=["address", "header"])
def test_a_head_without_end_is_refused(port: int, start: bytes) -> None:
    sent = 0
    with connect(port) as caller, contextlib.suppress(ConnectionError):
        caller.sendall(start)
        for _ in range(1000):
            caller.sendall(b"a" * 10_000)
            sent += 10_000

    assert sent < 8_000_000


def test_who_takes_his_time_within_bounds_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head in two parts, a body in three, and another request behind it: both take longer than each may."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 3.0)
    monkeypatch.setattr(connections, "BODY_SECONDS", 6.0)
    with serving() as port, connect(port) as caller:
        for _ in range(2):
            for part in (
                *(HEAD, b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(EVENT)),
                *(EVENT[:10], EVENT[10:20], EVENT[20:]),
            ):
                caller.sendall(part)
                time.sleep(0.7)
            answer = caller.recv(65536)

            assert answer.startswith(b"HTTP/1.1 202 "), answer


def test_a_refusal_reaches_who_is_still_sending(port: int) -> None:
    body = b"x" * (4 << 20)
    with connect(port) as caller:
        caller.sendall(HEAD + b"Authorization: Bearer wrong\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")


def bodies_on_their_way(sent: int, each: int) -> list[int]:
    """What is answered to requests, of which each has sent so much before all of them go away."""

    async def all_of_them() -> list[int]:
        served, statuses, gone = app(), [], asyncio.Event()
        waiting = 0

        async def one() -> None:
            parts = [{"type": "http.request", "body": b"x" * each, "more_body": True}]

            async def receive() -> Any:
                nonlocal waiting
                if parts:
                    return parts.pop()
                waiting += 1
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "headers": []}
            await served(scope | {"client": ("127.0.0.1", 1)}, receive, send)

        running = [asyncio.create_task(one()) for _ in range(sent)]
        async with asyncio.timeout(60):
            while waiting + len(statuses) < sent:
                await asyncio.sleep(0.01)
        gone.set()
        await asyncio.gather(*running)
        return statuses

    return asyncio.run(all_of_them())


@pytest.mark.requirement("M8.5")
def test_bodies_of_all_callers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_READING", 1_000_000)
    large = bodies_on_their_way(20, 100_000)
    small = bodies_on_their_way(20, bodies.ALWAYS_READ)
    again = bodies_on_their_way(10, 100_000)

    assert (large.count(429), large.count(400)) == (10, 10)
    assert (small, again) == ([400] * 20, [400] * 10)


def test_a_caller_who_goes_away_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    assert bodies_on_their_way(1, 10) == [400]
    assert caplog.records == []


def test_a_form_of_too_many_fields_is_refused() -> None:
    client = TestClient(app(), client=("127.0.0.1", 1))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/webhooks/alertmanager", content="&".join(["a=1"] * 101), headers=form)

    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "the form cannot be read: Max number of fields exceeded",
    )
