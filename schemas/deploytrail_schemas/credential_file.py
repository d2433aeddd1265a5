"""The file of credentials (DEPLOYTRAIL_CREDENTIALS): JSON lines, replaced whole, read again when it changes.

It holds no secret: digests and public keys. Whoever may write it grants access, so it is 0600. A
line is never removed, only marked revoked: a replay asks what held at the time.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from deploytrail_schemas.credentials import Credential, Credentials, read_credentials, write_line
from deploytrail_schemas.errors import ConfigurationError

log = logging.getLogger(__name__)


class CredentialFile:
    """Reads the file, and again once it has changed."""

    def __init__(self, path: Path) -> None:
        """ConfigurationError where it cannot be read or a line is wrong."""
        self._path = path
        self._mark = _mark(path)
        self._credentials: Credentials = _read(path)

    @property
    def credentials(self) -> Credentials:
        """What the file says now. A file that became unreadable is said once; what was read before stands."""
        mark = _mark(self._path)
        if mark != self._mark:
            self._mark = mark
            try:
                self._credentials = _read(self._path)
            except ConfigurationError as error:
                log.error("%s; the credentials that were read before stand", error)
        return self._credentials


def change(path: Path, edit: Callable[[dict[str, Credential]], None]) -> None:
    """Change the credentials of a file, one process at a time, and put the new file into the old one's place.

    ConfigurationError where the file is wrong or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            found = _read(path) if path.exists() else {}
            edit(found)
            _replace(path, "".join(f"{write_line(credential)}\n" for credential in found.values()))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> dict[str, Credential]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "`deploytrail token create` makes it"
        raise ConfigurationError(f"the credentials {path} cannot be read ({error}); {hint}") from error
    return read_credentials(text, str(path))


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
