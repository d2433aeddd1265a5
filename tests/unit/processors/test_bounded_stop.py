"""A stop ends in bounded time, whatever holds the process up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# An event loop with handlers of its own, whose callback holds it up for good; and one that stops in time.
HELD_UP = """
import asyncio, signal, time
from deploytrail_processors.bounded_stop import BoundedStop

def hold():
    print("held", flush=True)
    while True:
        time.sleep(0.01)

async def main():
    loop = asyncio.get_running_loop()
    bounded, asked = BoundedStop({seconds}), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    bounded.on_signals()
    {callback}
    await asked.wait()

asyncio.run(main())
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_held_up_ends_after_the_limit(number: signal.Signals) -> None:
    with _started(HELD_UP.format(seconds=0.5, callback="loop.call_soon(hold)")) as process:
        process.send_signal(number)
        began = time.monotonic()
        _, said = process.communicate(timeout=50)

    assert process.returncode == 69
    assert time.monotonic() - began >= 0.4
    assert "not stopped within 0.5 s" in said
    assert "nothing more committed" in said


@pytest.mark.timeout(60)
def test_a_process_that_stops_in_time_ends_as_it_says() -> None:
    with _started(HELD_UP.format(seconds=50, callback='print("running", flush=True)')) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=50)

    assert (process.returncode, said) == (0, "")


def _started(program: str) -> subprocess.Popen[str]:
    """The program, once it has said that it runs."""
    words = [sys.executable, "-c", program]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process
