"""A way to a server that breaks off: after so many bytes of answers every connection is closed. Or it falls silent."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class BreakingProxy:
    """Listens on a free port of this machine, and passes on what comes."""

    def __init__(self, url: str, answers: int) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 0)
        self._left = answers
        self.passed = 0  # bytes of answers so far
        self._lock = threading.Lock()
        self.silent = threading.Event()  # from then on connections stay open, and nothing passes any more
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> BreakingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, timeout=30)
            except OSError:
                return
            for source, sink, counts in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, sink), kwargs={"counts": counts}, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, *, counts: bool) -> None:
        with source, sink:
            with suppress(OSError):
                while data := source.recv(4096):
                    if self.silent.is_set():
                        continue
                    if counts and not self._lets_pass(len(data)):
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
