"""`deploytrail poll` beside a gateway, on a real Kafka: one record of each thing, and how much the webhooks missed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_schemas.codec import decode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support import forges
from support.commands import run, running
from support.forges import TOKEN, serving, stamp
from support.kafka import make_topics, read_topic, wait_for

REPOSITORY = {"name": "shop", "full_name": "acme/shop"}


def event_types(kafka: str) -> list[str]:
    decoded = (decode(m.value()) for m in read_topic(kafka, Topic.EVENTS))
    return [value["event_type"] for kind, value in decoded if kind is RecordType.DEPLOYMENT_EVENT]


def polled(port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    found = re.findall(r'polled_total\{outcome="(\w+)",source="github"\} ([\d.]+)', text)
    return {outcome: float(count) for outcome, count in found}


@pytest.mark.requirement("M2.3")
def test_polls_repair_what_webhooks_missed_and_count_it(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    gateway, processor = ports.free_port(), ports.free_port()
    now = time.time()
    made: dict[str, Any] = {
        "id": 1,
        "url": "https://api.github.com/repos/acme/shop/deployments/1",
        "environment": "production",
        "created_at": stamp(now - 300),
    }
    states = [{"id": 10, "state": "in_progress", "created_at": stamp(now - 290)}]
    states.append({"id": 11, "state": "success", "created_at": stamp(now - 200)})
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
        "DEPLOYTRAIL_GATEWAY_PORT": str(gateway),
        "DEPLOYTRAIL_POLL": "poll.yaml",
        "DEPLOYTRAIL_POLL_STATE": "poll.json",
        "GITHUB_TOKEN": TOKEN,
    }

    def webhook(event: str, **more: Any) -> None:
        payload = {"action": "created", "deployment": made, "repository": REPOSITORY} | more
        answer = httpx.post(
            f"http://127.0.0.1:{gateway}/webhooks/github?region=eu-west-1",
            json=payload,
            headers={"X-GitHub-Event": event},
            timeout=60,
        )
        assert answer.status_code == 202, answer.text

    with (
        serving(forges.github([made], {1: states})) as forge,
        running("gateway", env=env, cwd=tmp_path),
        running("processor", "intake", env=env | {"DEPLOYTRAIL_METRICS_PORT": str(processor)}, cwd=tmp_path),
    ):
        (tmp_path / "poll.yaml").write_text(
            f"sources: [{{kind: github, url: '{forge.url}', token_env: GITHUB_TOKEN, projects: [acme/shop],"
            " region: eu-west-1}]\n"
        )
        webhook("deployment")
        webhook("deployment_status", deployment_status=states[1])  # the start is lost
        wait_for(lambda: len(event_types(own_kafka)) == 2, what="both webhooks on the trail")
        first = run("poll", "--once", env=env, cwd=tmp_path)
        second = run("poll", "--once", env=env, cwd=tmp_path)
        wait_for(lambda: sum(polled(processor).values()) == 3, what="three polled records judged")
        found = polled(processor)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert sorted(event_types(own_kafka)) == ["queued", "started", "succeeded"]
    assert found == {"missed": 1.0, "known": 2.0}


def test_a_poller_keeps_asking_until_it_is_stopped(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_POLL": "poll.yaml", "GITHUB_TOKEN": TOKEN}
    with serving(forges.github([], {})) as forge:
        (tmp_path / "poll.yaml").write_text(
            f"sources: [{{kind: github, url: '{forge.url}', token_env: GITHUB_TOKEN, "
            "projects: [acme/shop], every: 0.1}]\n"
        )
        with running("poll", env=env, cwd=tmp_path) as poller:
            wait_for(lambda: len(forge.statuses()) >= 3, what="three rounds")
            assert poller.stop() == 0

    assert forge.statuses()[:3] == [200, 304, 304]


def test_a_poller_without_its_token_says_which_variable_it_wants(tmp_path: Path) -> None:
    (tmp_path / "poll.yaml").write_text("sources: [{kind: github, token_env: NO_SUCH_TOKEN, projects: [acme/shop]}]\n")
    done = run("poll", "--once", env={"DEPLOYTRAIL_POLL": "poll.yaml"}, cwd=tmp_path)

    assert done.returncode == 78
    assert "github:api.github.com: NO_SUCH_TOKEN is empty" in done.stderr


def test_an_api_that_does_not_answer_is_named(tmp_path: Path) -> None:
    port = ports.free_port()
    (tmp_path / "poll.yaml").write_text(
        f"sources: [{{kind: github, url: 'http://127.0.0.1:{port}', token_env: GITHUB_TOKEN, projects: [acme/shop]}}]\n"
    )
    env = {"DEPLOYTRAIL_POLL": "poll.yaml", "DEPLOYTRAIL_KAFKA": f"127.0.0.1:{port}", "GITHUB_TOKEN": TOKEN}
    done = run("poll", "--once", env=env, cwd=tmp_path)

    assert done.returncode == 1
    assert f"github:127.0.0.1:{port} acme/shop: " in done.stderr
    assert "Traceback" not in done.stderr
