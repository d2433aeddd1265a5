"""Threads that insert, and end with the process: a ClickHouse that hangs holds up no stop.

Those of an executor are waited for at the end of the interpreter, however long an answer takes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

Call = Callable[[], None]


class Inserters:
    """So many threads, at least one."""

    def __init__(self, count: int) -> None:
        self._calls: SimpleQueue[tuple[Future[None], Call] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"insert-{number}", daemon=True) for number in range(max(1, count))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Call) -> Future[None]:
        """Have it called by the next thread that is free."""
        future: Future[None] = Future()
        self._calls.put((future, call))
        return future

    def close(self, seconds: float) -> bool:
        """Cancel what has not begun, and wait so long for what has; whether that came to its end."""
        with contextlib.suppress(Empty):
            while True:
                waiting = self._calls.get_nowait()
                if waiting is not None:
                    waiting[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                call()
            except BaseException as error:  # whoever asks for the result gets it
                future.set_exception(error)
            else:
                future.set_result(None)
