"""One process's reporter: builds an event, stores it, and has it sent. Never raises.

After a fork the child makes a reporter of its own; the parent's files are closed in it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploytrail import _build_identity, _clock, _settings
from deploytrail._report import say_once
from deploytrail._sender import Sender
from deploytrail._spool import Spool, SpoolFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Stamp = tuple[int, int]  # wall clock in µs and monotonic clock in ns, of one moment
# Events near the limit of a message lose their maps first: 1 MiB with room for key and headers.
EVENT_BYTES = (1 << 20) - (64 << 10)
# Facts of deployments whose end, or rollback, another process reports: of so many at most, the newest.
REMEMBERED = 1000
# So often does a process that starts many look whether there are too many.
_TIDY_EVERY = 256
# Of the seconds that the end of a process may take: for a transport that does not let go at once, and the interpreter.
_LETTING_GO = 0.2
FINAL_SEQ = "final_seq"
SPOOL_LOSS = "spool_loss"
# What a progress event says, as its raw status, that warns of another deploy target than the one reported.
ENVIRONMENT_MISMATCH = "environment_mismatch"
DEPLOY_TARGET = "deploy_target"
_NO_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST})
_BEGINNINGS = frozenset({"registered", "started"})
# What a registration has in common with the event beside it.
_ASKED = (
    "occurred_at",
    "region",
    "environment",
    "service",
    "deployment_id",
    "artifact_digest",
    "change_ticket",
    "justification",
    "emergency",
    "source",
)


class Reporter:
    """Stores events in the spool and sends them in the background."""

    def __init__(self) -> None:
        self.settings = _settings.load()
        self.folder, self.spool = _open_spool(
            self.settings.spool, self.settings.spool_max_bytes, self.settings.spool_max_events
        )
        self.sender = Sender(self.settings, self.folder)
        self.last: tuple[str, int, int] | None = None
        self._remembered = 0
        self._boot_id = _clock.boot_id()
        self._targets = _build_identity.targets(os.environ)
        self._known = self._defaults()

    def emit(
        self, event_type: str, deployment_id: str, facts: Mapping[str, Any], stamp: Stamp, *, final: bool = False
    ) -> None:
        """Store one event; returns once it is fsynced. OSError where it cannot be kept.

        `final`: the last of a run, which carries its own number in a tag, so that a lost tail is seen.
        """
        from deploytrail_schemas.codec import encode
        from deploytrail_schemas.ids import uuid7
        from deploytrail_schemas.records import RecordType

        from deploytrail._event import build, planned_in

        at, monotonic = stamp
        facts, planned = planned_in(facts)
        value: dict[str, Any] = {"occurred_at": at, "monotonic_ns": monotonic}
        value |= build({**facts, "deployment_id": deployment_id}, self._known)
        if value["occurred_at"] != at:
            value["monotonic_ns"] = None  # the caller speaks of another moment
        value |= {
            "event_id": uuid7(),
            "event_type": event_type,
            "boot_id": self._boot_id,
            "clock_state": _clock.clock_state(),
            "source": value.get("source") or "library",
            "producer_id": "",
        }

        def numbered(producer_id: str, seq: int) -> bytes:
            value.update(producer_id=producer_id, producer_seq=seq)
            if final:
                value["tags"] = value.get("tags", {}) | {FINAL_SEQ: str(seq)}
            data = encode(RecordType.DEPLOYMENT_EVENT, value)
            if len(data) <= EVENT_BYTES:
                return data
            say_once("size", "an event is larger than a message may be; it is sent without tags and config_changes")
            return encode(RecordType.DEPLOYMENT_EVENT, value | {"tags": {}, "config_changes": {}})

        heartbeat = event_type == "progressed" and value.get("raw_status") != ENVIRONMENT_MISMATCH
        try:
            self._store(numbered, droppable=heartbeat)
        finally:
            if self.settings.log:
                from deploytrail._event_log import write

                write(self.settings.log, value)
        if self.spool.untold:
            self._tell_loss(value)
        if event_type == "registered":
            self._ask(value, planned)
        if event_type in _BEGINNINGS and self._targets:
            self._compare_target(deployment_id, facts, stamp, value)

    def _compare_target(
        self, deployment_id: str, facts: Mapping[str, Any], stamp: Stamp, begun: Mapping[str, Any]
    ) -> None:
        """Warn, by a progress event, where the CI system says that it deploys to another environment."""
        said, target = begun["environment"], self._targets[0]
        if any(_build_identity.agree(said, name) for name in self._targets):
            return
        why = (
            f"the deployment says {said!r}, the deploy target of {begun.get('build_system', 'the build')} is {target!r}"
        )
        say_once("deploy target", f"{why}; it is reported as {said!r}, with a warning")
        warning = {
            "raw_status": ENVIRONMENT_MISMATCH,
            "error": f"environment mismatch: {why}",
            "tags": begun.get("tags", {}) | {DEPLOY_TARGET: target},
        }
        self.emit("progressed", deployment_id, {**facts, **warning}, stamp)

    def _ask(self, begun: Mapping[str, Any], planned: Mapping[str, int]) -> None:
        """Store a registration beside its event: what approvals and permits are bound to, and when it is `planned`."""
        from deploytrail_schemas.codec import encode
        from deploytrail_schemas.ids import uuid7
        from deploytrail_schemas.records import RecordType

        value = {name: begun[name] for name in _ASKED if name in begun}
        value |= {"approval_id": uuid7(), "approval_type": "registered", **planned}
        said = {name: str(begun[name]) for name in ("version", "kind", "deployer") if begun.get(name)}

        def numbered(producer_id: str, seq: int) -> bytes:
            tags = {**begun.get("tags", {}), **said, "producer_seq": str(seq)}
            return encode(RecordType.APPROVAL, value | {"producer_id": producer_id, "tags": tags})

        self._store(numbered, droppable=False)

    def _store(self, numbered: Callable[[str, int], bytes], *, droppable: bool) -> None:
        try:
            self.last = self.spool.append(numbered, droppable=droppable)
        except OSError:
            self.last = self.spool.end  # no room: sending what is there makes some
            raise
        finally:
            self.sender.wake()

    def _tell_loss(self, beside: Mapping[str, Any]) -> None:
        """Store a signal that says how many events found no room, now that one did."""
        from deploytrail_schemas.codec import encode
        from deploytrail_schemas.ids import uuid7
        from deploytrail_schemas.records import RecordType

        count = self.spool.untold
        value: dict[str, Any] = {name: beside[name] for name in ("region", "environment", "service", "occurred_at")}

        def numbered(producer_id: str, seq: int) -> bytes:
            said = {"lost_events": str(count), "producer_seq": str(seq)}
            told = {"producer_id": producer_id, "labels": said, "signal_id": uuid7()}
            return encode(RecordType.SIGNAL, value | told)

        value |= {"signal_type": "unknown", "source": "deploytrail", "severity": "warning", "title": SPOOL_LOSS}
        with contextlib.suppress(OSError):  # the next event that finds room tries again
            self._store(numbered, droppable=False)
            self.spool.told(count)

    def flush(self, seconds: float | None, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Wait until what was emitted is delivered; None: as long as the settings say, unless the way is blocked."""
        if self.last is None:
            return True
        if not self.settings.url:
            return False
        wait = max(0.0, self.settings.exit_wait_seconds - _LETTING_GO) if seconds is None else seconds
        return self.sender.flush(self.last, wait, patient=seconds is not None, hurry=hurry)

    def remember(self, deployment_id: str, facts: Mapping[str, Any]) -> None:
        """Keep what is known of a deployment for the process that will report its end."""
        folder = self.folder / "deployments"
        from deploytrail_schemas.redaction import redact_value

        with contextlib.suppress(OSError, TypeError, ValueError):
            folder.mkdir(mode=0o700, exist_ok=True)
            if self._remembered % _TIDY_EVERY == 0:
                self._tidy(folder)
            self._remembered += 1
            path = self._memory(deployment_id)
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(redact_value(dict(facts)), default=str))
            fresh.replace(path)

    def _tidy(self, folder: Path) -> None:
        """Forget the oldest deployments, a batch at a time: looking at each file at each start would cost more
        than the start."""
        names = os.listdir(folder)  # noqa: PTH208  # names alone: no file is looked at
        if len(names) < 2 * REMEMBERED:
            return
        old = sorted((folder / name for name in names), key=lambda path: path.stat().st_mtime)
        for path in old[:-REMEMBERED]:
            path.unlink(missing_ok=True)

    def recall(self, deployment_id: str) -> dict[str, Any]:
        """What another process of this host knew of a deployment; empty where nothing is known."""
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._memory(deployment_id).read_text())
            if isinstance(facts, dict):
                return facts
        return {}

    def _memory(self, deployment_id: str) -> Path:
        name = sha256(deployment_id.encode("utf-8", "replace")).hexdigest()[:32]
        return self.folder / "deployments" / f"{name}.json"

    def _defaults(self) -> dict[str, str]:
        known = _build_identity.read(os.environ)
        user = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or os.environ.get("USER") or ""
        if user and "build_system" not in known and "deployer" not in known:
            known["deployer"] = user
        if self._targets:
            known["environment"] = self._targets[0]
        for name in ("service", "environment", "region"):
            if text := getattr(self.settings, name):
                known[name] = text
        return known


def _open_spool(folder: Path, max_bytes: int, max_events: int) -> tuple[Path, Spool]:
    """The spool of the settings, or one beside the temporary files where that folder cannot be had."""
    try:
        folder = folder.expanduser()
        return folder, Spool(str(folder), max_bytes, max_events)
    except RuntimeError as error:  # a user without a home
        why = str(error)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        why = error.strerror or str(error)
    import tempfile

    instead = Path(tempfile.gettempdir()) / f"deploytrail-{os.getuid()}"
    instead.mkdir(mode=0o700, exist_ok=True)
    if instead.is_symlink() or instead.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, f"{folder} cannot be used ({why}), and {instead} is not ours")
    say_once("spool folder", f"the spool {folder} cannot be used ({why}); {instead} is")
    return instead, Spool(str(instead), max_bytes, max_events)


_making = threading.RLock()
_current: Reporter | None = None


def reporter() -> Reporter:
    """This process's reporter. OSError where no spool can be had."""
    global _current
    if _current is None:
        with _making:
            if _current is None:
                _current = Reporter()
    return _current


def emit(event_type: str, deployment_id: str, facts: Mapping[str, Any], stamp: Stamp, *, final: bool = False) -> bool:
    """Store an event and have it sent; whether it was stored. Never raises an Exception."""
    try:
        reporter().emit(event_type, deployment_id, facts, stamp, final=final)
        return True
    except SpoolFullError as error:
        say_once("spool full", f"{error}; events are not kept until some are delivered. The deploy is not affected")
    except OSError as error:
        why = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        # A disk that is full is no matter of whose folder it is.
        fix = "; set DEPLOYTRAIL_SPOOL to a folder that this user may write" if error.errno in _NO_PLACE else ""
        say_once("spool", f"an event cannot be kept in the spool: {why}{fix}. The deploy is not affected")
    except Exception as error:
        say_once("emit", f"an event cannot be reported: {type(error).__name__}: {error}. The deploy is not affected")
    return False


def flush(seconds: float | None = None, *, hurry: Callable[[], bool] = lambda: False) -> bool:
    """Wait until this process's events are delivered, for `seconds` or as the settings say; whether they are."""
    if _current is None:
        return True
    try:
        return _current.flush(seconds, hurry=hurry)
    except Exception:
        return False


def close() -> None:
    """End this process's reporter; the next event makes a new one."""
    global _current
    with _making:
        ended, _current = _current, None
        if ended is not None:
            with contextlib.suppress(Exception):
                ended.sender.stop()
                ended.spool.close()


def finish(seconds: float | None = None, *, hurry: Callable[[], bool] = lambda: False) -> None:
    """The process ends: wait for delivery as `flush` does, and say where undelivered events are."""
    if _current is not None and not flush(seconds, hurry=hurry) and _current.settings.url:
        say_once("sending", f"events are not delivered yet; they wait in {_current.folder} for the next sender")
    close()


atexit.register(finish)


def _after_fork() -> None:
    """In a child: another thread may have held a lock when it was made, and an open file shares its flock."""
    global _making, _current
    _making = threading.RLock()
    inherited, _current = _current, None
    if inherited is not None:
        inherited.spool.close()


os.register_at_fork(after_in_child=_after_fork)
