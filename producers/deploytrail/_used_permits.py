"""Which permits were used on this host: a file of `jti expiry` lines, each kept until its permit expires anyway."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from deploytrail_schemas.permits import LEEWAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploytrail_schemas.permits import Permit


class UsedPermits:
    """The file, while it is held: no other process can use a permit meanwhile."""

    def __init__(self, file: int, now: float) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        with os.fdopen(os.dup(file), encoding="utf-8") as text:
            for line in text:
                identity, _, expires = line.rstrip("\n").rpartition(" ")
                if expires.isdecimal() and int(expires) + LEEWAY_SECONDS > now:
                    self._lines[identity] = int(expires)

    def __contains__(self, identity: object) -> bool:
        return identity in self._lines

    def use(self, permit: Permit) -> None:
        """Remember a permit; fsynced when this returns."""
        self._lines[permit.id] = permit.expires_at
        data = "".join(f"{identity} {expires}\n" for identity, expires in self._lines.items()).encode()
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, data)
        os.ftruncate(self._file, len(data))
        os.fsync(self._file)


@contextlib.contextmanager
def held(path: Path, now: float) -> Iterator[UsedPermits]:
    """The file at `path`, made where there is none. OSError where it cannot be had."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield UsedPermits(file, now)
    finally:
        os.close(file)
