"""Two workers of the gate: either may be asked, only the owner of the region answers, and nobody where it is away."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import pytest
from support.commands import Command, running
from support.gate import REGIONS, Gate, approved, call, prepare, question, registered, settings, step, url_of
from support.kafka import wait_for


@dataclass(frozen=True)
class Workers:
    """Two gates by name, and the intake app beside them."""

    gates: dict[str, Gate]
    commands: dict[str, Command]
    intake: Command

    def statuses(self, region: str, **headers: str) -> dict[str, int]:
        """What each worker answers for a region; with the hop header it may not pass the question on."""
        asked = question(f"good-{region}", region=region)
        return {name: call(f"{gate.url}/v1/permits", asked, **headers).status for name, gate in self.gates.items()}

    def owners(self, region: str) -> list[str]:
        return [name for name, status in self.statuses(region, **{"Deploytrail-Hop": "1"}).items() if status == 200]


@pytest.fixture
def workers(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("gates")
    prepare(own_kafka, folder)
    envs = {name: settings(own_kafka, folder, name) for name in ("one", "two")}
    with ExitStack() as stack:
        intake = stack.enter_context(running("processor", "intake", env=settings(own_kafka, folder, "in"), cwd=folder))
        commands = {
            name: stack.enter_context(running("processor", "gate", env=env, cwd=folder)) for name, env in envs.items()
        }
        gates = {name: Gate(own_kafka, url_of(env), folder) for name, env in envs.items()}
        yield Workers(gates, commands, intake)


class Load:
    """Questions to both workers, without a pause: of each deployment the statuses, and the permits handed out."""

    def __init__(self, workers: Workers, region: str) -> None:
        self._ended = Event()
        self.statuses: dict[str, set[int]] = {f"good-{region}": set(), "taken": set()}
        self.handed: set[str] = set()
        self._threads = [
            Thread(target=self._ask, args=(gate, name, region), daemon=True)
            for gate in workers.gates.values()
            for name in self.statuses
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, gate: Gate, name: str, region: str) -> None:
        while not self._ended.is_set():
            answer = call(f"{gate.url}/v1/permits", question(name, region=region))
            self.statuses[name].add(answer.status)
            if answer.status == 200:
                self.handed.add(claims(answer.body["permit"])["jti"])
            else:  # nobody is there, or nobody can tell: as a deploy script would, but sooner
                self._ended.wait(0.05)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(90)


def claims(permit: str) -> dict[str, Any]:
    """What a permit says; whether it is a good one is another test's."""
    body = permit.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


@pytest.mark.timeout(600)
@pytest.mark.requirement("M5.4")
def test_workers_answer_for_each_other_and_nobody_for_the_dead(workers: Workers) -> None:
    one = workers.gates["one"]
    for region in REGIONS:
        place = {"region": region}
        one.report(registered(f"good-{region}", **place), approved(f"good-{region}", **place))
    both = {"one": 200, "two": 200}
    wait_for(lambda: all(workers.statuses(region) == both for region in REGIONS), what="both workers' answers")

    def owners() -> dict[str, list[str]]:
        """Of each region, who owns it: never two, and nobody while partitions move."""
        found = {region: workers.owners(region) for region in REGIONS}
        assert all(len(names) <= 1 for names in found.values()), found
        return found

    wait_for(lambda: all(owners().values()), what="an owner of each region")
    # Two regions need not have two owners: one whose region the other can take over is enough.
    region, [owner] = next(iter(owners().items()))
    [other] = set(workers.gates) - {owner}
    asked = question(f"good-{region}", region=region)
    place = {"region": region}
    one.report(registered("taken", **place), approved("taken", **place))
    one.report(step("rejected", "taken", approver="ada", **place))
    load = Load(workers, region)
    wait_for(lambda: len(load.handed) > 2, what="permits")
    workers.commands[owner].kill()
    killed = time.monotonic()
    answer = call(f"{workers.gates[other].url}/v1/permits", asked)

    assert (answer.status, answer.headers.get("Retry-After")) == (503, "2")
    wait_for(lambda: call(f"{workers.gates[other].url}/v1/permits", asked).status == 200, what="takeover")
    print(f"takeover after kill -9: {time.monotonic() - killed:.1f} s")  # noqa: T201  # shown by pytest -rP

    # Who asked meanwhile: what was taken back got nothing, and the trail knows each permit that was handed out.
    before = len(load.handed)
    wait_for(lambda: len(load.handed) > before + 2, what="more permits")
    load.stop()
    assert load.statuses["taken"] <= {403, 503, 0}, load.statuses
    assert {200, 503} <= load.statuses[f"good-{region}"], load.statuses
    issued = {one["tags"]["permit_id"] for one in workers.gates[other].approvals("permit_issued")}
    assert load.handed <= issued

    # The approvals that the dead worker had read are known to its successor, and refusals too.
    assert call(f"{workers.gates[other].url}/v1/permits", question("nobody", region=region)).status == 403
    # Without the intake app the trail's time stands: what it would have brought, nobody knows.
    workers.intake.kill()
    wait_for(lambda: call(f"{workers.gates[other].url}/v1/permits", asked).status == 503, what="the 503")
    detail = call(f"{workers.gates[other].url}/v1/permits", asked).body["detail"]

    assert "time stands still" in detail
