"""A way to a server that breaks off: after so many bytes of answers every connection is closed. Or it falls silent."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from support.relay import Relay


class BreakingProxy(Relay):
    """Passes on what comes."""

    def __init__(self, url: str, answers: int) -> None:
        self._left = answers
        self.passed = 0  # bytes of answers so far
        self._lock = threading.Lock()
        self.silent = threading.Event()  # from then on connections stay open, and nothing passes any more
        parts = urlsplit(url)
        super().__init__(parts.hostname or "", parts.port or 0)
        self.url = f"http://127.0.0.1:{self.port}"

    def _pass(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with source, sink:
            with suppress(OSError):
                while data := source.recv(4096):
                    if self.silent.is_set():
                        continue
                    if answers and not self._lets_pass(len(data)):
                        break
                    sink.sendall(data)
            for end in (source, sink):  # or the other thread, which reads from it, would keep it open
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _lets_pass(self, count: int) -> bool:
        with self._lock:
            self._left -= count
            self.passed += count
            return self._left >= 0
