"""What reporting promises to the process that it lives in, whatever that does and whatever the other side is."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.commands import running
from support.gateways import accept, gateway
from support.own_time import SAY_NOW, quickest, timed
from support.spool import COMMAND, command, environment, python, stored


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers; its number."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        yield hole.getsockname()[1]


def _wait_for(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def _exit_seconds(env: dict[str, str], report: str) -> float:
    """From the script's last statement to the end of its process."""
    done = timed([sys.executable, "-c", f"import sys, time\n{report}\n{SAY_NOW}\nsys.exit(7)"], env)
    assert done.code == 7
    return done.after_said


@pytest.mark.requirement("M3.1", "M2.2")
@pytest.mark.parametrize("scheme", ["http", "kafka"])
def test_a_black_hole_adds_at_most_a_second_to_the_exit_and_the_agent_drains_the_rest(
    tmp_path: Path, scheme: str
) -> None:
    """The quickest of several: what else the machine does only ever adds."""
    spool = tmp_path / "spool"
    with black_hole() as port:
        env = environment(spool, DEPLOYTRAIL_URL=f"{scheme}://127.0.0.1:{port}")
        report = "import deploytrail\nwith deploytrail.track(): pass"
        bare = min(_exit_seconds(env, "") for _ in range(3))
        least = quickest(lambda: _exit_seconds(env, report), at_most=bare + 1.0, times=12)
    more = least - bare
    told = len(stored(spool))
    print(f"{scheme} black hole: the exit takes {more:.2f} s more than that of bare Python")  # noqa: T201  # shown by pytest -rP
    with (
        gateway() as there,
        running("agent", "--port", "0", env=environment(spool, DEPLOYTRAIL_URL=there.url), cwd=tmp_path),
    ):
        _wait_for(lambda: len(there.events) == told)

    assert more <= 1.0
    assert sorted(e["producer_seq"] for e in there.events) == list(range(1, told + 1))
    assert Counter(e["event_type"] for e in there.events) == {"started": told // 2, "succeeded": told // 2}


def _gapless(events: list[dict[str, Any]]) -> None:
    assert [e["producer_seq"] for e in events] == list(range(1, len(events) + 1))
    assert len({e["event_id"] for e in events}) == len(events)


@pytest.mark.requirement("M2.2", "M8.4")
def test_threads_report_at_once_and_each_event_arrives_once(tmp_path: Path) -> None:
    script = """
import deploytrail, threading
def deploy():
    for _ in range(25):
        with deploytrail.track():
            pass
threads = [threading.Thread(target=deploy) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert deploytrail.flush(60)
"""
    with gateway() as there:
        done = python(script, environment(tmp_path, DEPLOYTRAIL_URL=there.url))

    assert (done.returncode, done.stderr) == (0, "")
    _gapless(there.events)
    assert Counter(e["event_type"] for e in there.events) == {"started": 200, "succeeded": 200}


@pytest.mark.requirement("M2.2")
def test_tasks_of_one_loop_report_without_holding_it_up(tmp_path: Path) -> None:
    """The loop goes on while events wait for the disk: a ticker beside them is never late by much."""
    script = """
import asyncio, time, deploytrail
async def deploy(n):
    async with deploytrail.Tracker(deployment_id=f"d-{n}"):
        await asyncio.sleep(0.01)
        if n % 10 == 0:
            raise ValueError(n)
async def main():
    late = []
    async def tick():
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - before - 0.01)
    ticker = asyncio.create_task(tick())
    ended = await asyncio.gather(*(deploy(n) for n in range(50)), return_exceptions=True)
    ticker.cancel()
    print(sum(isinstance(e, ValueError) for e in ended), max(late))
asyncio.run(main())
"""
    spools = (tmp_path / str(number) for number in itertools.count())

    def late() -> float:
        spool = next(spools)
        done = python(script, environment(spool))
        failed, seconds = done.stdout.split()
        events = stored(spool)

        assert (done.returncode, done.stderr, failed) == (0, "", "5")
        _gapless(events)
        assert Counter(e["event_type"] for e in events) == {"started": 50, "succeeded": 45, "failed": 5}
        return float(seconds)

    assert quickest(late, at_most=1.0) < 1.0


@pytest.mark.requirement("M2.2")
def test_a_fork_beside_a_first_report_waits_for_its_imports(tmp_path: Path) -> None:
    """A child that were forked in the midst of another thread's import would wait for that import for ever."""
    script = """
import deploytrail, os, signal, threading, time
threading.Thread(target=deploytrail.start, kwargs={"deployment_id": "parent"}).start()
children = []
for n in range(12):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # one that hangs leaves nothing behind
        import http.client, json, ssl, urllib.request
        deploytrail.start(deployment_id=f"child-{n}")
        os._exit(0)
    children.append(pid)
    time.sleep(0.01)
print(*(os.waitpid(pid, 0)[1] for pid in children))
"""
    with gateway() as there:
        done = python(script, environment(tmp_path, DEPLOYTRAIL_URL=there.url))
    names = [e["deployment_id"] for e in there.events] + [e["deployment_id"] for e in stored(tmp_path)]

    assert (done.returncode, done.stdout.split()) == (0, ["0"] * 12)
    assert set(names) == {"parent", *(f"child-{n}" for n in range(12))}


@pytest.mark.requirement("M2.2")
def test_a_fork_in_the_midst_of_reporting_threads_leaves_both_sides_reporting(tmp_path: Path) -> None:
    script = """
import deploytrail, os, signal, threading, time
go_on = True
def deploy():
    while go_on:
        deploytrail.track().start()
        time.sleep(0.005)
threads = [threading.Thread(target=deploy) for _ in range(4)]
for thread in threads: thread.start()
children = []
for n in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # one that hangs leaves nothing behind
        deploytrail.start(deployment_id=f"child-{n}")
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
go_on = False
for thread in threads: thread.join()
deploytrail.start(deployment_id="parent")
"""
    done = python(script, environment(tmp_path))
    events = stored(tmp_path)
    by_name = Counter(e["deployment_id"] for e in events)

    assert (done.returncode, done.stderr) == (0, "")
    assert all(by_name[name] == 1 for name in (*(f"child-{n}" for n in range(10)), "parent"))
    for producer in {e["producer_id"] for e in events}:
        _gapless([e for e in events if e["producer_id"] == producer])


TERMINATED = """
import deploytrail, signal, sys, time
{handler}
with deploytrail.track():
    print("running", flush=True)
    time.sleep(60)
"""


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(
    ("handler", "status", "told"),
    [
        ("", -signal.SIGTERM, ["started"]),  # nobody is left to report; it becomes lost
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))", 143, ["started", "failed"]),
    ],
)
def test_sigterm_ends_the_script_as_it_would_without_reports(
    tmp_path: Path, handler: str, status: int, told: list[str]
) -> None:
    with black_hole() as port:
        env = environment(tmp_path, DEPLOYTRAIL_URL=f"http://127.0.0.1:{port}")
        script = subprocess.Popen(
            [sys.executable, "-c", TERMINATED.format(handler=handler)], env=env, stdout=subprocess.PIPE, text=True
        )
        assert script.stdout is not None
        assert script.stdout.readline() == "running\n"
        script.send_signal(signal.SIGTERM)
        ended = script.wait(120)
        script.stdout.close()
    events = stored(tmp_path)

    assert ended == status
    assert [e["event_type"] for e in events] == told
    assert [e["exit_code"] for e in events[1:]] == [143] * (len(told) - 1)


@pytest.mark.requirement("M2.2")
def test_reports_at_the_very_end_of_the_interpreter_raise_nothing(tmp_path: Path) -> None:
    """What a function at exit reports is kept; once Python has taken its modules apart, there is nobody to keep it."""
    script = """
import atexit, deploytrail
class Late:
    def __del__(self):
        deploytrail.succeed("d-1")
late = Late()
atexit.register(deploytrail.start, deployment_id="d-1")
"""
    done = python(script, environment(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert stored(tmp_path)[0]["event_type"] == "started"


def _slow(events: list[dict[str, Any]], request: int) -> tuple[int, dict[str, Any]]:
    """A gateway that is busy: 503 at first, and then an answer that takes longer than a process waits by itself."""
    if request < 2:
        return 503, {}
    time.sleep(1.5)
    return accept(events, request)


@pytest.mark.requirement("M3.1", "M8.4")
def test_with_wait_the_tail_arrives_although_the_disk_vanishes_with_the_runner(tmp_path: Path) -> None:
    with gateway(_slow) as there:
        env = environment(tmp_path / "runner", DEPLOYTRAIL_URL=there.url)
        done = command("run", "--wait", "90", "--", "true", env=env)
        shutil.rmtree(tmp_path / "runner")
    taken = [e for headers, events in there.requests if headers["status"] == "202" for e in events]

    assert (done.returncode, done.stderr.count("503")) == (0, 1)
    assert [e["event_type"] for e in taken] == ["started", "succeeded"]
    assert taken[-1]["tags"]["final_seq"] == "2"


@pytest.mark.requirement("M3.1", "M8.4")
@pytest.mark.parametrize(
    "words",
    [
        [*COMMAND, "run", "--", "cat"],
        [sys.executable, "-c", "import deploytrail, sys\nwith deploytrail.track(): sys.stdin.read()"],
    ],
)
def test_the_start_is_sent_while_the_deployment_runs(tmp_path: Path, words: list[str]) -> None:
    """A runner that is killed, with its disk, leaves a deployment that began: not one that nobody knows of."""
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url)
        deploy = subprocess.Popen(words, env=env, stdin=subprocess.PIPE)
        try:
            _wait_for(lambda: there.events)
        finally:
            deploy.kill()
            deploy.communicate(timeout=60)

    assert [(e["event_type"], e.get("tags")) for e in there.events] == [("started", None)]


@pytest.mark.requirement("M7.3")
def test_a_lost_tail_is_seen_by_the_missing_final_number(tmp_path: Path) -> None:
    """By what arrived alone: a producer whose last event does not say that it is the last has lost its tail."""
    arrived: list[dict[str, Any]] = []
    for n, kept in enumerate((3, 2)):
        spool = tmp_path / f"runner-{n}"
        script = "import deploytrail\nwith deploytrail.track() as d: d.progress()"
        python(script, environment(spool))
        arrived += stored(spool)[:kept]  # the disk of the second vanished before its end was sent
    last = {e["producer_id"]: e for e in arrived}
    complete = [e["tags"].get("final_seq") == str(e["producer_seq"]) for e in last.values()]

    assert complete == [True, False]
