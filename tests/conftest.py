"""Real parts for the tests: started once a session, stopped whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from deploytrail_schemas.errors import MissingDependencyError

ROOT = Path(__file__).parent.parent
if find_spec("hypothesis"):  # the tests of AWS templates run without it
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is, and nothing of what is tested.
    settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """What tests start begins as at a terminal, also where the tests themselves run under nohup or behind an `&`."""
    told = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    ignored = [number for number in told if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def pytest_configure(config: pytest.Config) -> None:
    """Processes that test side by side choose ports from ranges apart: one that is free is not taken at once."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    try:
        from deploytrail_local import ports
    except ImportError:  # where the producers alone are installed
        return
    if worker:
        number, size = int(worker.removeprefix("gw")) % 8, len(ports.FREE) // 8
        ports.FREE = ports.FREE[number * size : (number + 1) * size]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real payloads and vectors beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: it holds the real payloads")
    return folder


@pytest.fixture(scope="module")
def kafka(request: pytest.FixtureRequest) -> str:
    """Bootstrap address of a real Kafka: DEPLOYTRAIL_KAFKA's, one from jars, or a container."""
    if running := os.environ.get("DEPLOYTRAIL_KAFKA"):
        return running
    try:
        _needs_of_kafka()
    except MissingDependencyError:
        return str(request.getfixturevalue("kafka_container"))
    return str(request.getfixturevalue("own_kafka"))


@pytest.fixture(scope="session")
def kafka_container() -> Iterator[str]:
    """Kafka in a container, where its jars cannot be had."""
    yield from _container("there is no Java 17, or there are no jars of Kafka")


@pytest.fixture(scope="session")
def kafka_from_jars(own_kafka_needs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker of this process: its start costs seconds, so that all files which do not stop one share it."""
    from deploytrail_local.kafka_broker import KafkaBroker

    folder = tmp_path_factory.mktemp("kafka")
    with KafkaBroker(folder) as broker:
        yield broker.bootstrap
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def own_kafka(kafka_from_jars: str) -> str:
    """A Kafka that is empty and this module's alone, for what reads its topics from their beginning."""
    from support.kafka import empty

    empty(kafka_from_jars)
    return kafka_from_jars


@pytest.fixture(scope="session")
def own_kafka_needs() -> None:
    """Skips where no Kafka can be started from its jars."""
    try:
        _needs_of_kafka()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the real ClickHouse engine behind HTTP."""
    from support.clickhouse import ClickHouseProcess

    with ClickHouseProcess(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server.url


def _needs_of_kafka() -> None:
    """MissingDependencyError where there is no Java, or no jars and no network to fetch them."""
    from deploytrail_local.java import find_java
    from deploytrail_local.kafka_broker import resolve_jars

    find_java()
    resolve_jars()


def _container(why: str) -> Iterator[str]:
    if shutil.which("docker") is None:
        pytest.skip(f"no Kafka for the tests: {why}")
    from testcontainers.kafka import KafkaContainer

    try:
        container = KafkaContainer("apache/kafka:4.1.0").with_kraft().start()
    except Exception as error:
        pytest.skip(f"no Kafka for the tests: {why}; Docker does not answer: {error}")
    try:
        yield container.get_bootstrap_server()
    finally:
        container.stop()
