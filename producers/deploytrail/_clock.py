"""What this machine's clocks say: wall time, monotonic time and its boot, synchronisation."""

from __future__ import annotations

import time

# adjtimex(2): state TIME_ERROR, and the status bit that the kernel sets while unsynchronised.
_TIME_ERROR = 5
_TIMEX_BYTES = 208

_libc: object = None


def now() -> int:
    """Wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


def monotonic() -> int:
    """Monotonic clock in nanoseconds; compares within one boot."""
    return time.monotonic_ns()


def boot_id() -> str:
    """The kernel's id of this boot; empty where it tells none (other systems than Linux)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123  # pathlib costs 3 ms
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def clock_state() -> str:
    """`synchronised` or `unsynchronised` by the kernel's word (adjtimex(2)), else `unknown`."""
    global _libc
    try:
        import ctypes

        if not isinstance(_libc, ctypes.CDLL):
            _libc = ctypes.CDLL(None)
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only read
        state = _libc.adjtimex(timex)
    except (OSError, ImportError, AttributeError):
        return "unknown"  # another system than Linux
    if state < 0:
        return "unknown"
    return "unsynchronised" if state == _TIME_ERROR else "synchronised"
