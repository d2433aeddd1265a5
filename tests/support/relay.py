"""A way to a server on which a test may change what passes."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Relay(ABC):
    """Listens on a free port of this machine, and connects whoever comes with the server."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._listener.close()

    @abstractmethod
    def _pass(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        """Pass on what comes from one side, until it ends; `answers`: from the server's."""

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, timeout=30)
            except OSError:
                return
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass, args=(source, sink), kwargs={"answers": answers}, daemon=True
                ).start()
