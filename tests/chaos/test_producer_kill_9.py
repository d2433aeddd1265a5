"""Deploy scripts killed at random moments: every event whose emit returned arrives."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gateways import gateway
from support.spool import command, environment, python

KILLS = 500

# One process forks the scripts, so that 500 of them take seconds: each emits until it is killed.
SCRIPT = """
import os, random, signal, sys, time
import fastavro, deploytrail
from deploytrail_schemas import codec
rng = random.Random(int(sys.argv[2]))
for number in range(int(sys.argv[1])):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        deployment = deploytrail.track(deployment_id=f"d-{number}")
        for step in range(10_000):
            deployment.progress(version=str(step)) if step else deployment.start(version="0")
            os.write(writing, b"x")
    os.close(writing)
    # Half of them in their first event already, the others after some.
    told = sum(len(os.read(reading, 1)) for _ in range(rng.randrange(1, 10))) if number % 2 else 0
    time.sleep(rng.uniform(0, 0.012))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while data := os.read(reading, 65536):
        told += len(data)
    os.close(reading)
    print(number, told)
"""


@pytest.mark.requirement("M3.1", "M8.4")
@pytest.mark.timeout(600)
def test_every_event_whose_emit_returned_arrives_after_500_kills(tmp_path: Path) -> None:
    env = environment(tmp_path)
    done = python(SCRIPT, env, str(KILLS), "7")
    assert done.returncode == 0, done.stderr
    told = {int(number): int(count) for number, count in map(str.split, done.stdout.splitlines())}
    with gateway() as there:
        command("start", "--wait", "120", env=env | {"DEPLOYTRAIL_URL": there.url})
    arrived: dict[str, set[int]] = {}
    for event in there.events:
        arrived.setdefault(event["deployment_id"], set()).add(int(event.get("version") or 0))

    assert len(told) == KILLS
    assert sum(told.values()) > 2 * KILLS
    missing = {n: set(range(count)) - arrived.get(f"d-{n}", set()) for n, count in told.items()}
    assert not any(missing.values())
    assert [e["producer_seq"] for e in there.events] == list(range(1, len(there.events) + 1))
