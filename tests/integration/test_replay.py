"""Replay, compare and upgrade on a real Kafka: the same trail has the same records and findings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_processors.replay import cause_of
from deploytrail_schemas.codec import decode
from deploytrail_schemas.topics import Topic
from support.commands import BIN, Command, run, running
from support.kafka import end_offsets, make_topics, read_topic, wait_for, write
from support.story import APPS, POLICIES, apply_policies, encoded, tell, wait_until_read

OTHER_FORMAT = (str(BIN / "python"), "-m", "support.other_format")
EU, US, LIVES = 1, 3, 8


@dataclass(frozen=True)
class Trail:
    """A Kafka on which every app has judged a story."""

    kafka: str
    folder: Path
    env: dict[str, str]
    ready: str
    metrics: str

    def replay(self, *words: str, **more: Any) -> tuple[int, dict[str, Any]]:
        done = run("processor", "--replay", "--json", *words, env=self.env, cwd=self.folder, **more)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)

    def outputs(self) -> list[tuple[str, int, int, bytes]]:
        """App, partition and offset that each output follows from, and the output."""
        messages = [m for topic in (Topic.RECORDS, Topic.FINDINGS) for m in read_topic(self.kafka, topic)]
        return [(*cause_of(m), m.value() or b"") for m in messages]


@pytest.fixture(scope="module")
def trail(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    folder = tmp_path_factory.mktemp("replay")
    make_topics(own_kafka)
    apply_policies(own_kafka, folder)
    tests = str(Path(__file__).parent.parent)
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_STATE": str(folder / "state"), "PYTHONPATH": tests}
    port = ports.free_port()
    with running("processor", *APPS, env=env | {"DEPLOYTRAIL_METRICS_PORT": str(port)}, cwd=folder) as command:
        for partition in (EU, US):
            write(own_kafka, Topic.EVENTS, encoded(tell(LIVES, partition)))
        wait_until_read(own_kafka, APPS)
        told = partial(httpx.get, timeout=60)
        url = f"http://127.0.0.1:{port}"
        # What Kafka has committed, the worker knows of a moment later.
        wait_for(lambda: told(f"{url}/readyz").text.count(", 0 records behind") == len(APPS), what="nothing behind")
        ready, metrics = told(f"{url}/readyz"), told(f"{url}/metrics")
        assert command.stop() == 0
    assert ready.status_code == 200
    yield Trail(own_kafka, folder, env, ready.text, metrics.text)


def test_a_worker_tells_how_far_behind_it_is_and_how_much_it_keeps(trail: Trail) -> None:
    lines = trail.metrics.splitlines()
    gauges = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    assert trail.ready.splitlines() == ["ready", *(f"{name}: ready, 0 records behind" for name in APPS)]
    assert gauges['deploytrail_state_rows{app="lifecycle",table="deployments"}'] >= 2 * LIVES
    assert gauges['deploytrail_state_bytes{app="lifecycle",table="deployments"}'] > 2 * LIVES * 500
    assert gauges[f'deploytrail_processor_lag_records{{app="lifecycle",partition="{EU}"}}'] == 0


@pytest.mark.timeout(600)
@pytest.mark.requirement("M8.2")
def test_a_replay_into_fresh_state_has_the_same_records_and_findings(trail: Trail) -> None:
    status, found = trail.replay("--compare")
    _, alone = trail.replay(*APPS)

    assert (status, found["differences"]) == (0, [])
    assert found["apps"] == list(APPS)
    # Rollbacks have records of their own, and so has what was inferred.
    assert len(alone["records"]) >= 2 * (LIVES + LIVES // 4)
    assert {f["rule"] for f in alone["findings"]} >= {"overdue", "change_window", "missing_approval"}


def test_a_replay_up_to_an_offset_is_compared_with_what_was_written_by_then(trail: Trail) -> None:
    half = end_offsets(trail.kafka, Topic.EVENTS)[EU] // 3
    status, found = trail.replay("--compare", "--partitions", str(EU), "--until", str(half))
    of_all, _ = trail.replay("--compare", "--until", "2035-01-01T00:00:00Z")

    assert (status, found["differences"]) == (0, [])
    assert [(p["partition"], p["end"]) for p in found["partitions"]] == [(EU, half)]
    assert of_all == 0


def test_other_policies_are_tried_without_applying_them(trail: Trail) -> None:
    (trail.folder / "wider.yaml").write_text(POLICIES.replace("duration_minutes: 480", "duration_minutes: 60"))
    before = end_offsets(trail.kafka, Topic.FINDINGS)
    words = ("processor", "--replay", "--compare", "change_window", "--policies", "wider.yaml")
    done = run(*words, env=trail.env, cwd=trail.folder)
    status, found = trail.replay(*words[2:])
    (trail.folder / "broken.yaml").write_text("kind: change_window\n")
    refused = run(*words[:-1], "broken.yaml", env=trail.env, cwd=trail.folder)

    assert (done.returncode, status) == (1, 1)
    assert "changed  change_window  p1-0: " in done.stdout
    assert "verdict: ok → violation" in done.stdout
    assert {d["rule"] for d in found["differences"]} == {"change_window"}
    assert refused.returncode == 65
    assert end_offsets(trail.kafka, Topic.FINDINGS) == before


def revisions(outputs: list[tuple[str, int, int, bytes]]) -> list[int]:
    return [decode(value)[1]["revision"] for name, _, _, value in outputs if name == "lifecycle"]


@pytest.mark.timeout(600)
@pytest.mark.requirement("M8.2")
def test_an_upgrade_to_another_format_builds_its_state_anew_and_says_nothing_twice(trail: Trail) -> None:
    before = trail.outputs()
    ends = end_offsets(trail.kafka, Topic.EVENTS)
    more = list(tell(2 * LIVES, EU))[len(list(tell(LIVES, EU))) - 72 :]  # later lives of the same story, and its end
    with running("processor", *APPS, env=trail.env, cwd=trail.folder, program=OTHER_FORMAT) as command:
        write(trail.kafka, Topic.EVENTS, encoded(iter(more)))
        wait_until_read(trail.kafka, APPS, later=1)
        assert command.stop() == 0
    fresh = trail.outputs()
    new = fresh[:]
    for one in before:
        new.remove(one)
    status, found = trail.replay("--compare", program=OTHER_FORMAT)

    assert new
    assert all(offset >= ends[partition] for _, partition, offset, _ in new)
    assert (status, found["differences"]) == (0, [])
    # Above those that stand, whatever the former format had counted to.
    assert min(revisions(new)) > max(revisions(before)) + 900_000


@pytest.mark.timeout(600)
def test_the_intake_waits_for_workers_of_another_format_since_two_would_write_the_trail_twice(trail: Trail) -> None:
    with running("processor", "intake", env=trail.env, cwd=trail.folder) as old:
        new = Command("processor", "intake", env=trail.env, cwd=trail.folder, program=OTHER_FORMAT)
        try:
            wait_for(lambda: any("waiting for 1 worker" in line for line in new.lines), what="its word")
            assert old.stop() == 0
            new.wait_ready()
            assert new.stop() == 0
        finally:
            new.kill()
