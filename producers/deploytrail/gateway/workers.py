"""Several processes that serve one port: started, watched, started again, and stopped together.

Each has a listening socket of its own on the same port (SO_REUSEPORT: the kernel spreads the
connections), which the parent keeps open: while a worker that died is started again, its
connections wait instead of being reset.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from deploytrail_schemas.exit_codes import CONFIG

_log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
SHORT_LIFE = 5.0  # seconds; a worker that ends sooner, so often in a row, is not started again
MOST_SHORT_LIVES = 3
STOP_SECONDS = 30.0
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # https://prometheus.github.io/client_python/multiprocess/

# work(index, socket, ready): serves until SIGTERM, calls `ready` once it does, returns its exit code
Work = Callable[[int, socket.socket, Callable[[], None]], int]


def supervise(listeners: Sequence[socket.socket], work: Work, ready: Callable[[], None]) -> int:
    """Run one worker a socket until SIGTERM or SIGINT; 0, or the exit code of a worker that cannot be kept alive."""
    with _metrics_folder() as folder:
        return _Supervisor(listeners, work, ready, folder).run()


class _Supervisor:
    def __init__(self, listeners: Sequence[socket.socket], work: Work, ready: Callable[[], None], folder: str) -> None:
        self._listeners, self._work, self._ready, self._folder = listeners, work, ready, folder
        self._running: dict[int, tuple[int, float]] = {}  # pid → index and start
        self._short_lives = 0
        self._told, self._telling = os.pipe()
        os.set_blocking(self._told, False)
        self._ready_count = 0

    def run(self) -> int:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            for index in range(len(self._listeners)):
                self._start(index)
            return self._watch()
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self._told)
            os.close(self._telling)

    def _watch(self) -> int:
        while True:
            found = signal.sigtimedwait(_WATCHED, 0.1)
            if found is not None and found.si_signo != signal.SIGCHLD:
                return 0
            self._hear()
            for index, code, lived in self._reap():
                if code == CONFIG:  # the next one would read the same settings
                    return code
                _log.error("worker %d ended with status %d after %.0f s; it is started again", index, code, lived)
                self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
                if self._short_lives >= MOST_SHORT_LIVES:
                    return code or 1
                self._start(index)

    def _start(self, index: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._running[pid] = (index, time.monotonic())
            return
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.close(self._told)
            _end_with(parent)
            for other, listener in enumerate(self._listeners):
                if other != index:
                    listener.close()
            code = self._work(index, self._listeners[index], self._tell)
        except KeyboardInterrupt:
            code = 0
        except BaseException:
            _log.critical("worker %d ends by an error", index, exc_info=True)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _tell(self) -> None:
        os.write(self._telling, b".")

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            before = self._ready_count
            self._ready_count += len(os.read(self._told, 4096))
            if before < len(self._listeners) <= self._ready_count:
                self._ready()

    def _reap(self) -> list[tuple[int, int, float]]:
        """(index, exit code, seconds that it lived) of workers that ended."""
        ended = []
        for pid in tuple(self._running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                index, began = self._running.pop(pid)
                self._forget_metrics(pid)
                ended.append((index, os.waitstatus_to_exitcode(status), time.monotonic() - began))
        return ended

    def _stop(self) -> None:
        """SIGTERM to all; SIGKILL to those that do not end in time."""
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._running and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.02)
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _forget_metrics(self, pid: int) -> None:
        """What a worker that is gone counted stays counted; what it held, it holds no more."""
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]  # untyped there


@contextlib.contextmanager
def _metrics_folder() -> Iterator[str]:
    """Where the workers keep what they count, so that each can tell of all."""
    folder = tempfile.mkdtemp(prefix="deploytrail-gateway-metrics-")
    os.environ[METRICS_FOLDER] = folder
    try:
        yield folder
    finally:
        os.environ.pop(METRICS_FOLDER, None)
        shutil.rmtree(folder, ignore_errors=True)


def _end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent dies, whatever kills it. Elsewhere than on Linux: nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
