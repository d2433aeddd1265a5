"""Gateways on a real Kafka share what they accepted, and know it after a restart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from deploytrail_local import ports
from deploytrail_schemas.codec import decode
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.topics import Topic
from support.commands import running
from support.kafka import end_offsets, make_topics, read_topic, wait_for, write

KEY = b"a secret of the standard webhooks"
SECRETS = "cdevents=whsec_" + base64.b64encode(KEY).decode()


def deliver(url: str, identity: str, chain: str) -> dict[str, object]:
    """What a gateway answers to a signed CDEvent."""
    subject = {"id": f"{chain}/shop", "content": {"environment": {"id": "production"}, "artifactId": "pkg:oci/shop@1"}}
    context = {
        "version": "0.4.1",
        "id": chain,
        "source": "/cd",
        "type": "dev.cdevents.service.deployed.0.2.0",
        "timestamp": "2026-11-02T12:00:00Z",
    }
    body = json.dumps({"context": context, "subject": subject}).encode()
    stamp = str(int(time.time()))
    signature = base64.b64encode(hmac.new(KEY, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest())
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature.decode()}",
        "Content-Type": "application/json",
    }
    answer = httpx.post(f"{url}/webhooks/cdevents", content=body, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    found: dict[str, object] = answer.json()
    return found


def stored(kafka: str, chain: str) -> int:
    values = [decode(message.value())[1] for message in read_topic(kafka, Topic.INTAKE)]
    return sum(chain in str(value) for value in values)


def remembered(url: str) -> float:
    line = next(line for line in httpx.get(f"{url}/metrics", timeout=60).text.splitlines() if line.startswith(METRIC))
    return float(line.split()[1])


METRIC = "deploytrail_gateway_deliveries_remembered"


@pytest.mark.requirement("M8.5")
def test_two_gateways_accept_a_delivery_once_and_so_does_one_that_was_killed(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    urls = []
    envs = []
    for _ in range(2):
        port = str(ports.free_port())
        envs.append(
            {
                "DEPLOYTRAIL_KAFKA": own_kafka,
                "DEPLOYTRAIL_GATEWAY_PORT": port,
                "DEPLOYTRAIL_WEBHOOK_SECRETS": SECRETS,
            }
        )
        urls.append(f"http://127.0.0.1:{port}")
    with running("gateway", env=envs[0], cwd=tmp_path), running("gateway", env=envs[1], cwd=tmp_path) as second:
        known = [remembered(url) for url in urls]
        first = deliver(urls[0], "msg-1", "chain-1")
        wait_for(lambda: remembered(urls[1]) == known[1] + 2, what="that the other gateway learned of it")
        replayed = [deliver(url, "msg-1", "chain-1") for url in urls]
        second.kill()
    with running("gateway", env=envs[1], cwd=tmp_path):
        wait_for(
            lambda: httpx.get(f"{urls[1]}/readyz", timeout=60).status_code == 200,
            what="that the restarted gateway is ready",
        )
        after = deliver(urls[1], "msg-1", "chain-1")
        other = deliver(urls[1], "msg-2", "chain-2")

    assert (first["accepted"], other["accepted"]) == (1, 1)
    assert [answer.get("repeated") for answer in (*replayed, after)] == [True, True, True]
    assert (stored(own_kafka, "chain-1"), stored(own_kafka, "chain-2")) == (1, 1)


def test_a_gateway_makes_the_topic_where_an_older_cluster_has_none(own_kafka: str, tmp_path: Path) -> None:
    settings = make_topics(own_kafka)
    admin = AdminClient(client_config(settings))
    admin.delete_topics([Topic.DELIVERIES.value], operation_timeout=60)[Topic.DELIVERIES.value].result(90)
    wait_for(lambda: Topic.DELIVERIES.value not in admin.list_topics(timeout=30).topics, what="that the topic is gone")
    port = str(ports.free_port())
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_GATEWAY_PORT": port, "DEPLOYTRAIL_WEBHOOK_SECRETS": SECRETS}
    with running("gateway", env=env, cwd=tmp_path) as command:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == 200, what="that the gateway is ready")
        answers = [deliver(url, "msg-3", "chain-3") for _ in range(2)]
        stopped = command.stop()

    assert [answer["accepted"] for answer in answers] == [1, 0]
    assert sum(end_offsets(own_kafka, Topic.DELIVERIES).values()) == 2
    assert stopped == 0


def test_what_stands_in_the_topic_and_is_no_delivery_does_not_stop_a_gateway(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    write(own_kafka, Topic.DELIVERIES, [(0, b"no digest", b"no time"), (0, b"d" * 16, None), (0, b"e" * 16, b"9,9,9")])
    port = str(ports.free_port())
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_GATEWAY_PORT": port}
    with running("gateway", env=env, cwd=tmp_path) as command:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == 200, what="that the gateway is ready")

        assert command.stop() == 0
