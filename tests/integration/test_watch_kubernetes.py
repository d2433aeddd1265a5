"""`deploytrail watch kubernetes` against a server that answers as the Kubernetes API does."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deploytrail_local import ports
from support.commands import Command, running
from support.gateways import Received, gateway
from support.kube_api import KINDS, KubeApi, kube_api
from support.kubernetes import workload
from support.spool import command, environment

OTHER = "registry.example/shop/checkout:4.3.0@sha256:" + "2c" * 32


def accepted(values: list[dict[str, Any]], _: int) -> tuple[int, dict[str, Any]]:
    return 202, {"accepted": len(values), "received_at": time.time_ns() // 1000}


@pytest.fixture
def there() -> Iterator[Received]:
    with gateway(accepted) as received:
        yield received


@pytest.fixture
def cluster() -> Iterator[KubeApi]:
    with kube_api() as api:
        yield api


@contextmanager
def watching(folder: Path, cluster: KubeApi, there: Received, *words: str) -> Iterator[Command]:
    env = environment(folder / "spool", DEPLOYTRAIL_URL=there.url, DEPLOYTRAIL_CLUSTER="prod-1")
    with running("watch", "kubernetes", "--server", cluster.url, *words, env=env, cwd=folder) as watch:
        yield watch
        assert watch.stop() == 0


def rollouts(there: Received) -> list[dict[str, Any]]:
    return [record for record in there.events if record.get("event_type") == "started"]


def observed(there: Received, word: str) -> list[str]:
    return [record["instance"] for record in there.events if record.get("observation_type") == word]


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - began


def pod(number: int) -> dict[str, Any]:
    made = workload(
        "Pod", name=f"checkout-{number}", meta={"ownerReferences": [{"kind": "ReplicaSet", "controller": True}]}
    )
    running = {"startedAt": "2026-11-02T12:00:00Z"}
    image = "registry.example/shop/checkout"
    status = {
        "name": "c0",
        "image": f"{image}:4.2.0",
        "imageID": f"{image}@sha256:{'1b' * 32}",
        "state": {"running": running},
    }
    return made | {"status": {"phase": "Running", "containerStatuses": [status]}}


@pytest.mark.requirement("M5.4", "M8.6")
def test_a_rollout_without_a_permit_is_found_within_seconds(there: Received, cluster: KubeApi, tmp_path: Path) -> None:
    took = []
    cluster.put(workload(meta={"creationTimestamp": "2020-01-01T00:00:00Z"}))
    with watching(tmp_path, cluster, there):
        for number in range(10):
            image = f"registry.example/shop/checkout:5.{number}"
            cluster.put(workload("Deployment", image, generation=number + 2))
            took.append(wait_for(lambda number=number: len(rollouts(there)) == number + 1))
    found = rollouts(there)
    print(f"found after {statistics.median(took) * 1000:.0f} ms in the median, {max(took) * 1000:.0f} at worst")  # noqa: T201  # shown by pytest -rP

    assert statistics.median(took) < 5
    assert max(took) < 30
    assert len({event["deployment_id"] for event in found}) == 10
    assert {event["provenance"] for event in found} == {"inferred"}
    assert {event["tags"]["without_permit"] for event in found} == {"no_permit"}
    assert [event["version"] for event in found] == [f"5.{number}" for number in range(10)]


@pytest.mark.requirement("M8.6")
def test_lists_are_read_by_pages_and_what_runs_is_observed(there: Received, cluster: KubeApi, tmp_path: Path) -> None:
    pods = [pod(number) for number in range(5)]
    for made in pods:
        cluster.put(made)
    with watching(tmp_path, cluster, there):
        wait_for(lambda: len(observed(there, "running")) == 5)
        cluster.delete(pods[0])
        wait_for(lambda: observed(there, "removed") == ["shop/checkout-0"])
    digests = {r["artifact_digest"] for r in there.events if r.get("observation_type") == "running"}

    assert cluster.lists("Pod") == 3
    assert sorted(observed(there, "running")) == [f"shop/checkout-{number}" for number in range(5)]
    assert digests == {"sha256:" + "1b" * 32}
    assert rollouts(there) == []


@pytest.mark.requirement("M8.6")
def test_a_lost_connection_is_made_again_where_it_stood_and_nothing_is_missed(
    there: Received, cluster: KubeApi, tmp_path: Path
) -> None:
    with watching(tmp_path, cluster, there):
        lists = cluster.lists("Deployment")
        cluster.cut("Deployment")
        wait_for(lambda: len(cluster.watches("Deployment")) >= 2)
        cluster.cut("Deployment", after_bytes=40)
        cluster.put(workload(name="one"))
        wait_for(lambda: len(rollouts(there)) == 1)
        cluster.put(workload(name="two"))
        wait_for(lambda: len(rollouts(there)) == 2)

    assert cluster.lists("Deployment") == lists
    assert [event["tags"]["workload"] for event in rollouts(there)] == ["Deployment/one", "Deployment/two"]


@pytest.mark.requirement("M8.6")
def test_a_place_that_is_too_old_is_listed_again_and_what_happened_meanwhile_is_found(
    there: Received, cluster: KubeApi, tmp_path: Path
) -> None:
    kept, lost = workload(name="kept"), workload(name="lost")
    cluster.put(kept)
    cluster.put(lost)
    with watching(tmp_path, cluster, there):
        wait_for(lambda: len(observed(there, "declared")) == 2)
        before = len(rollouts(there))
        cluster.delete(lost)
        cluster.put(workload("Deployment", OTHER, name="kept", generation=2))
        cluster.forget()
        cluster.cut("Deployment")
        wait_for(lambda: len(rollouts(there)) > before and rollouts(there)[-1]["version"] == "4.3.0")
        wait_for(lambda: observed(there, "removed") != [])

    assert cluster.lists("Deployment") >= 2
    assert observed(there, "removed") == ["shop/Deployment/lost"]
    assert rollouts(there)[-1]["version"] == "4.3.0"


@pytest.mark.requirement("M8.6")
def test_a_bookmark_is_where_the_next_watch_begins(there: Received, cluster: KubeApi, tmp_path: Path) -> None:
    with watching(tmp_path, cluster, there):
        first = cluster.watches("DaemonSet")[-1]
        cluster.put(workload())
        cluster.bookmark("DaemonSet")
        wait_for(lambda: cluster.has_told("DaemonSet"))
        cluster.cut("DaemonSet")
        wait_for(lambda: len(cluster.watches("DaemonSet")) >= 2)
        last = cluster.watches("DaemonSet")[-1]

    assert int(last) == int(first) + 2
    assert all(query["allowWatchBookmarks"] == "true" for _, query in cluster.requests if "watch" in query)


@pytest.mark.requirement("M8.6")
def test_what_happened_while_nobody_watched_is_found_at_the_next_start(
    there: Received, cluster: KubeApi, tmp_path: Path
) -> None:
    aged = {"creationTimestamp": "2020-01-01T00:00:00Z"}
    cluster.put(workload(meta=aged))
    cluster.put(workload(name="quiet", meta=aged))
    lines = []
    for _ in range(2):
        with watching(tmp_path, cluster, there) as watch:
            pass
        lines += watch.lines
        cluster.put(workload("Deployment", OTHER, meta=aged, generation=2))
    with watching(tmp_path, cluster, there):
        wait_for(lambda: len(rollouts(there)) == 1)

    assert lines == ["deploytrail watch: ready, watching prod-1\n"] * 2
    assert [event["tags"]["workload"] for event in rollouts(there)] == ["Deployment/checkout"]


@pytest.mark.requirement("M5.4")
def test_a_rollout_with_a_permit_or_an_id_of_its_own_is_observed_and_no_more(
    there: Received, cluster: KubeApi, tmp_path: Path
) -> None:
    with watching(tmp_path, cluster, there):
        cluster.put(workload(permit="shown"))
        cluster.put(workload("StatefulSet", annotations={"deploytrail.dev/deployment-id": "checkout-42"}))
        cluster.put(workload("Deployment", namespace="kube-system"))
        cluster.put(workload("CronJob", name="nightly"))
        wait_for(lambda: len(observed(there, "declared")) == 3 and len(there.events) >= 5)
    ends = [(r["event_type"], r["tags"]["workload"]) for r in there.events if "event_type" in r]

    assert ends == [("started", "CronJob/nightly"), ("succeeded", "CronJob/nightly")]


def test_a_state_that_is_torn_is_said_and_the_watch_goes_on(there: Received, cluster: KubeApi, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"uid": {"template"')
    cluster.put(workload())
    with watching(tmp_path, cluster, there, "--state", str(tmp_path / "state.json")) as watch:
        wait_for(lambda: len(rollouts(there)) == 1)

    assert any("cannot be read" in line for line in watch.lines)
    assert "uid-shop-Deployment-checkout" in (tmp_path / "state.json").read_text()


def test_a_token_that_is_replaced_is_read_again(there: Received, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with kube_api("old") as cluster, watching(tmp_path, cluster, there, "--token-file", str(token)):
        cluster.token = "new"
        for kind in KINDS.values():
            cluster.cut(kind)
        wait_for(lambda: cluster.refused > 0)
        token.write_text("new\n")
        cluster.put(workload())
        wait_for(lambda: len(rollouts(there)) == 1)

    assert cluster.refused > 0


def test_outside_of_a_cluster_it_says_what_to_give(tmp_path: Path) -> None:
    env = environment(tmp_path, DEPLOYTRAIL_URL="http://127.0.0.1:1", DEPLOYTRAIL_CLUSTER="prod-1")
    env.pop("KUBERNETES_SERVICE_HOST", None)
    lost = command("watch", "kubernetes", env=env)
    unnamed = command("watch", "kubernetes", "--server", "http://127.0.0.1:1", env=env | {"DEPLOYTRAIL_CLUSTER": ""})

    assert (lost.returncode, unnamed.returncode) == (78, 78)
    assert "give --server" in lost.stderr
    assert "DEPLOYTRAIL_CLUSTER" in unnamed.stderr


def test_an_api_server_that_comes_later_is_found(there: Received, tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url, DEPLOYTRAIL_CLUSTER="prod-1")
    away = f"http://127.0.0.1:{ports.free_port()}"
    watch = Command("watch", "kubernetes", "--server", away, env=env, cwd=tmp_path)
    try:
        wait_for(lambda: any("cannot be reached" in line for line in watch.lines))

        assert watch.process.poll() is None
        assert watch.stop() == 0
    finally:
        watch.kill()
