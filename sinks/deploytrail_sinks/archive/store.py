"""Object stores: create once, read, list. Nothing is ever overwritten here.

One small interface; behind it a local folder, write-once by permission, or S3 with Object Lock (`s3.py`).
An object is what was created first under its name. A store that keeps versions may let somebody put a
newer one, or a marker of deletion, over it: readers go on reading the first, and `versions` shows the rest.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, MissingDependencyError, RetryLater

_BESIDE = (".retain", ".hold", ".part")  # what the folder keeps beside objects


class ObjectExists(Exception):
    """An object of that name is there already: read it, and compare."""


class ObjectKept(DeploytrailError):
    """An object may not be deleted: its retention date is not over, or a legal hold is on it."""


class Lock(StrEnum):
    """How firmly a retention date holds (S3 Object Lock's modes).

    GOVERNANCE: whoever has `s3:BypassGovernanceRetention` may undo it; COMPLIANCE: nobody may; NONE: only permissions.
    """

    NONE = "none"
    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


@dataclass(frozen=True, slots=True)
class Terms:
    """How an object is kept, beside its date. None: as the store does by default; `at_least` as firmly as that, too."""

    lock: Lock | None = None
    tier: str = ""  # S3's storage class, e.g. STANDARD_IA
    at_least: Lock = Lock.NONE


def firmer(one: Lock, other: Lock) -> Lock:
    """The firmer of two."""
    return max(one, other, key=list(Lock).index)


@dataclass(frozen=True, slots=True)
class Version:
    """One of the things that were put under a name. `id` is empty in a store that keeps no versions."""

    id: str
    size: int
    is_deletion: bool = False


USUAL = Terms()
_LOCKS = {lock.value: lock for lock in Lock}
_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


class ObjectStore(Protocol):
    """What the archive needs of a store."""

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
        """Store an object durably before returning, kept until a date (RFC 3339); the id of its version.

        The same bytes under the same name again change nothing: the first answer may have been lost.
        ObjectExists where the name is taken by others (as `If-None-Match: *` has it), RetryLater
        where the store is full or away.
        """

    def settle(self, name: str) -> None:
        """Return once an object that is there is durable: its writer may have died before that. RetryLater."""

    def read(self, name: str, version: str = "") -> bytes:
        """The bytes of an object as it was first created, or of a version; KeyError where there is none."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names below a prefix, in order; also those that something newer hides."""

    def versions(self, name: str) -> tuple[Version, ...]:
        """What was put under a name, the oldest first: more than one means that somebody hid the object."""

    def retain_until(self, name: str) -> str | None:
        """Until when an object is kept; None where nothing says so."""

    def lengthen(self, name: str, retain_until: str, terms: Terms = USUAL) -> bool:
        """Keep an object longer, or more firmly; whether that changed something. A date that is not later, and a lock
        that is not firmer, stay as they are. KeyError where there is none."""

    def is_held(self, name: str) -> bool:
        """Whether a legal hold is on an object: it outlives its date."""

    def hold(self, name: str, on: bool) -> None:
        """Put a legal hold on an object, or take it off. KeyError where there is none."""

    def delete(self, name: str, now: datetime) -> None:
        """Delete an object with all its versions; ObjectKept where its date or a hold forbids it."""

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The folders right below a prefix, as prefixes, in order."""

    def replace(self, name: str, data: bytes) -> None:
        """Put an object in the place of the one of that name, durably and at once; for a log's newest checkpoint.

        RetryLater where the store is full or away.
        """

    def newest(self, name: str) -> bytes:
        """The bytes that were put under a name last; KeyError where there are none."""


def may_go(retain_until: str | None, held: bool, now: datetime) -> str:
    """Why an object must stay at `now`; empty where it may go. Without a date it stays."""
    if held:
        return "a legal hold is on it"
    if retain_until is None:
        return "it has no retention date"
    try:
        over = datetime.fromisoformat(retain_until) <= now
    except (ValueError, TypeError):  # no date, or one without a zone
        return f"its retention date {retain_until!r} is none"
    return "" if over else f"it is kept until {retain_until}"


def is_date(text: str) -> bool:
    """Whether a text is a date with its zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def latest(*dates: str | None) -> str | None:
    """The latest of several dates; None where none of them is one."""
    found = [date for date in dates if date is not None and is_date(date)]
    return max(found, key=datetime.fromisoformat, default=None)


def is_later(date: str, than: str | None) -> bool:
    """Whether a date lies behind another one; every date is later than none, and than what is no date."""
    return than is None or not is_date(than) or datetime.fromisoformat(date) > datetime.fromisoformat(than)


class LocalFolder:
    """A folder: files are linked into place whole, and then read-only.

    The retention date stands beside each object, in NAME.retain, a legal hold as NAME.hold. They are
    advice to whoever runs the machine; an object store with Object Lock enforces them.
    A symbolic link below the folder is no object of it, and nothing is written through one: what it points to
    can be exchanged by who may not write here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._durable: set[Path] = set()  # folders whose entries above them are known to be

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
        path = self.folder / name
        try:
            self._refuse_link(path)
            if not path.exists():
                self._make_folders(path.parent)
                self._keep(name, retain_until, terms)
            self._link(path, data)
        except ObjectExists:
            if self.read(name) != data:
                raise
        except OSError as error:
            raise RetryLater(f"{path} cannot be written: {error.strerror}") from error
        return ""

    def settle(self, name: str) -> None:
        try:
            self._refuse_link((self.folder / name).parent)
            self._make_folders((self.folder / name).parent)
            _sync_folder((self.folder / name).parent)
        except OSError as error:
            raise RetryLater(f"{self.folder / name} cannot be made durable: {error.strerror}") from error

    def read(self, name: str, version: str = "") -> bytes:  # noqa: ARG002  # there is one version
        if name.startswith("/") or ".." in name.split("/"):
            raise KeyError(name)  # a plan may name anything; what is not below the folder is no object of it
        try:
            if self._link_to(self.folder / name):
                raise KeyError(name)
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            raise KeyError(name) from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise KeyError(name) from None
            raise RetryLater(f"{self.folder / name} cannot be read: {error.strerror}") from error

    def list(self, prefix: str) -> Iterator[str]:
        base = self.folder / prefix
        found = base.rglob("*") if base.is_dir() else ()
        # Links too: readers find that they are none, and say so.
        names = (str(path.relative_to(self.folder)) for path in found if path.is_file() or path.is_symlink())
        yield from sorted(name for name in names if not name.endswith(_BESIDE))

    def versions(self, name: str) -> tuple[Version, ...]:
        try:
            return (Version("", (self.folder / name).stat().st_size),)
        except OSError:
            return ()

    def retain_until(self, name: str) -> str | None:
        date = self._kept(name).get("retain_until")
        return None if date is None else str(date)

    def lengthen(self, name: str, retain_until: str, terms: Terms = USUAL) -> bool:
        self._must_be_there(name)
        try:
            return self._keep(name, retain_until, terms)
        except OSError as error:
            raise RetryLater(f"{name}.retain cannot be written: {error.strerror}") from error

    def is_held(self, name: str) -> bool:
        path = self._beside(name, ".hold")
        try:
            path.lstat()
        except _NOTHING_THERE:
            return False
        except OSError as error:  # a hold that cannot be seen may be there
            raise RetryLater(f"{path} cannot be looked for: {error.strerror}") from error
        return True

    def hold(self, name: str, on: bool) -> None:
        self._must_be_there(name)
        path = self._beside(name, ".hold")
        try:
            if on:
                with contextlib.suppress(ObjectExists):
                    self._link(path, b"")
            else:
                path.unlink(missing_ok=True)
                _sync_folder(path.parent)
        except OSError as error:
            raise RetryLater(f"{path} cannot be changed: {error.strerror}") from error

    def delete(self, name: str, now: datetime) -> None:
        self._must_be_there(name)
        if why := may_go(self.retain_until(name), self.is_held(name), now):
            raise ObjectKept(f"{name} stays: {why}")
        try:
            (self.folder / name).unlink()
            self._beside(name, ".retain").unlink(missing_ok=True)
            _sync_folder((self.folder / name).parent)
        except OSError as error:
            raise RetryLater(f"{name} cannot be deleted: {error.strerror}") from error

    def _make_folders(self, folder: Path) -> None:
        """Make a folder and what is above it, each entry durable: a crash must not take a folder with its files.

        Also where a folder is there already: whoever made it may have died before he synced it.
        """
        missing = []
        while folder not in self._durable and (folder.is_relative_to(self.folder) or not folder.exists()):
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_folder(path.parent)
            self._durable.add(path)

    def _keep(self, name: str, retain_until: str, terms: Terms) -> bool:
        """Write the date before the object appears, or a later one over an earlier one, or a firmer lock; whether
        that changed something. OSError."""
        before = self._kept(name)
        date, lock = before.get("retain_until"), _LOCKS.get(str(before.get("lock")))
        firm = firmer(lock or Lock.NONE, firmer(terms.lock or Lock.NONE, terms.at_least))
        word = {"lock": firm.value} if lock or terms.lock or firm is not Lock.NONE else {}
        later = {"retain_until": retain_until} if is_later(retain_until, None if date is None else str(date)) else {}
        kept = before | word | later
        if kept == before:
            return False
        data = json.dumps(kept).encode()
        self._put(self._beside(name, ".retain"), data, lambda temporary, path: Path(temporary).replace(path))
        return True

    def _link_to(self, path: Path) -> Path | None:
        """What of a path below the folder is a link; None where nothing is. The folder itself may be one."""
        places = (path, *path.parents)
        return next((p for p in places[: places.index(self.folder)] if p.is_symlink()), None)

    def _refuse_link(self, path: Path) -> None:
        if link := self._link_to(path):
            raise RetryLater(f"{link} is a link, which may lead out of the archive; put there what it points to")

    def _must_be_there(self, name: str) -> None:
        self._refuse_link((self.folder / name).parent)  # what is kept beside it would be written elsewhere
        if not (self.folder / name).is_file():
            raise KeyError(name)

    def _beside(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    def _kept(self, name: str) -> dict[str, Any]:
        path = self._beside(name, ".retain")
        try:
            kept = {} if path.is_symlink() else json.loads(path.read_bytes())
        except (*_NOTHING_THERE, IsADirectoryError, ValueError, RecursionError):
            return {}
        except OSError as error:  # it may say a later date than whoever asks would write
            if error.errno == errno.ENAMETOOLONG:
                return {}
            raise RetryLater(f"{path} cannot be read: {error.strerror}") from error
        return kept if isinstance(kept, dict) else {}

    def folders(self, prefix: str) -> tuple[str, ...]:
        base = self.folder / prefix
        below = base.iterdir() if base.is_dir() else ()
        return tuple(
            sorted(str(path.relative_to(self.folder)) for path in below if path.is_dir() and not path.is_symlink())
        )

    def replace(self, name: str, data: bytes) -> None:
        path = self.folder / name
        try:
            self._refuse_link(path.parent)
            self._make_folders(path.parent)
            self._put(path, data, lambda temporary, path: Path(temporary).replace(path))
        except OSError as error:
            raise RetryLater(f"{path} cannot be written: {error.strerror}") from error

    def newest(self, name: str) -> bytes:
        return self.read(name)

    @staticmethod
    def _link(path: Path, data: bytes) -> None:
        """Write a file that appears whole or not at all, and never twice."""
        try:
            LocalFolder._put(path, data, os.link)  # fails where the name is taken; a rename would replace it
        except FileExistsError:
            _sync_folder(path.parent)
            raise ObjectExists(str(path)) from None

    @staticmethod
    def _put(path: Path, data: bytes, place: Any) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
                out.flush()
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            place(temporary, path)
            _sync_folder(path.parent)
        finally:
            Path(temporary).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_store(url: str) -> ObjectStore:
    """The store of DEPLOYTRAIL_ARCHIVE: file:FOLDER or s3://BUCKET/PREFIX?region=…&endpoint=…&lock=…"""
    scheme, colon, rest = url.partition(":")
    if scheme == "s3" and colon:
        try:
            from deploytrail_sinks.archive.s3 import S3Store
        except ImportError as error:
            raise MissingDependencyError(
                "s3:// needs boto3; install deploytrail-sinks with its extra: pip install 'deploytrail-sinks[s3]'"
            ) from error
        return S3Store.of(url)
    if not colon or scheme != "file" or not rest:
        raise ConfigurationError(f"DEPLOYTRAIL_ARCHIVE is {url!r}; expected file:FOLDER or s3://BUCKET/PREFIX")
    return LocalFolder(Path("/" + rest.lstrip("/") if rest.startswith("/") else rest))
