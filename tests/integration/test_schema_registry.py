"""Producers, gateway and backfill that write the Confluent wire format, and what reads it, on a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploytrail_local import ports
from deploytrail_schemas.codec import MARKER, decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.registry import SchemaRegistry
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.credentials import add_token, relay_token
from support.kafka import make_topics, read_topic, wait_for, write
from support.own_time import timed
from support.schema_registry import Registry, basic, schema_registry
from support.spool import COMMAND, command, environment, stored
from support.values import event

EU = 1
POLICY = """\
kind: intake
name: everything-is-signed
effective_from: 2020-01-01T00:00:00Z
spec: {unsigned: refuse, scope: {services: [pay-api]}}
"""
EVENT = {"event_type": "started", "region": "eu-west-1", "environment": "production", "service": "checkout"}


@dataclass(frozen=True)
class Stack:
    """A Kafka, a registry, and an intake app that reads both wire formats."""

    kafka: str
    registry: Registry
    folder: Path
    env: dict[str, str]

    def reported(self, deployment_id: str) -> list[bytes]:
        """The intake messages of a deployment, as they were written."""
        found = [m.value() or b"" for m in read_topic(self.kafka, Topic.INTAKE)]
        return [value for value in found if deployment_id.encode() in value]

    def trail(self, deployment_id: str) -> list[bytes]:
        """Its events on the trail."""
        found = [m.value() or b"" for m in read_topic(self.kafka, Topic.EVENTS)]
        return [value for value in found if deployment_id.encode() in value]

    def wait_for(self, deployment_id: str) -> dict[str, Any]:
        wait_for(lambda: bool(self.trail(deployment_id)), what=f"{deployment_id} on the trail")
        return decode(self.trail(deployment_id)[0])[1]

    def dead_letters(self) -> dict[bytes, tuple[str, str]]:
        """Reason and detail of each, by its value."""
        found = {}
        for message in read_topic(self.kafka, Topic.DEAD_LETTERS):
            said: dict[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
            found[message.value() or b""] = (said["dt-reason"].decode(), said["dt-detail"].decode())
        return found

    def producer(self, spool: Path, **settings: str) -> dict[str, str]:
        usual = {"DEPLOYTRAIL_URL": f"kafka://{self.kafka}", "DEPLOYTRAIL_EXIT_WAIT_SECONDS": "20"}
        registry = {"DEPLOYTRAIL_SCHEMA_REGISTRY": self.env["DEPLOYTRAIL_SCHEMA_REGISTRY"]}
        return environment(spool, **usual, **registry, **settings)


@pytest.fixture(scope="module")
def stack(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("registry")
    make_topics(own_kafka)
    with schema_registry() as registry:
        registry.auth = basic("deploytrail", "s3cret")
        relay_token(folder / "tokens")
        env = {
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_TICK_SECONDS": "0.5",
            "DEPLOYTRAIL_STATE": str(folder / "state"),
            "DEPLOYTRAIL_CREDENTIALS": str(folder / "tokens"),
            "DEPLOYTRAIL_SCHEMA_REGISTRY": registry.url.replace("http://", "http://deploytrail:s3cret@"),
        }
        (folder / "policy.yaml").write_text(POLICY)
        assert run("policy", "apply", "policy.yaml", env=env, cwd=folder).returncode == 0
        yield Stack(own_kafka, registry, folder, env)


@pytest.fixture(scope="module")
def intake(stack: Stack) -> Iterator[Stack]:
    with running("processor", "intake", env=stack.env, cwd=stack.folder) as worker:
        yield stack
        assert worker.stop() == 0


def test_an_intake_app_stops_rather_than_set_aside_what_it_cannot_ask_about(stack: Stack, tmp_path: Path) -> None:
    framed = SchemaRegistry(stack.env["DEPLOYTRAIL_SCHEMA_REGISTRY"]).framed(
        encode(RecordType.DEPLOYMENT_EVENT, event("started", deployment_id="patience")), Topic.INTAKE.value
    )
    env = stack.env | {"DEPLOYTRAIL_STATE": str(tmp_path / "state")}
    stack.registry.down = True
    with running("processor", "intake", env=env, cwd=tmp_path) as worker:
        write(stack.kafka, Topic.INTAKE, [(EU, b"host", framed)])
        wait_for(lambda: worker.process.poll() is not None, what="that the app stopped")
        ended = worker.process.poll()
    stack.registry.down = False
    with running("processor", "intake", env=env, cwd=tmp_path):
        value = stack.wait_for("patience")

    assert ended != 0
    assert value["service"] == "shop"
    assert framed not in stack.dead_letters()


@pytest.mark.requirement("M2.6")
def test_a_producer_registers_its_schema_and_its_events_reach_the_trail(intake: Stack, tmp_path: Path) -> None:
    done = command("start", "--version", "4.2.0", env=intake.producer(tmp_path / "spool"))
    deployment = done.stdout.strip()
    value = intake.wait_for(deployment)
    [written] = intake.reported(deployment)

    assert (done.returncode, done.stderr) == (0, "")
    assert written[:1] == b"\0"
    assert value["version"] == "4.2.0"
    assert intake.trail(deployment)[0][:2] == MARKER, "sinks read the trail without a registry"
    assert "deploytrail.intake-io.deploytrail.v1.DeploymentEvent" in intake.registry.subjects


def test_a_signature_covers_the_bytes_as_they_were_written(intake: Stack, tmp_path: Path) -> None:
    token = add_token(intake.folder / "tokens")
    env = intake.producer(tmp_path / "spool", DEPLOYTRAIL_SERVICE="pay-api", DEPLOYTRAIL_TOKEN=token)
    signed = command("start", env=env).stdout.strip()
    unsigned = command("start", env=env | {"DEPLOYTRAIL_TOKEN": ""}).stdout.strip()
    value = intake.wait_for(signed)
    wait_for(
        lambda: any(unsigned.encode() in letter for letter in intake.dead_letters()),
        what="the unsigned event among the dead letters",
    )

    assert intake.reported(signed)[0][:1] == b"\0"
    assert value["reporter"]
    assert intake.trail(unsigned) == []


def test_a_gateway_and_a_backfill_write_it_too(intake: Stack, tmp_path: Path) -> None:
    port = str(ports.free_port())
    line = {"kind": "deployment", "received_at": "2026-10-27T08:03:02Z"}
    value = EVENT | {"deployment_id": "of-backfill", "producer_id": "old", "occurred_at": "2026-10-27T08:03:00Z"}
    (tmp_path / "history.jsonl").write_text(json.dumps(line | {"value": value}))
    env = intake.env | {"DEPLOYTRAIL_GATEWAY_PORT": port, "DEPLOYTRAIL_ANONYMOUS": "anyone"}
    with running("gateway", env=env, cwd=tmp_path):
        url = f"http://127.0.0.1:{port}"
        answer = httpx.post(f"{url}/v1/events", json=EVENT | {"deployment_id": "of-gateway"}, timeout=60)
        intake.registry.down = True
        signal = {name: text for name, text in EVENT.items() if name != "event_type"}
        away = httpx.post(f"{url}/v1/signals", json=signal | {"signal_type": "alert_firing"}, timeout=60)
        known = httpx.post(f"{url}/v1/events", json=EVENT | {"deployment_id": "of-gateway-2"}, timeout=60)
        intake.registry.down = False
    loaded = run("backfill", "history.jsonl", env=intake.env, cwd=tmp_path)

    assert (answer.status_code, away.status_code, known.status_code) == (202, 503, 202)
    assert "schema registry does not answer" in away.json()["detail"]
    assert loaded.returncode == 0, loaded.stderr
    for deployment in ("of-gateway", "of-gateway-2", "of-backfill"):
        assert intake.wait_for(deployment)["service"] == "checkout"
        assert intake.reported(deployment)[0][:1] == b"\0"


def test_a_schema_that_is_none_of_ours_is_a_dead_letter_by_name(intake: Stack) -> None:
    stranger = intake.registry.add('{"type": "record", "name": "Order", "namespace": "com.example", "fields": []}')
    written = [b"\0" + stranger.to_bytes(4, "big") + b"order", b"\0\0\1\0\0nobody's", b"\0\0"]
    write(intake.kafka, Topic.INTAKE, [(EU, b"host", value) for value in written])
    write(intake.kafka, Topic.INTAKE, [(EU, b"host", encode(RecordType.DEPLOYMENT_EVENT, event("started")))])
    wait_for(lambda: set(written) <= set(intake.dead_letters()), what="all of them among the dead letters")
    found = [intake.dead_letters()[value] for value in written]

    assert [reason for reason, _ in found] == ["unknown_schema", "unknown_schema", "malformed"]
    assert "'com.example.Order'" in found[0][1]
    assert intake.wait_for("shop-1")["service"] == "shop", "what comes behind them is read"


def test_the_log_reads_both_formats(intake: Stack, tmp_path: Path) -> None:
    plain = event("started", deployment_id="plain")
    write(intake.kafka, Topic.INTAKE, [(EU, b"host", encode(RecordType.DEPLOYMENT_EVENT, plain))])
    framed = command("start", env=intake.producer(tmp_path / "spool")).stdout.strip()
    said = run("log", "--topic", "intake", env=intake.env, cwd=tmp_path)
    ids = {json.loads(line).get("deployment_id") for line in said.stdout.splitlines()}

    assert {"plain", framed} <= ids


def test_a_registry_that_is_away_blocks_no_deploy_and_the_spool_keeps_the_event(stack: Stack, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    env = stack.producer(spool)
    gone = env | {"DEPLOYTRAIL_SCHEMA_REGISTRY": "http://127.0.0.1:9", "DEPLOYTRAIL_EXIT_WAIT_SECONDS": "1"}
    started = timed([*COMMAND, "start"], gone)
    kept = [value["deployment_id"] for value in stored(spool)]
    finished = command("succeed", started.stdout.strip(), env=env)

    assert (started.code, finished.returncode) == (0, 0)
    assert started.seconds < 10, "an interpreter and a second, on a busy machine"
    assert kept == [started.stdout.strip()]
    assert stored(spool) == []
    assert len(stack.reported(kept[0])) == 2
