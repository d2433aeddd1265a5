"""Draining the spool: a background thread that hands events to a transport until they are acknowledged.

One process drains a spool at a time (flock on `drain.lock`); the others' events are delivered by
it, or by them once it rests. Nothing here raises into the deploy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from deploytrail import _importing
from deploytrail._backlog import Backlog, Echo, Entry, Position, producers, read_delivered
from deploytrail._report import say_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytrail_schemas.settings import Settings

BATCH_EVENTS = 500
BATCH_BYTES = 512 << 10
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
# Between two drains while nobody waits. Behind one of several events, and at most: one fsync and one request carry many
# then. Behind one of a single event so many times as long as it took: where events are few, none waits for others.
LONGEST_GATHER, GATHER_PER_DRAIN = 0.05, 3
# How long after its end a process may linger for a transport that does not let go.
LINGER = 0.1


class Outcome(NamedTuple):
    """What became of a batch: so many of its first entries are done with; of these, some were refused."""

    done: int
    echo: Echo | None = None
    rejected: tuple[tuple[int, str], ...] = ()  # (index, why)
    error: str = ""  # why it stopped there; the rest is tried again


class Times(NamedTuple):
    """What is known of the entries' clock.

    `timed`: whether their times are this host's, so that the time of sending says something. `clock`: what
    disciplines it says of it, as the header `dt-clock`. `same_boot`: whether their monotonic times are of this boot.
    """

    timed: bool
    echo: Echo | None = None
    clock: str = ""
    same_boot: bool = False


class Transport(Protocol):
    """A way to the other side."""

    def send(self, entries: list[Entry], times: Times, stop: threading.Event) -> Outcome:
        """Hand over entries in order; returns when each is acknowledged or refused, or the way is blocked."""
        ...

    def close(self) -> None:
        """Let go; what was not acknowledged stays in the spool."""
        ...


def transport_for(settings: Settings) -> Transport | None:
    """The transport of DEPLOYTRAIL_URL; None where events are only spooled."""
    scheme = settings.url.partition("://")[0].lower()
    if not settings.url:
        return None
    if scheme == "kafka":
        from deploytrail._kafka import KafkaTransport

        return KafkaTransport(settings)
    if scheme in {"http", "https"}:
        import encodings.idna  # noqa: F401  # what the first connection would import, perhaps beside a fork
        import urllib.request  # noqa: F401  # as above

        from deploytrail._http import HttpTransport

        return HttpTransport(settings)
    say_once(
        "url", f"DEPLOYTRAIL_URL has the scheme {scheme!r}; expected https:// or kafka://; events wait in the spool"
    )
    return None


class Sender:
    """Drains one spool in the background."""

    def __init__(
        self, settings: Settings, spool: Path, connect: Callable[[Settings], Transport | None] = transport_for
    ):
        self._settings = settings
        self._spool = spool
        self._connect = connect
        self.clock = ""
        self._wake = threading.Event()
        self._moved = threading.Event()
        self._awaited = threading.Event()
        self._stop = threading.Event()
        self._failed = False
        self._drained = 0  # events that the last drain handed over
        self._unwritten: dict[Path, tuple[Position, Echo | None]] = {}
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to send: begin, or go on."""
        self._wake.set()
        if self._thread is None and self._settings.url:
            thread = threading.Thread(target=self._run, name="deploytrail-sender", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # the interpreter is ending, or there are too many threads: the spool keeps it
            self._thread = thread

    def flush(self, place: tuple[str, int, int], seconds: float, *, patient: bool, hurry: Callable[[], bool]) -> bool:
        """Wait until the event that ends at `place` is delivered; whether it is.

        An impatient caller does not wait for a way that proved blocked. `hurry()`: stop waiting now.
        """
        folder, position = Path(place[0]), Position(place[1], place[2])
        self._awaited.set()
        deadline = time.monotonic() + seconds
        try:
            while self._delivered(folder) < position and folder.exists():
                left = deadline - time.monotonic()
                if self._thread is None or left <= 0 or hurry() or (self._failed and not patient):
                    return False
                self._moved.wait(min(left, 0.02))
                self._moved.clear()
            return True
        finally:
            self._awaited.clear()

    def _delivered(self, folder: Path) -> Position:
        on_disk, _ = read_delivered(folder)
        return max(on_disk, self._unwritten[folder][0]) if folder in self._unwritten else on_disk

    def stop(self) -> None:
        """End the thread, soon; what is not delivered stays in the spool."""
        self._stop.set()
        self._wake.set()
        self._awaited.set()
        if self._thread is not None:
            self._thread.join(LINGER)

    def _run(self) -> None:
        try:
            with _importing:
                transport = self._connect(self._settings)
            if transport is None:
                self._fail("")
                return
            try:
                self._drain_until_stopped(transport)
            finally:
                transport.close()
        except Exception as error:
            # Reporting must not break the deploy, nor print a traceback into its log.
            self._fail(f"the sender ended: {type(error).__name__}: {error}")

    def _drain_until_stopped(self, transport: Transport) -> None:
        lock = os.open(self._spool / "drain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        pause = FIRST_PAUSE
        try:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stop.wait(0.02)
                    self._wake.set()
                    continue
                began = time.monotonic()
                try:
                    error = self._drain(transport)
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)
                ended = time.monotonic()
                if error and not self._stop.is_set():
                    self._fail(error)
                    self._stop.wait(random.uniform(pause / 2, pause))
                    pause = min(pause * 2, LONGEST_PAUSE)
                elif not error:
                    pause = FIRST_PAUSE
                    self._failed = False
                    self._wake.wait()
                    gather = (
                        LONGEST_GATHER if self._drained > 1 else min(GATHER_PER_DRAIN * (ended - began), LONGEST_GATHER)
                    )
                    self._awaited.wait(gather - (time.monotonic() - ended))
        finally:
            os.close(lock)

    def _drain(self, transport: Transport) -> str:
        """Send all there is; empty, or why it could not be."""
        self._drained = 0
        for folder in producers(self._spool):
            backlog = Backlog(folder)
            # Delivered in this process, but the disk did not take it.
            if (unwritten := self._unwritten.get(folder)) and unwritten[0] > backlog.position:
                backlog.position, backlog.echo = unwritten
            while entries := backlog.read(BATCH_EVENTS, BATCH_BYTES):
                self._drained += len(entries)
                outcome = self._set_aside(
                    backlog,
                    entries,
                    transport.send(entries, self._times(backlog), self._stop),
                )
                if outcome.done:
                    self._move_on(backlog, entries[outcome.done - 1].behind, outcome.echo)
                if outcome.error or self._stop.is_set():
                    return outcome.error
            backlog.remove_if_done()
        return ""

    def _times(self, backlog: Backlog) -> Times:
        if not backlog.is_this_clock:
            return Times(backlog.is_this_host)
        return Times(backlog.is_this_host, backlog.echo, self.clock, same_boot=True)

    def _set_aside(self, backlog: Backlog, entries: list[Entry], outcome: Outcome) -> Outcome:
        """Keep what was refused; an event that cannot be kept stays in the spool, and what follows it."""
        for index, why in outcome.rejected:
            try:
                backlog.reject(entries[index], why)
            except OSError as error:
                why = f"a refused event cannot be kept in {self._spool}/rejected.jsonl: {error.strerror}"
                return outcome._replace(done=min(outcome.done, index), error=why)
            say_once("rejected", f"an event was refused ({why}); it is kept in {self._spool}/rejected.jsonl")
        return outcome

    def _move_on(self, backlog: Backlog, behind: Position, echo: Echo | None) -> None:
        try:
            backlog.delivered(behind, echo)
            self._unwritten.pop(backlog.folder, None)
        except OSError:
            self._unwritten[backlog.folder] = (backlog.position, backlog.echo)
        self._moved.set()

    def _fail(self, error: str) -> None:
        self._failed = True
        self._moved.set()
        if error:
            with contextlib.suppress(Exception):
                say_once("sending", f"{error}; events wait in {self._spool}")
