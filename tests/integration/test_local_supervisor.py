"""Children are started in order, watched, started again, stopped in reverse; nothing outlives the supervisor.

The children are small real programs; the whole stack is tested in test_local_stack.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploytrail_local import processes
from deploytrail_local.process_identity import ProcessIdentity
from deploytrail_local.stack_state import ChildStatus
from deploytrail_local.supervisor import Child, Stage, Supervisor, backoff
from deploytrail_schemas.errors import DeploytrailError

# Says that it is ready by a file, tells when it is asked to stop, and is gone.
OBEDIENT = """
import pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def stop(*_):
    with (folder / "order").open("a") as order:
        order.write(f"stop {name}\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with (folder / "order").open("a") as order:
    order.write(f"start {name}\\n")
(folder / name).touch()
while True:
    time.sleep(0.05)
"""
STUBBORN = OBEDIENT.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
HOPELESS = "import sys; sys.exit('the disk is made of cheese')"


class Stand:
    """A supervisor over small programs, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.statuses: tuple[ChildStatus, ...] = ()
        self.seen: set[ProcessIdentity] = set()

    def child(self, name: str, program: str = OBEDIENT, *, ready_seconds: float = 60.0, grace: float = 10.0) -> Child:
        argv = [sys.executable, "-c", program, str(self.folder), name]
        log = self.folder / f"{name}.log"
        return Child(name, argv, dict(os.environ), log, (self.folder / name).exists, ready_seconds, grace)

    def supervisor(self, *stages: Stage) -> Supervisor:
        return Supervisor(stages, report=self.said.append, changed=self._changed)

    @property
    def order(self) -> list[str]:
        return (self.folder / "order").read_text().splitlines()

    def process(self, name: str) -> ProcessIdentity:
        found = {status.name: status.process for status in self.statuses}[name]
        assert found is not None
        return found

    def _changed(self, statuses: tuple[ChildStatus, ...]) -> None:
        self.statuses = statuses
        self.seen.update(status.process for status in statuses if status.process is not None)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    left = [process for process in stand.seen if process.is_running()]
    for process in left:
        process.end(grace=0.1)

    assert left == [], "a child outlived its supervisor"


def watched(supervisor: Supervisor, until: Callable[[], bool]) -> None:
    """Watch in this thread until something is so."""

    def look() -> None:
        processes.wait_until(until, seconds=60)
        supervisor.ask_to_stop()

    looking = threading.Thread(target=look)
    looking.start()
    supervisor.watch()
    looking.join()


def test_stages_start_in_order_and_stop_in_reverse(stand: Stand) -> None:
    made: list[str] = []
    stores = Stage([stand.child("store")], then=lambda: made.append("topics"))
    supervisor = stand.supervisor(stores, Stage([stand.child("app")]))
    started = supervisor.start()
    supervisor.stop()

    assert started
    assert stand.order == ["start store", "start app", "stop app", "stop store"]
    assert made == ["topics"]
    assert [line.partition(" is ready")[0] for line in stand.said] == ["store", "app"]


def test_crashed_child_is_started_again_and_reported(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app")]))
    supervisor.start()
    first = stand.process("app")
    os.kill(first.pid, signal.SIGKILL)
    watched(supervisor, until=lambda: stand.statuses[0].process not in (first, None))
    restarts = stand.statuses[0].restarts
    supervisor.stop()

    assert restarts == 1
    assert (
        f"app ended with signal SIGKILL and is started again in 0.5 s (restart 1); its log: {stand.folder}/app.log"
        in (stand.said)
    )


def test_child_that_cannot_start_is_reported_with_its_last_words(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app", HOPELESS)]))

    with pytest.raises(DeploytrailError, match=r"app ended 3 times(.|\n)*the disk is made of cheese"):
        supervisor.start()


def test_child_that_is_never_ready_is_reported(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app", "import time; time.sleep(60)", ready_seconds=0.5)]))

    with pytest.raises(DeploytrailError, match=r"app was not ready within 0\.5 s"):
        supervisor.start()
    supervisor.stop()


def test_child_that_does_not_stop_is_killed(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app", STUBBORN, grace=0.3)]))
    supervisor.start()
    supervisor.stop()

    assert f"app did not stop and is killed; its log: {stand.folder}/app.log" in stand.said


def test_second_wish_to_stop_does_not_wait(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app", STUBBORN, grace=60.0)]))
    supervisor.start()
    supervisor.ask_to_stop()
    supervisor.ask_to_stop()
    begun = time.monotonic()
    supervisor.stop()

    assert time.monotonic() - begun < 30  # half of its grace


def test_wish_to_stop_ends_a_start(stand: Stand) -> None:
    supervisor = stand.supervisor(Stage([stand.child("app", "import time; time.sleep(60)")]))
    supervisor.ask_to_stop()

    assert not supervisor.start()
    supervisor.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux only")
def test_children_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from deploytrail_local import processes
child = processes.spawn([sys.executable, "-c", "import time; time.sleep(60)"], log=Path({str(tmp_path / "log")!r}))
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = ProcessIdentity.of(int(parent.stdout.readline()))
    running = child.is_running()
    parent.kill()
    parent.communicate()

    assert running
    assert processes.wait_until(lambda: not child.is_running(), seconds=30)


@pytest.mark.parametrize(("in_a_row", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 15.0), (60, 15.0)])
def test_pause_before_a_restart_grows_to_a_limit(in_a_row: int, seconds: float) -> None:
    assert backoff(in_a_row) == seconds
