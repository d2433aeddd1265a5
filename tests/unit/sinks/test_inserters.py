"""Threads that insert: errors come to whoever asks, and what hangs keeps nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from deploytrail_sinks.clickhouse.inserters import Inserters


def test_each_call_is_made_and_tells_how_it_ended() -> None:
    inserters, made = Inserters(2), []

    def fails() -> None:
        raise ValueError("no")

    good = [inserters.submit(lambda n=n: made.append(n)) for n in range(20)]  # type: ignore[misc]
    bad = inserters.submit(fails)
    for future in good:
        future.result(10)

    assert sorted(made) == list(range(20))
    with pytest.raises(ValueError, match="no"):
        bad.result(60)
    assert inserters.close(60)


def test_closing_cancels_what_has_not_begun_and_waits_only_so_long_for_what_has() -> None:
    inserters, begun, go_on = Inserters(1), threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        go_on.wait(60)

    hanging, behind = inserters.submit(hangs), inserters.submit(lambda: None)
    assert begun.wait(60)
    began = time.monotonic()
    ended = inserters.close(0.1)
    took = time.monotonic() - began
    go_on.set()

    assert (ended, behind.cancelled()) == (False, True)
    assert took < 10
    assert hanging.result(60) is None


def test_a_process_ends_though_an_insert_hangs() -> None:
    script = (
        "import time; from deploytrail_sinks.clickhouse.inserters import Inserters; "
        "i = Inserters(1); i.submit(lambda: time.sleep(600)); i.close(0.1)"
    )

    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
