"""What a stack leaves in its folder for later commands: ports, who runs, and who holds the lock."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_local.process_identity import ProcessIdentity

FILE = "stack.json"
LOCK = "stack.lock"


class Phase(StrEnum):
    """How far a stack is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child as it is now. `restarts`: how often it ended without being asked to."""

    name: str
    process: ProcessIdentity | None
    restarts: int
    log: str


@dataclass(frozen=True, slots=True)
class StackState:
    """The content of stack.json. `ports` by name; `settings` as the children have them, without secrets."""

    phase: Phase = Phase.STOPPED
    ports: dict[str, int] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    supervisor: ProcessIdentity | None = None
    children: tuple[ChildStatus, ...] = ()
    error: str = ""

    @property
    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Every process that the state names, supervisor first."""
        found = [self.supervisor, *(child.process for child in self.children)]
        return tuple(process for process in found if process is not None)

    @property
    def is_supervised(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return self.supervisor is not None and self.supervisor.is_running()


def read_state(home: Path) -> StackState:
    """The state of the stack in a folder; an empty one before the first start.

    ConfigurationError where the file is damaged.
    """
    path = home / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return StackState()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); stop the stack's processes and delete it"
        ) from error
    try:
        return StackState(
            phase=Phase(found["phase"]),
            ports={str(name): int(port) for name, port in found["ports"].items()},
            settings={str(name): str(value) for name, value in found["settings"].items()},
            supervisor=_identity(found["supervisor"]),
            children=tuple(
                ChildStatus(child["name"], _identity(child["process"]), child["restarts"], child["log"])
                for child in found["children"]
            ),
            error=found["error"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path} is not a stack's state ({error!r}); delete it") from error


def write_state(home: Path, state: StackState) -> None:
    """Replace the state; a reader sees the old one or the new one, also after a crash."""
    home.mkdir(parents=True, exist_ok=True)
    whole, path = home / f"{FILE}.new", home / FILE
    whole.touch(mode=0o600)  # the address that pages go to may be a secret of itself
    whole.write_text(json.dumps(asdict(state), indent=1) + "\n", "utf-8")
    whole.replace(path)


@contextmanager
def only_one(home: Path) -> Iterator[bool]:
    """Hold the folder's lock while the block runs; False where another process holds it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_held(home: Path) -> bool:
    """Whether a supervisor holds the folder now."""
    if not (home / LOCK).exists():
        return False
    with only_one(home) as held:
        return not held


def unusable(error: OSError) -> str:
    """What to do about a folder that cannot be made or written."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; set DEPLOYTRAIL_HOME to a folder that you may write"


def _identity(found: dict[str, Any] | None) -> ProcessIdentity | None:
    return None if found is None else ProcessIdentity(int(found["pid"]), str(found["started"]))
