"""Servers answer at once: an answer in two writes does not wait for the acknowledgement of the first."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from deploytrail.gateway import serve_command
from deploytrail.kubernetes import admission_command
from deploytrail_schemas.settings import Settings

LISTENERS: dict[str, Callable[[], socket.socket]] = {
    "gateway": lambda: serve_command._listen(Settings(gateway_port=0))[0],
    "admission": lambda: admission_command._listen("127.0.0.1", 0),
}


@pytest.mark.parametrize("server", LISTENERS)
def test_connections_send_small_answers_at_once(server: str) -> None:
    with (
        LISTENERS[server]() as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
