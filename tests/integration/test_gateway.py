"""The gateway as a process, on a real Kafka: what it acknowledges is there."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.codec import decode
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.kafka import end_offsets, make_topics, read_topic, wait_for
from support.own_time import quickest, seconds_of

EVENT = {"event_type": "started", "region": "eu-west-1", "environment": "production", "service": "shop"}


@pytest.fixture(scope="module")
def syslog_port() -> int:
    return ports.free_port()


@pytest.fixture(scope="module")
def url(own_kafka: str, syslog_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    make_topics(own_kafka)
    port = ports.free_port()
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_GATEWAY_PORT": str(port),
        "DEPLOYTRAIL_SYSLOG_PORT": str(syslog_port),
    }
    with running("gateway", env=env, cwd=tmp_path_factory.mktemp("gateway")) as command:
        yield f"http://127.0.0.1:{port}"
        assert command.stop() == 0


def test_what_is_acknowledged_is_in_kafka(url: str, own_kafka: str) -> None:
    ids: list[str] = []

    def post(number: int) -> None:
        with httpx.Client(timeout=60) as client:
            for batch in range(20):
                events = [EVENT | {"deployment_id": f"{number}-{batch}-{i}"} for i in range(5)]
                answer = client.post(f"{url}/v1/events", json=events)
                assert answer.status_code == 202, answer.text
                ids.extend(answer.json()["ids"])

    threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    stored = [decode(m.value())[1]["event_id"] for m in read_topic(own_kafka, Topic.INTAKE)]

    assert len(ids) == 400
    assert set(ids) <= set(stored)


@pytest.mark.requirement("M8.4")
def test_one_request_carries_ten_thousand_events_each_durable_before_its_202(url: str, own_kafka: str) -> None:
    """Events as a runner tells them; what lies in the topic is read the moment the answer is here."""
    before = end_offsets(own_kafka, Topic.INTAKE)
    said = {
        "version": "4.2.0",
        "commit_sha": "c0ffee01" * 5,
        "repository": "https://git.example.com/shop/checkout.git",
        "build_url": "https://ci.example.com/builds/1234",
        "deployer": "alice",
        "tags": {"sprint": "42"},
    }
    events = [EVENT | said | {"deployment_id": f"many-{n}"} for n in range(10_000)]
    body = gzip.compress(json.dumps(events).encode(), 1)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{url}/v1/events", content=body, headers=headers, timeout=60)
    stored = [decode(m.value())[1] for m in read_topic(own_kafka, Topic.INTAKE, since=before)]

    assert answer.status_code == 202, answer.text[:500]
    assert [event["deployment_id"] for event in stored] == [f"many-{n}" for n in range(10_000)]
    assert [event["event_id"] for event in stored] == answer.json()["ids"]


def test_health_is_served(url: str) -> None:
    assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    assert "deploytrail_gateway_records_total" in httpx.get(f"{url}/metrics", timeout=60).text


@pytest.mark.requirement("M8.5")
def test_syslog_over_tcp_and_udp_is_in_kafka_and_what_is_wrong_in_the_dead_letters(
    url: str, own_kafka: str, syslog_port: int
) -> None:
    def message(deployment: str, event_type: str = "started") -> bytes:
        said = {"event_type": event_type, "region": "eu-west-1", "environment": "production", "service": "shop"}
        pairs = " ".join(f'{name}="{text}"' for name, text in (said | {"deployment_id": deployment}).items())
        return f"<134>1 2026-11-02T12:00:00Z old-box release - - [deploytrail {pairs}]".encode()

    with socket.create_connection(("127.0.0.1", syslog_port), 60) as stream:
        for number in range(100):
            stream.sendall(message(f"tcp-{number}") + b"\n")
        counted = message("tcp-counted")
        stream.sendall(b"%d %s" % (len(counted), counted) + message("tcp-bad", "exploded") + b"\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(message("udp-1"), ("127.0.0.1", syslog_port))
    wanted = {*(f"tcp-{number}" for number in range(100)), "tcp-counted", "udp-1"}
    deadline = time.monotonic() + 120
    stored: set[str] = set()
    while not wanted <= stored and time.monotonic() < deadline:
        stored = {decode(m.value())[1]["deployment_id"] for m in read_topic(own_kafka, Topic.INTAKE)}
    wait_for(lambda: bool(read_topic(own_kafka, Topic.DEAD_LETTERS)), what="the dead letter")
    [dead] = read_topic(own_kafka, Topic.DEAD_LETTERS)
    metrics = httpx.get(f"{url}/metrics", timeout=60).text

    assert wanted <= stored
    assert "tcp-bad" not in stored
    assert dead.value() == message("tcp-bad", "exploded")
    assert b"/event_type is 'exploded'" in dict(dead.headers())["dt-detail"]
    assert 'deploytrail_gateway_syslog_total{outcome="accepted",transport="tcp"} 101.0' in metrics


def test_a_port_in_use_is_named(own_kafka: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("gateway", env={"DEPLOYTRAIL_GATEWAY_PORT": port, "DEPLOYTRAIL_KAFKA": own_kafka}, cwd=tmp_path)

    assert done.returncode == 69
    assert f"port {port} of 127.0.0.1 cannot be had" in done.stderr
    assert "DEPLOYTRAIL_GATEWAY_PORT" in done.stderr


def test_without_kafka_and_spool_nothing_is_acknowledged_and_later_all_is_well(tmp_path: Path) -> None:
    port = ports.free_port()
    with KafkaBroker(tmp_path / "kafka") as broker:
        make_topics(broker.bootstrap)
        env = {
            "DEPLOYTRAIL_KAFKA": broker.bootstrap,
            "DEPLOYTRAIL_GATEWAY_PORT": str(port),
            "DEPLOYTRAIL_GATEWAY_SPOOL_MAX_BYTES": "0",
        }
        with running("gateway", env=env, cwd=tmp_path):
            url = f"http://127.0.0.1:{port}"

            def report(deployment: str) -> httpx.Response:
                return httpx.post(f"{url}/v1/events", json=EVENT | {"deployment_id": deployment}, timeout=60)

            first = report("first")
            broker.stop()
            away, again = report("away"), report("again")
            took = quickest(lambda: seconds_of(lambda: report("again")), at_most=2.0)
            ready = httpx.get(f"{url}/readyz", timeout=60)
            broker.start()
            wait_for(lambda: report("back").status_code == 202, what="a Kafka that is back")
            stored = {decode(m.value())[1]["deployment_id"] for m in read_topic(broker.bootstrap, Topic.INTAKE)}

    assert (first.status_code, away.status_code, again.status_code) == (202, 503, 503)
    assert away.headers["retry-after"] == "2"
    assert took < 2
    assert (ready.status_code, ready.text) == (503, "Kafka does not answer, and there is no spool\n")
    assert stored >= {"first", "back"}


def test_what_comes_while_kafka_is_away_is_kept_and_published_once_it_is_back(tmp_path: Path) -> None:
    port = ports.free_port()
    with KafkaBroker(tmp_path / "kafka") as broker:
        make_topics(broker.bootstrap)
        env = {"DEPLOYTRAIL_KAFKA": broker.bootstrap, "DEPLOYTRAIL_GATEWAY_PORT": str(port)}
        with running("gateway", env=env, cwd=tmp_path) as command:
            url = f"http://127.0.0.1:{port}"
            broker.stop()
            headers = {
                "Deploytrail-Sent-At": "1793620800000000",
                "Deploytrail-Echo": "1793620800000000," * 2 + "1793620800000000",
            }
            with httpx.Client(headers=headers, timeout=60) as client:
                began = time.monotonic()
                answers = [client.post(f"{url}/v1/events", json=EVENT | {"deployment_id": f"d-{n}"}) for n in range(50)]
                took = time.monotonic() - began
            ready, told = httpx.get(f"{url}/readyz", timeout=60), httpx.get(f"{url}/metrics", timeout=60).text
            broker.start()
            wait_for(lambda: httpx.get(f"{url}/readyz", timeout=60).text == "ready\n", what="an empty spool")
            drained = httpx.get(f"{url}/metrics", timeout=60).text
            stored = read_topic(broker.bootstrap, Topic.INTAKE)
            assert command.stop() == 0

    assert {answer.status_code for answer in answers} == {202}
    assert took < 30, [answer.elapsed.total_seconds() for answer in answers]
    assert ready.status_code == 200
    assert "50 records wait in the spool" in ready.text
    assert "deploytrail_gateway_spool_waiting_records 50.0" in told
    assert "deploytrail_gateway_kafka_away 1.0" in told
    assert "deploytrail_gateway_drained_records_total 50.0" in drained
    assert "deploytrail_gateway_spool_bytes 0.0" in drained
    assert [decode(m.value())[1]["deployment_id"] for m in stored if m.partition() == 1] == [
        f"d-{n}" for n in range(50)
    ]
    received = [str(answer.json()["received_at"]).encode() for answer in answers]
    assert [dict(m.headers())["dt-received-at"] for m in stored] == received
    assert {dict(m.headers())["dt-sent-at"] for m in stored} == {b"1793620800000000"}
    assert not list((tmp_path / ".deploytrail" / "gateway-spool").iterdir())
