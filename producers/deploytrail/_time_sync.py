"""How far this machine's wall clock may be off, by the word of what disciplines it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from typing import NamedTuple

# struct timex of adjtimex(2), 64-bit Linux: modes, offset, freq, maxerror, esterror, status, …
_TIMEX_BYTES = 208
_OFFSET, _MAX_ERROR, _STATUS = 8, 24, 40
_STA_UNSYNC, _STA_NANO = 0x0040, 0x2000
_TIME_ERROR = 5
_CHRONYC_SECONDS = 2.0


class ClockError(NamedTuple):
    """What is left to correct, and how far the truth may lie from there; microseconds."""

    offset: int
    uncertainty: int

    def header(self) -> str:
        """The text of the header `dt-clock`."""
        return f"{self.offset},{self.uncertainty}"


def measure() -> ClockError | None:
    """chrony's word where it runs, else the kernel's; None where nothing disciplines the clock."""
    return of_chrony() or of_kernel()


def of_kernel() -> ClockError | None:
    """adjtimex(2): the offset that is being corrected, and the maximum error."""
    try:
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only read
        state = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return None  # another system than Linux
    raw = timex.raw
    status = int.from_bytes(raw[_STATUS : _STATUS + 4], "little", signed=True)
    if state in (-1, _TIME_ERROR) or status & _STA_UNSYNC:
        return None
    offset = int.from_bytes(raw[_OFFSET : _OFFSET + 8], "little", signed=True)
    error = int.from_bytes(raw[_MAX_ERROR : _MAX_ERROR + 8], "little", signed=True)
    return ClockError(offset // 1000 if status & _STA_NANO else offset, error)


def of_chrony() -> ClockError | None:
    """`chronyc -c tracking`: offset, and root dispersion plus half the root delay (RFC 5905, root distance)."""
    if shutil.which("chronyc") is None:
        return None
    try:
        told = subprocess.run(
            ["chronyc", "-c", "tracking"], capture_output=True, text=True, timeout=_CHRONYC_SECONDS, check=False
        )
        return parse_tracking(told.stdout) if told.returncode == 0 else None
    except (OSError, subprocess.SubprocessError):
        return None


def parse_tracking(text: str) -> ClockError | None:
    """The line of `chronyc -c tracking`; None where chrony has no source."""
    cells = text.strip().split(",")
    try:
        if len(cells) < 14 or int(cells[2]) in (0, 16) or cells[13].strip() == "Not synchronised":
            return None
        offset, delay, dispersion = float(cells[4]), float(cells[10]), float(cells[11])
        return ClockError(round(offset * 1e6), round((dispersion + delay / 2) * 1e6))
    except ValueError:
        return None
