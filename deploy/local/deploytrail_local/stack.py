"""The embedded stack as its users see it: start it, ask where it is, stop it.

A supervisor process owns the children, so that they are watched whoever started them. Started as a
context manager it ends with its caller, also when the caller is killed; detached it stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.settings import Settings, variable

from deploytrail_local import processes
from deploytrail_local.kafka_broker import quiet
from deploytrail_local.stack_plan import APPS, effective_settings, environment_of, without_settings
from deploytrail_local.stack_ports import PINNED_BY, pinned_ports
from deploytrail_local.stack_state import Phase, StackState, is_held, read_state

ALREADY_RUNS = 75  # EX_TEMPFAIL of sysexits.h: another supervisor holds the folder
STOP_SECONDS = 60.0
_LOOK_SECONDS = 0.05
# What the stack decides by itself, and what concerns only producers: no reason to call settings different.
_NOT_COMPARED = {"url", "home", "metrics_port", "spool", "spool_max_bytes", "region", "environment", "service", "token"}
_SECRET = ("secret", "token", "password", "kafka_client")


@dataclass(frozen=True, slots=True)
class Urls:
    """Where to reach the stack. `kafka` is a bootstrap address, `archive` a `file:` URL."""

    gateway: str
    kafka: str
    clickhouse: str
    archive: str


class Stack:
    """The stack of one folder.

    `home` holds its data, logs and state; `settings` what differs from the defaults; `pinned` names
    settings that count as set on purpose though they equal the default. `progress` is told a line
    at a time what happens. `apps` leaves out some of what runs on Kafka and ClickHouse.
    Start it from a thread that lives as long as it should run.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings | None = None,
        *,
        progress: Callable[[str], None] = quiet,
        pinned: Collection[str] = (),
        detached: bool = False,
        apps: Sequence[str] = APPS,
    ) -> None:
        self.home = home.absolute()
        self.asked = settings or Settings()
        self.started_here = False
        self._progress, self._detached = progress, detached
        self._apps = tuple(apps)
        default = Settings()
        differing = {f.name for f in fields(Settings) if getattr(self.asked, f.name) != getattr(default, f.name)}
        self._pinned = frozenset(pinned) | differing
        self._process: subprocess.Popen[bytes] | None = None
        self._read_to = 0  # how much of the log was told

    @property
    def log(self) -> Path:
        """What the supervisor says: starts, restarts, ends."""
        return self.home / "logs" / "supervisor.log"

    @property
    def state(self) -> StackState:
        """The stack as its supervisor last wrote it."""
        return read_state(self.home)

    @property
    def settings(self) -> Settings:
        """Settings for clients of the stack: real addresses, absolute folders. ConfigurationError before a start."""
        recorded = self.state.settings
        if not recorded:
            raise ConfigurationError(f"no stack was ever started in {self.home}: run `deploytrail up`")
        return Settings.load(environment_of(self.asked, self._pinned) | recorded)

    @property
    def urls(self) -> Urls:
        """Where to reach the stack's parts."""
        settings = self.settings
        return Urls(settings.url, settings.kafka, settings.clickhouse_url, settings.archive)

    def start(self) -> Stack:
        """Return when every part is ready; a stack that runs in the folder already is used as it is.

        ConfigurationError for a port in use or a running stack with other settings,
        MissingDependencyError without Java or jars, DeploytrailError where a part cannot start.
        """
        try:
            while not self._is_ready():
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            if self.started_here:
                self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything that runs in the folder. DeploytrailError where a process cannot be ended."""
        if self._process is not None:
            processes.stop(self._process, grace=STOP_SECONDS)
            self._process = None
        stop_stack(self.home)

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.started_here:
            self.stop()

    def _is_ready(self) -> bool:
        if self._process is None and not is_held(self.home):
            self._launch()
        state = self.state
        self._relay()
        if self._process is not None and (code := self._process.poll()) is not None:
            self._relay()
            if code != ALREADY_RUNS:
                why = self.state.error or f"its supervisor ended with code {code}:\n{processes.tail(self.log)}"
                raise DeploytrailError(f"the stack did not start: {why}")
            self._process, self.started_here = None, False  # somebody else was quicker: wait for theirs
        if state.phase is not Phase.READY or not state.is_supervised:
            return False
        if not self.started_here:
            self._check_same_settings(state)
        return True

    def _launch(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._read_to = self.log.stat().st_size if self.log.exists() else 0
        words = ["--foreground", "--apps", ",".join(self._apps)]
        argv = [sys.executable, "-P", "-m", "deploytrail_local.up_command", *words]
        asked = replace(self.asked, home=self.home)
        env = without_settings(os.environ) | environment_of(asked, self._pinned) | {"PYTHONUNBUFFERED": "1"}
        if self._detached:
            with self.log.open("ab") as out:
                self._process = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
                )
        else:
            self._process = processes.spawn(argv, log=self.log, env=env)
        self.started_here = True

    def _relay(self) -> None:
        """Tell what our supervisor has said since the last time."""
        if not self.started_here:
            return
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._read_to)
            whole, newline, _ = log.read().rpartition(b"\n")
            self._read_to += len(whole) + len(newline)
        for line in whole.decode("utf-8", "replace").splitlines():
            if (said := line.removeprefix("deploytrail up: ")) != self.state.error:  # which we raise
                self._progress(said)

    def _check_same_settings(self, state: StackState) -> None:
        mine = recordable(effective_settings(self.home, self.asked, state.ports), self._pinned)
        differing: dict[str, tuple[object, object]] = {
            PINNED_BY[name]: (port, state.ports[name])
            for name, port in pinned_ports(self.asked, self._pinned).items()
            if port not in (0, state.ports[name])
        }
        for name in self._pinned - _NOT_COMPARED - set(PINNED_BY.values()):
            runs_with = state.settings.get(variable(name), str(getattr(Settings(), name)))
            if mine.get(variable(name), runs_with) != runs_with:
                differing[name] = (mine[variable(name)], runs_with)
        if differing:
            said = "; ".join(f"{variable(n)}: {asked!r}, running: {runs!r}" for n, (asked, runs) in differing.items())
            raise ConfigurationError(
                f"the stack in {self.home} runs with other settings ({said}): stop it with `deploytrail down`, "
                f"or use another folder (DEPLOYTRAIL_HOME)"
            )


def recordable(settings: Settings, names: Collection[str] = ()) -> dict[str, str]:
    """The variables of settings that may be written to a file: no secrets."""
    found = environment_of(settings, names)
    return {name: value for name, value in found.items() if not any(word in name.lower() for word in _SECRET)}


def stop_stack(home: Path, *, progress: Callable[[str], None] = quiet) -> bool:
    """Stop whatever runs in a folder, and make sure that it has ended. False where nothing ran.

    DeploytrailError names processes that would not end.
    """
    state = read_state(home)
    found = [process for process in state.processes if process.is_running()]
    if state.supervisor is not None and state.is_supervised:
        state.supervisor.send(signal.SIGTERM)
        processes.wait_until(lambda: not state.is_supervised, seconds=STOP_SECONDS)
    # A supervisor that was killed, or hangs, leaves its children: they are ended one by one.
    late = {process for process in (*state.processes, *read_state(home).processes) if process.is_running()}
    left = [process for process in late if not process.end(grace=5.0)]
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise DeploytrailError(f"processes {pids} do not end; end them by hand (kill -9)")
    if late:
        progress(f"{counted(len(late), 'process', 'processes')} had to be ended one by one")
    return bool(found)
