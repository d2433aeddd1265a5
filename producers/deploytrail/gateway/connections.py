"""Connections of our servers: uvicorn's, with bounds for callers who never come to the point.

uvicorn ends a connection that is quiet behind an answer. One that is quiet before its first request,
or sends a head or a body byte by byte, it keeps; and httptools reads heads of any length.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0
BODY_SECONDS = 60.0
MOST_HEAD_BYTES = 64 << 10  # as h11 has it
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"  # RFC 6585, 5
)


class _Phase(Enum):
    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class Connection(HttpToolsProtocol):
    """Ends where a head is too long, or a head or a body takes too long."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._phase = _Phase.BETWEEN
        self._timed: _Phase | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's
        super().connection_made(transport)
        self._time(_Phase.HEAD, HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._time(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._phase is _Phase.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.transport.write(_TOO_LONG)
                self.transport.close()
                return
            self._time(_Phase.HEAD, HEAD_SECONDS)
        elif self._phase is _Phase.BODY:
            self._time(_Phase.BODY, BODY_SECONDS)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._time(None)
        else:  # empty lines before a request
            self._time(_Phase.HEAD, HEAD_SECONDS)

    def on_message_begin(self) -> None:
        self._phase, self._head_bytes = _Phase.HEAD, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._phase = _Phase.BODY
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._phase = _Phase.BETWEEN
        super().on_message_complete()

    def _time(self, phase: _Phase | None, seconds: float = 0.0) -> None:
        """From now on the connection has so long for a phase; one that is timed already goes on."""
        if phase is self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed, self._timer = phase, phase and self.loop.call_later(seconds, self.transport.close)
