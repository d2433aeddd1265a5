"""A way to Kafka on which the first message of a producer is refused as a new leader would refuse it, the second taken.

While partitions change their leader a broker may hear of it between two requests of one producer: it answers the
first "not mine", and takes the second. Here the first is sent to a partition that there is not, once the second has
come, too.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

PRODUCE = 0  # https://kafka.apache.org/protocol.html#protocol_api_keys
Change = Callable[[bytes], list[bytes]]
NOWHERE = struct.pack(">i", 999)


class RefusedFirst:
    """Listens on a free port of this machine. `topic`: whose first request is refused."""

    def __init__(self, broker: str, topic: str) -> None:
        host, _, port = broker.partition(":")
        self._broker = (host, int(port))
        self._name = bytes([len(topic) + 1]) + topic.encode() + b"\x02"  # and one partition behind it
        self._held: bytes | None = None
        self._lock = threading.Lock()
        self.holds, self.refused = threading.Event(), threading.Event()  # the first has come, and the second behind it
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> RefusedFirst:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._broker, timeout=30)
            except OSError:
                return
            broker.settimeout(None)
            for source, sink, change in ((client, broker, self._request), (broker, client, self._answer)):
                threading.Thread(target=self._pass, args=(source, sink, change), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, change: Change) -> None:
        with source, sink, suppress(OSError, EOFError), source.makefile("rb") as stream:
            while size := stream.read(4):
                frame = stream.read(struct.unpack(">i", size)[0])
                for one in change(frame):
                    sink.sendall(struct.pack(">i", len(one)) + one)

    def _request(self, frame: bytes) -> list[bytes]:
        with self._lock:
            at = frame.find(self._name)
            if struct.unpack(">h", frame[:2])[0] != PRODUCE or at < 0 or self.refused.is_set():
                return [frame]
            if self._held is None:
                self._held = frame
                self.holds.set()
                return []
            at += len(self._name)
            self.refused.set()
            return [self._held[:at] + NOWHERE + self._held[at + 4 :], frame]

    def _answer(self, frame: bytes) -> list[bytes]:
        """Where brokers are called by their addresses, ours is said."""
        mine = int(self.bootstrap.rpartition(":")[2])
        return [frame.replace(_address(self._broker[1]), _address(mine))]


def _address(port: int) -> bytes:
    return b"127.0.0.1" + struct.pack(">i", port)
