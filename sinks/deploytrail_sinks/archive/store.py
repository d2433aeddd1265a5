"""Object stores: create once, read, list. Nothing is ever overwritten or deleted here.

One small interface; today a local folder, write-once by permission, behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from deploytrail_schemas.errors import ConfigurationError, RetryLater


class ObjectExists(Exception):
    """An object of that name is there already: read it, and compare."""


class ObjectStore(Protocol):
    """What the archive needs of a store."""

    def create(self, name: str, data: bytes, retain_until: str) -> None:
        """Store an object durably before returning, kept until a date (RFC 3339).

        ObjectExists where the name is taken (as `If-None-Match: *` has it), RetryLater where the
        store is full or away.
        """

    def read(self, name: str) -> bytes:
        """The bytes of an object; KeyError where there is none."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names below a prefix, in order."""

    def retain_until(self, name: str) -> str | None:
        """Until when an object is kept; None where nothing says so."""


class LocalFolder:
    """A folder: files are linked into place whole, and then read-only.

    The retention date stands beside each object, in NAME.retain. It is advice to whoever runs the
    machine; an object store with Object Lock enforces it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str, data: bytes, retain_until: str) -> None:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.with_name(path.name + ".retain").exists():
                with contextlib.suppress(ObjectExists):  # left by a crash between the two
                    self._link(
                        path.with_name(path.name + ".retain"), json.dumps({"retain_until": retain_until}).encode()
                    )
            self._link(path, data)
        except OSError as error:
            raise RetryLater(f"{path} cannot be written: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def list(self, prefix: str) -> Iterator[str]:
        base = self.folder / prefix
        found = base.rglob("*") if base.is_dir() else ()
        names = (str(path.relative_to(self.folder)) for path in found if path.is_file())
        yield from sorted(name for name in names if not name.endswith((".retain", ".part")))

    def retain_until(self, name: str) -> str | None:
        try:
            date = json.loads((self.folder / f"{name}.retain").read_text())["retain_until"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(date)

    @staticmethod
    def _link(path: Path, data: bytes) -> None:
        """Write a file that appears whole or not at all, and never twice."""
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
                out.flush()
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            try:
                os.link(temporary, path)  # fails where the name is taken; a rename would replace it
            except FileExistsError:
                raise ObjectExists(str(path)) from None
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            os.unlink(temporary)  # noqa: PTH108  # a name of mkstemp


def open_store(url: str) -> ObjectStore:
    """The store of DEPLOYTRAIL_ARCHIVE."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "file" or not rest:
        raise ConfigurationError(f"DEPLOYTRAIL_ARCHIVE is {url!r}; expected file:FOLDER")
    return LocalFolder(Path("/" + rest.lstrip("/") if rest.startswith("/") else rest))
