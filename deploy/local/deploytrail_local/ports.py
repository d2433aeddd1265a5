"""Ports of this machine: free ones, and whether one is taken."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below what systems hand out to clients (32768 on Linux): a client that reconnects to a port in that
# range while its server restarts can be given this very port and connect to itself.
FREE = range(20_000, 32_000)
_by_chance = random.SystemRandom()  # a seeded one would give processes of one seed the same ports
_given: set[int] = set()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now, and that this process was not given before; OSError."""
    for port in _by_chance.sample(FREE, len(FREE)):
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port between {FREE.start} and {FREE.stop}")


def is_free(port: int) -> bool:
    """Whether a listener on loopback could have this port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """Whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0
