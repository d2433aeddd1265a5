"""Two workers of the gate: either may be asked, only the owner of the region answers, and nobody where it is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from support.commands import Command, running
from support.gate import REGIONS, Gate, approved, call, prepare, question, registered, settings, url_of
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


@pytest.mark.timeout(180)
@pytest.mark.requirement("M5.4")
def test_workers_answer_for_each_other_and_nobody_for_the_dead(workers: Workers) -> None:
    one = workers.gates["one"]
    for region in REGIONS:
        place = {"region": region}
        one.report(registered(f"good-{region}", **place), approved(f"good-{region}", **place))
    both = {"one": 200, "two": 200}
    wait_for(lambda: all(workers.statuses(region) == both for region in REGIONS), what="both workers' answers")

    owners = {region: workers.owners(region) for region in REGIONS}
    assert all(len(found) == 1 for found in owners.values()), owners
    # Two regions need not have two owners: one whose region the other can take over is enough.
    region, [owner] = next(iter(owners.items()))
    [other] = set(workers.gates) - {owner}
    asked = question(f"good-{region}", region=region)
    workers.commands[owner].kill()
    killed = time.monotonic()
    answer = call(f"{workers.gates[other].url}/v1/permits", asked)

    assert (answer.status, answer.headers.get("Retry-After")) == (503, "2")
    wait_for(lambda: call(f"{workers.gates[other].url}/v1/permits", asked).status == 200, seconds=60, what="takeover")
    print(f"takeover after kill -9: {time.monotonic() - killed:.1f} s")  # noqa: T201  # shown by pytest -rP

    # The approvals that the dead worker had read are known to its successor, and refusals too.
    assert call(f"{workers.gates[other].url}/v1/permits", question("nobody", region=region)).status == 403
    # Without the intake app the trail's time stands: what it would have brought, nobody knows.
    workers.intake.kill()
    wait_for(lambda: call(f"{workers.gates[other].url}/v1/permits", asked).status == 503, seconds=40, what="the 503")
    detail = call(f"{workers.gates[other].url}/v1/permits", asked).body["detail"]

    assert "time stands still" in detail
