"""Child processes started in order, watched, started again when they end, and stopped in reverse.

In: stages of children, each with the question that tells whether it is ready. Out: reports in
words, and the status of every child whenever one changes.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploytrail_schemas.errors import DeploytrailError

from deploytrail_local import processes
from deploytrail_local.process_identity import ProcessIdentity
from deploytrail_local.stack_state import ChildStatus

STARTS = 3  # so often may a child end before it was ever ready
READY_SECONDS = 180.0  # a dozen programs start at once: a small machine that does more needs a minute for it
STEADY_SECONDS = 60.0  # who ran so long without ending is restarted at once again
_LOOK_SECONDS = 0.1
_LOG_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Child:
    """One program. `env` is its whole environment; `log` receives what it prints."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    is_ready: Callable[[], bool]
    ready_seconds: float = READY_SECONDS
    grace_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Children that start together. `then` runs once when all of them are ready."""

    children: Sequence[Child]
    then: Callable[[], object] | None = None


@dataclass(slots=True)
class _Run:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    identity: ProcessIdentity | None = None
    started: float = 0.0
    restarts: int = 0
    in_a_row: int = 0
    start_again_at: float = 0.0
    ready: bool = False
    deadline: float = field(default=0.0)


def backoff(in_a_row: int) -> float:
    """Seconds to wait before a child that ended `in_a_row` times is started again: 0.5, 1, 2, … 15."""
    return min(0.5 * 2.0 ** (in_a_row - 1), 15.0)


class Supervisor:
    """Runs stages. Use it from one thread that lives as long as the children: on Linux they end with it."""

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        report: Callable[[str], None],
        changed: Callable[[tuple[ChildStatus, ...]], None],
    ) -> None:
        self._stages, self._report, self._changed = stages, report, changed
        self._runs: list[_Run] = []
        self._asked = threading.Event()
        self._hurry = False

    def ask_to_stop(self) -> None:
        """Let `start` and `watch` return soon; asked twice, children are not waited for. Safe in a signal handler."""
        self._hurry = self._asked.is_set()
        self._asked.set()

    @property
    def statuses(self) -> tuple[ChildStatus, ...]:
        """Every child that was started."""
        return tuple(ChildStatus(r.child.name, r.identity, r.restarts, str(r.child.log)) for r in self._runs)

    def start(self) -> bool:
        """Start every stage; True when all children are ready, False when asked to stop before.

        DeploytrailError with the end of its log for a child that cannot start.
        """
        for stage in self._stages:
            fresh = [_Run(child) for child in stage.children]
            for run in fresh:
                self._runs.append(run)
                self._spawn(run)
            while not all(run.ready for run in fresh):
                if self._asked.wait(_LOOK_SECONDS):
                    return False
                self._tend()
                for run in fresh:
                    _check_start(run)
            if stage.then is not None:
                stage.then()
            if self._asked.is_set():
                return False
        return True

    def watch(self) -> None:
        """Start children again when they end, until asked to stop."""
        while not self._asked.wait(_LOOK_SECONDS):
            self._tend()

    def stop(self) -> None:
        """Stop all children, those started last first: SIGTERM, and SIGKILL when their grace is over."""
        stages = [{child.name for child in stage.children} for stage in self._stages]
        for names in reversed(stages):
            self._stop([run for run in self._runs if run.child.name in names])
        self._runs = []
        self._changed(())

    def _tend(self) -> None:
        for run in self._runs:
            if run.process is None:
                if time.monotonic() >= run.start_again_at:
                    self._spawn(run)
            elif (code := run.process.poll()) is not None:
                self._note_end(run, code)
            elif not run.ready and run.child.is_ready():
                run.ready = True
                self._report(f"{run.child.name} is ready ({time.monotonic() - run.started:.1f} s)")
            elif run.in_a_row and time.monotonic() - run.started > STEADY_SECONDS:
                run.in_a_row = 0

    def _spawn(self, run: _Run) -> None:
        _set_aside(run.child.log)
        run.process = processes.spawn(run.child.argv, log=run.child.log, env=run.child.env)
        run.identity = ProcessIdentity.of(run.process.pid)
        run.started = time.monotonic()
        run.deadline = run.started + run.child.ready_seconds
        self._changed(self.statuses)

    def _note_end(self, run: _Run, code: int) -> None:
        run.process, run.identity, run.ready = None, None, False
        run.restarts += 1
        run.in_a_row += 1
        pause = backoff(run.in_a_row)
        run.start_again_at = time.monotonic() + pause
        self._report(
            f"{run.child.name} ended with {_said(code)} and is started again in {pause:g} s "
            f"(restart {run.restarts}); its log: {run.child.log}"
        )
        self._changed(self.statuses)

    def _stop(self, runs: Sequence[_Run]) -> None:
        alive = [(run, run.process) for run in runs if run.process is not None and run.process.poll() is None]
        for _, process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        for run, process in alive:
            while process.poll() is None and not self._hurry and time.monotonic() < begun + run.child.grace_seconds:
                time.sleep(0.02)
            if process.poll() is None:
                self._report(f"{run.child.name} did not stop and is killed; its log: {run.child.log}")
                process.kill()
            process.wait()


def _check_start(run: _Run) -> None:
    if run.ready or (run.restarts < STARTS and time.monotonic() < run.deadline):
        return
    ended = run.restarts >= STARTS
    what = f"ended {run.restarts} times" if ended else f"was not ready within {run.child.ready_seconds:g} s"
    raise DeploytrailError(f"{run.child.name} {what}. The end of {run.child.log}:\n{processes.tail(run.child.log)}")


def _said(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _set_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(log.suffix + ".1"))
