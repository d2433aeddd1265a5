"""Sending to a gateway: a real HTTP server that answers as the gateway does, and ways in which it does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from support.gateways import accept, gateway
from support.kafka import wait_for
from support.own_time import SAY_NOW, quickest, timed
from support.spool import COMMAND, PATIENT, command, environment, python, stored


@pytest.mark.requirement("M2.2", "M8.3")
def test_run_is_delivered_with_times_and_token(tmp_path: Path) -> None:
    began = time.time_ns() // 1000
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url + "/", DEPLOYTRAIL_TOKEN="dtk_secret", **PATIENT)
        words = [*COMMAND, "run", "--version", "4.2.0", "--", "cat"]
        with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            try:
                wait_for(lambda: bool(there.requests), what="its start")
                _, said = run.communicate(timeout=120)
            finally:
                run.kill()
    first, second = there.requests

    assert (run.returncode, said) == (0, "")
    assert [e["event_type"] for e in there.events] == ["started", "succeeded"]
    assert first[0]["path"] == "/v1/events"
    assert first[0]["Authorization"] == "Bearer dtk_secret"
    assert began <= first[1][0]["occurred_at"] <= int(first[0]["Deploytrail-Sent-At"]) <= time.time_ns() // 1000
    assert "Deploytrail-Echo" not in first[0]
    sent, received, acknowledged = map(int, second[0]["Deploytrail-Echo"].split(","))
    assert int(first[0]["Deploytrail-Sent-At"]) == sent <= received <= acknowledged
    for headers, [event] in (first, second):
        waited = int(headers["Deploytrail-Sent-Monotonic"]) - event["monotonic_ns"]
        assert 0 <= waited <= 10**10
    assert all(validate(RecordType.DEPLOYMENT_EVENT, event)[1] == [] for event in there.events)
    assert stored(tmp_path) == []


@pytest.mark.requirement("M8.3")
def test_echo_passes_from_one_short_lived_command_to_the_next(tmp_path: Path) -> None:
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url, **PATIENT)
        deployment = command("start", env=env).stdout.strip()
        command("succeed", deployment, env=env)
    (first, _), (second, _) = there.requests

    assert second["Deploytrail-Echo"].startswith(first["Deploytrail-Sent-At"] + ",")
    assert [e["producer_seq"] for e in there.events] == [1, 2]


@pytest.mark.requirement("M3.1", "M8.4")
def test_what_waited_is_sent_in_order_over_one_connection(tmp_path: Path) -> None:
    python(
        "import deploytrail\nfor n in range(600): deploytrail.track().progress(version=str(n))", environment(tmp_path)
    )
    with gateway() as there:
        command("start", "--wait", "60", env=environment(tmp_path, DEPLOYTRAIL_URL=there.url))

    assert [e["producer_seq"] for e in there.events] == list(range(1, 602))
    assert len(there.requests) == 2
    assert there.connections == 1
    assert stored(tmp_path) == []


@pytest.mark.requirement("M3.1", "M8.4")
def test_trouble_over_there_is_retried(tmp_path: Path) -> None:
    answers = iter([500, 503, 429, 408])

    def trouble(events: list[dict[str, Any]], request: int) -> tuple[int, dict[str, Any]]:
        status = next(answers, 0)
        return (status, {"title": "busy"}) if status else accept(events, request)

    with gateway(trouble) as there:
        done = command("start", "--wait", "60", env=environment(tmp_path, DEPLOYTRAIL_URL=there.url))

    assert [headers["status"] for headers, _ in there.requests] == ["500", "503", "429", "408", "202"]
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "the gateway answers 500: busy; events wait in" in done.stderr
    assert stored(tmp_path) == []


@pytest.mark.requirement("M3.1")
def test_refused_event_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    def picky(events: list[dict[str, Any]], request: int) -> tuple[int, dict[str, Any]]:
        if any(event["version"] == "bad" for event in events):
            return 422, {"title": "Unprocessable", "detail": "/0/version is bad"}
        return accept(events, request)

    script = "import deploytrail\nfor v in ('1', 'bad', '3'): deploytrail.track().progress(version=v)"
    python(script, environment(tmp_path))
    with gateway(picky) as there:
        done = command("start", "--version", "4", "--wait", "60", env=environment(tmp_path, DEPLOYTRAIL_URL=there.url))
    kept = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    accepted = [e["version"] for headers, events in there.requests if headers["status"] == "202" for e in events]

    assert accepted == ["1", "3", "4"]
    assert [(line["value"]["version"], line["why"]) for line in kept] == [
        ("bad", "the gateway answers 422: /0/version is bad")
    ]
    assert done.stderr.count("\n") == 1
    assert f"it is kept in {tmp_path}/rejected.jsonl" in done.stderr
    assert stored(tmp_path) == []


@pytest.mark.requirement("M2.6", "M3.1")
@pytest.mark.parametrize("status", [401, 404, 301])
def test_wrong_token_or_address_costs_no_event(tmp_path: Path, status: int) -> None:
    with gateway(lambda _events, _request: (status, {"title": "no"})) as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url, DEPLOYTRAIL_TOKEN="dtk_secret", **PATIENT)
        done = command("start", env=env)

    assert done.returncode == 0
    assert f"the gateway answers {status}: no; events wait in {tmp_path}" in done.stderr
    assert "dtk_secret" not in done.stderr
    assert len(stored(tmp_path)) == 1


@pytest.mark.requirement("M3.1")
@pytest.mark.parametrize("received", [10**30, -5, 0, True, 1.5, "now", None])
def test_a_time_that_is_none_is_not_sent_back(tmp_path: Path, received: object) -> None:
    """It would stand in a header of every later request, for which each event would be refused."""
    with gateway(lambda *_: (202, {"received_at": received})) as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url)
        for _ in range(2):
            command("start", "--wait", "60", env=env)
    _, second = there.requests

    assert stored(tmp_path) == []
    assert "Deploytrail-Sent-At" in second[0]
    assert "Deploytrail-Echo" not in second[0]


@pytest.mark.requirement("M2.2", "M2.6")
def test_what_the_other_side_says_stays_within_one_line(tmp_path: Path) -> None:
    with gateway(lambda *_: (400, {"detail": "no\n::stop-commands::x\r\x1b[2Jgone"})) as there:
        done = command("start", "--wait", "60", env=environment(tmp_path, DEPLOYTRAIL_URL=there.url))

    assert len(done.stderr.splitlines()) == 1
    assert "no ::stop-commands::x  [2Jgone" in done.stderr


@pytest.mark.requirement("M2.6", "M3.1")
@pytest.mark.parametrize("token", ["sesame-open\n", "sesame-open\r\nX-Admin: 1", "sesame-öpen€"])
def test_a_token_with_characters_that_are_none_of_it_costs_no_event_and_shows_nowhere(
    tmp_path: Path, token: str
) -> None:
    whole = token.endswith("\n")
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url, DEPLOYTRAIL_TOKEN=token)
        done = command("start", "--wait", "60" if whole else "5", env=env)
        doctor = command("doctor", env=env)

    assert done.returncode == 0
    assert "sesame" not in done.stderr + doctor.stderr + doctor.stdout
    assert ("DEPLOYTRAIL_TOKEN holds a character" in done.stderr) is not whole
    assert ("DEPLOYTRAIL_TOKEN holds a character" in doctor.stdout) is not whole
    assert (len(there.events), len(stored(tmp_path))) == ((1, 0) if whole else (0, 1))
    assert [headers["Authorization"] for headers, events in there.requests if events] == ["Bearer sesame-open"] * len(
        there.events
    )


@pytest.mark.requirement("M2.2", "M3.1")
@pytest.mark.parametrize("scheme", ["http", "kafka"])
def test_black_hole_costs_at_most_a_second_at_exit(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as hole:
        url = f"{scheme}://127.0.0.1:{hole.getsockname()[1]}"
        env = environment(tmp_path, DEPLOYTRAIL_URL=url)
        script = f"import deploytrail, sys, time\nwith deploytrail.track(): pass\n{SAY_NOW}\nsys.exit(7)"

        def seconds(code: int, *argv: str) -> float:
            done = timed([*COMMAND, *argv], env)
            assert done.code == code
            return done.seconds

        def exit_seconds() -> float:
            done = timed([sys.executable, "-c", script], env)
            assert done.code == 7
            return done.after_said

        more = quickest(exit_seconds, at_most=1.5)
        took = quickest(lambda: seconds(3, "run", "--", "sh", "-c", "exit 3"), at_most=2.5)
        unwaited = quickest(lambda: seconds(0, "start", "--wait", "0"), at_most=1.2)
        waiting = len(stored(tmp_path))
    print(f"{scheme} black hole: exit took {more:.2f} s, run {took:.2f} s, start --wait 0 {unwaited:.2f} s")  # noqa: T201  # shown by pytest -rP

    assert more <= 1.5  # a second of waiting, and the end of the interpreter on a busy machine
    assert took <= 2.5
    assert unwaited <= 1.2
    assert waiting >= 5
    with gateway() as there:
        command("start", "--wait", "60", env=environment(tmp_path, DEPLOYTRAIL_URL=there.url))
    assert [e["producer_seq"] for e in there.events] == list(range(1, waiting + 2))


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "kafka://127.0.0.1:1", "ftp://host", "nonsense", "https://[bad"])
def test_url_that_leads_nowhere_is_said_once_and_costs_nothing(tmp_path: Path, url: str) -> None:
    def run() -> float:
        words = [*COMMAND, "run", "--", "sh", "-c", "echo out; exit 3"]
        done = timed(words, environment(tmp_path, DEPLOYTRAIL_URL=url))

        assert (done.code, done.stdout) == (3, "out\n")
        assert done.stderr.count("\n") <= 2
        assert "wait in" in done.stderr
        return done.seconds

    assert quickest(run, at_most=3.0) <= 3
    assert [e["event_type"] for e in stored(tmp_path)][:2] == ["started", "failed"]


@pytest.mark.requirement("M2.2", "M8.4")
def test_many_commands_at_once_deliver_each_event_once(tmp_path: Path) -> None:
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url)
        threads = [
            threading.Thread(target=command, args=("start", "--wait", "60"), kwargs={"env": env}) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # On a busy host one may have waited long enough for the lock to go on as a producer of its own.
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in there.events:
        numbers[event["producer_id"]].append(event["producer_seq"])

    assert len(there.events) == len({event["event_id"] for event in there.events}) == 8
    assert [sorted(of_one) for of_one in numbers.values()] == [list(range(1, len(n) + 1)) for n in numbers.values()]
    assert stored(tmp_path) == []


@pytest.mark.requirement("M2.2")
def test_child_of_a_fork_sends_by_itself(tmp_path: Path) -> None:
    script = """
import os, deploytrail
deploytrail.start(deployment_id="parent")
assert deploytrail.flush(60)
pid = os.fork()
if pid == 0:
    deploytrail.start(deployment_id="child")
    os._exit(0 if deploytrail.flush(60) else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    with gateway() as there:
        done = python(script, environment(tmp_path, DEPLOYTRAIL_URL=there.url))

    assert (done.returncode, done.stderr) == (0, "")
    assert [e["deployment_id"] for e in there.events] == ["parent", "child"]


@pytest.mark.requirement("M3.1", "M8.4")
def test_full_disk_is_drained_although_the_place_cannot_be_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small disk needs root: {mount.stderr.strip()}")
    try:
        spool = disk / "spool"
        python("import deploytrail\nd = deploytrail.track()\nfor n in range(3000): d.progress()", environment(spool))
        kept = len(stored(spool))
        (disk / "filler").write_bytes(b"x" * os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize)
        with gateway() as there:
            script = "import deploytrail\nfor _ in range(50): deploytrail.track().progress()\ndeploytrail.flush(60)"
            done = python(script, environment(spool, DEPLOYTRAIL_URL=there.url))
        numbers = [_number(event) for event in there.events]
        after = command("start", env=environment(spool))
        left = stored(spool)
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    assert done.returncode == 0
    assert "No space left on device. The deploy is not affected" in done.stderr
    assert kept > 1000
    assert len(numbers) >= kept
    assert sorted(numbers) == numbers
    assert after.stderr == ""
    # All numbers were given, also those of events that found no room: the gaps tell how many, and so do signals.
    signals = [event for event in (*there.events, *left) if "signal_id" in event]
    assert signals
    assert _number(left[-1]) == 3051 + len(signals)


def _number(event: dict[str, Any]) -> int:
    """A signal that tells of losses has its number among its labels."""
    return int(event["labels"]["producer_seq"] if "labels" in event else event["producer_seq"])
