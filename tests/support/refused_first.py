"""A way to Kafka on which the first message of a producer is refused as a new leader would refuse it, the second taken.

While partitions change their leader a broker may hear of it between two requests of one producer: it answers the
first "not mine", and takes the second. Here the first is sent to a partition that there is not, once the second has
come, too.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

from support.relay import Relay

PRODUCE = 0  # https://kafka.apache.org/protocol.html#protocol_api_keys
NOWHERE = struct.pack(">i", 999)


class RefusedFirst(Relay):
    """`topic`: whose first request is refused."""

    def __init__(self, broker: str, topic: str) -> None:
        self._name = bytes([len(topic) + 1]) + topic.encode() + b"\x02"  # and one partition behind it
        self._held: bytes | None = None
        self._lock = threading.Lock()
        self.holds, self.refused = threading.Event(), threading.Event()  # the first has come, and the second behind it
        host, _, port = broker.partition(":")
        super().__init__(host, int(port))
        self.bootstrap = f"127.0.0.1:{self.port}"

    def _pass(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        source.settimeout(None)
        with source, sink, suppress(OSError), source.makefile("rb") as stream:
            while size := stream.read(4):
                frame = stream.read(struct.unpack(">i", size)[0])
                for one in [self._answer(frame)] if answers else self._request(frame):
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

    def _answer(self, frame: bytes) -> bytes:
        """Where brokers are called by their addresses, ours is said."""
        return frame.replace(_address(self._server[1]), _address(self.port))


def _address(port: int) -> bytes:
    return b"127.0.0.1" + struct.pack(">i", port)
