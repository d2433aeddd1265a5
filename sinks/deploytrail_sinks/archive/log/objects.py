"""The log's objects: create-only writes that may be repeated, and files that survive a crash."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater

from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Policy, RetentionClass, retain_until
from deploytrail_sinks.archive.store import ObjectExists, ObjectStore


class LogConflict(DeploytrailError):
    """An object of the log is not what it must be: somebody must look; nothing goes on."""


_MANY = 16
_AT_ONCE = 8
_DAY_MS = int(timedelta(days=1) / timedelta(milliseconds=1))


def kept_until(now: float, policy: Policy = DEFAULT_POLICY) -> str:
    """Until when the log's objects are kept: as long as what is kept longest, and never less than by default.

    `now`: seconds since the epoch. What policies of the kind `retention` ask for more, `archive lengthen` adds.
    """
    longest = max((*policy.values(), *DEFAULT_POLICY.values()), key=lambda keep: keep.days)
    return retain_until(RetentionClass.REGULATED, int(now * 1000) + _DAY_MS, {RetentionClass.REGULATED: longest})


def create_equal(store: ObjectStore, name: str, data: bytes, until: str) -> None:
    """Create an object, or find it there with these bytes; LogConflict where it has others."""
    try:
        store.create(name, data, until)
    except ObjectExists:
        if store.read(name) != data:
            raise LogConflict(f"{name} is there and differs from what the log must have there") from None


def create_all(store: ObjectStore, objects: Iterable[tuple[str, bytes]], until: str) -> None:
    """Create objects in any order, each as `create_equal` does; once this returns, all of them are there.

    Several at a time where there are many: each waits for the disk, or for an answer, longer than it is made.
    """
    found = list(objects)
    if len(found) < _MANY:
        for name, data in found:
            create_equal(store, name, data, until)
        return
    # Ends behind what is under way, also where one fails: what has not begun then never does.
    with ThreadPoolExecutor(_AT_ONCE, "create") as threads:
        for _ in threads.map(lambda one: create_equal(store, one[0], one[1], until), found):
            pass


def read_or_none(store: ObjectStore, name: str) -> bytes | None:
    """The bytes of an object; None where there is none."""
    try:
        return store.read(name)
    except KeyError:
        return None


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file; once this returns, a crash of the machine leaves the new one. RetryLater."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RetryLater(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold a folder alone; ConfigurationError where another process does. The system lets go when we die."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"{folder} is in use by another process; give each a folder of its own"
                ) from None
            yield
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be used: {error.strerror}") from error
