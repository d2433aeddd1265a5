"""A gateway of several processes: one port, counted together, started again when one dies, stopped together."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_schemas.codec import decode
from deploytrail_schemas.topics import Topic
from support.commands import Command, run
from support.kafka import make_topics, read_topic, wait_for

EVENT = {"event_type": "started", "region": "eu-west-1", "environment": "production", "service": "shop"}


class Gateway:
    """A gateway of three workers on a Kafka of its own."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self.port = ports.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "DEPLOYTRAIL_KAFKA": kafka,
            "DEPLOYTRAIL_GATEWAY_PORT": str(self.port),
            "DEPLOYTRAIL_GATEWAY_WORKERS": "3",
        }
        self.folder = folder
        self.command = Command("gateway", env=self.env, cwd=folder).wait_ready()

    def report(self, deployment: str) -> int:
        """A request on a connection of its own, so that it may reach any worker."""
        return httpx.post(f"{self.url}/v1/events", json=EVENT | {"deployment_id": deployment}, timeout=20).status_code

    def workers(self) -> list[int]:
        pid = self.command.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def counted(self) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=20).text
        found = re.search(r'deploytrail_gateway_requests_total\{route="/v1/events",status="202"\} (\S+)', text)
        return float(found[1]) if found else 0.0


@pytest.fixture
def gateway(own_kafka: str, tmp_path: Path) -> Iterator[Gateway]:
    make_topics(own_kafka)
    started = Gateway(own_kafka, tmp_path)
    try:
        yield started
    finally:
        started.command.stop(40)


def test_workers_share_the_port_and_count_together(gateway: Gateway, own_kafka: str) -> None:
    statuses = [gateway.report(f"shared-{number}") for number in range(60)]
    counts = {gateway.counted() for _ in range(10)}
    stored = {decode(m.value())[1]["deployment_id"] for m in read_topic(own_kafka, Topic.INTAKE)}

    assert statuses == [202] * 60
    assert counts == {60.0}
    assert {f"shared-{number}" for number in range(60)} <= stored
    assert len(gateway.workers()) == 3
    assert len([path for path in (gateway.folder / ".deploytrail" / "gateway-spool").iterdir()]) == 3


def test_a_worker_that_is_killed_is_started_again_and_what_was_counted_stays(gateway: Gateway) -> None:
    for number in range(30):
        gateway.report(f"before-{number}")
    before = gateway.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(set(gateway.workers()) - set(before)) == 1, what="a new worker")
    statuses = [gateway.report(f"after-{number}") for number in range(30)]

    assert statuses == [202] * 30
    assert gateway.counted() == 60.0


def test_all_workers_end_with_the_parent_however_that_ends(gateway: Gateway) -> None:
    workers = gateway.workers()
    assert len(workers) == 3
    gateway.command.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), what="the end of the workers")


def test_sigterm_ends_it_cleanly_and_leaves_nothing(gateway: Gateway) -> None:
    workers = gateway.workers()
    assert len(workers) == 3
    gateway.report("last")

    assert gateway.command.stop(40) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert list((gateway.folder / ".deploytrail" / "gateway-spool").iterdir()) == []


def test_workers_that_read_a_wrong_setting_are_not_started_again(gateway: Gateway, tmp_path: Path) -> None:
    wrong = {"DEPLOYTRAIL_GATEWAY_PORT": str(ports.free_port()), "DEPLOYTRAIL_ANONYMOUS": "x"}
    done = run("gateway", env=gateway.env | wrong, cwd=tmp_path)

    assert done.returncode == 78
    assert "DEPLOYTRAIL_ANONYMOUS is 'x'; expected" in done.stderr
    assert "started again" not in done.stderr


def test_a_second_gateway_does_not_join_the_port_of_the_first(gateway: Gateway, tmp_path: Path) -> None:
    done = run("gateway", env=gateway.env, cwd=tmp_path)

    assert done.returncode == 69
    assert f"port {gateway.port} of 127.0.0.1 cannot be had" in done.stderr
