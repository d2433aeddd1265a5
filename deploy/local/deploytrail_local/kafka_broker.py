"""Apache Kafka itself, from its jars: one KRaft node, or several; no Docker, no root.

In: a folder for data and logs, a port. Out: a broker on loopback that survives kill -9 and restart.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError

from deploytrail_local import ports, processes
from deploytrail_local.jars import KAFKA, KAFKA_VERSION, MIRROR, MIRROR_VERSION, fetched
from deploytrail_local.java import find_java
from deploytrail_local.java_classes import ClassArchive

_MAIN = "kafka.Kafka"
_FORMAT = "kafka.tools.StorageTool"
_READY_SECONDS = 120.0

Progress = Callable[[str], None]


def quiet(_: str) -> None:
    """A progress callback that says nothing."""


def resolve_jars(progress: Progress = quiet) -> list[Path]:
    """Kafka's jars. MissingDependencyError where they are not kept and cannot be fetched."""
    progress(f"Kafka {KAFKA_VERSION}: finding its jars (the first time they are downloaded, about 42 MB)")
    return fetched(KAFKA)


def resolve_mirror_jars(progress: Progress = quiet) -> list[Path]:
    """MirrorMaker's jars, in the same way."""
    progress(f"MirrorMaker {MIRROR_VERSION}: finding its jars (the first time they are downloaded, about 35 MB)")
    return fetched(MIRROR)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the nodes of a cluster agree on. `voters`: the port of each node's controller, the first node's first."""

    id: str
    voters: tuple[int, ...]

    @property
    def quorum(self) -> str:
        """The voters as Kafka reads them."""
        return ",".join(f"{number}@{ports.LOOPBACK}:{port}" for number, port in enumerate(self.voters, 1))

    @property
    def copies(self) -> int:
        """Replicas of Kafka's own topics."""
        return min(3, len(self.voters))


class KafkaBroker:
    """One broker. `start` returns when it answers; a context manager stops it.

    `port` and `controller_port` None: free ones are chosen. The same folder keeps the same data. A node of a `cluster`
    is `spawn`ed, since it answers only once most nodes run, and awaited with `wait_ready`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        progress: Progress = quiet,
        cluster: Cluster | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or ports.free_port()
        self.controller_port = controller_port or ports.free_port()
        self._cluster = cluster or Cluster(new_cluster_id(), (self.controller_port,))
        self.process: subprocess.Popen[bytes] | None = None
        self._progress = progress

    @property
    def bootstrap(self) -> str:
        """The address that clients connect to."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """The file that holds what the broker prints."""
        return self.folder / "kafka.log"

    def start(self) -> KafkaBroker:
        """Start the broker and wait until it answers a real request.

        ConfigurationError for a port in use, MissingDependencyError without Java or jars,
        DeploytrailError with the log's end where it dies.
        """
        self.spawn()
        return self.wait_ready()

    def spawn(self) -> None:
        """Start the broker's process. ConfigurationError for a port in use, MissingDependencyError as `start`."""
        for port, setting in ((self.port, "DEPLOYTRAIL_KAFKA"), (self.controller_port, "the controller port")):
            if not ports.is_free(port):
                raise ConfigurationError(f"port {port} is in use; free it or choose another one ({setting})")
        command = self.command()
        self.process = processes.spawn(command, log=self.log, env=_environment())

    def wait_ready(self) -> KafkaBroker:
        """Return when the broker answers. DeploytrailError with the log's end where it dies."""
        assert self.process is not None
        if not processes.wait_until(self._answers_or_died, seconds=_READY_SECONDS):
            self.stop()
            raise DeploytrailError(f"Kafka did not answer within {_READY_SECONDS:.0f} s; see {self.log}")
        if self.process.poll() is not None:
            raise DeploytrailError(f"Kafka ended at its start ({self.log}):\n{processes.tail(self.log)}")
        return self

    def command(self) -> list[str]:
        """The command line of the broker; configuration is written and storage formatted before."""
        java = find_java()
        classpath = os.pathsep.join(map(str, resolve_jars(self._progress)))
        classes = ClassArchive(java, classpath)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        base = [
            *("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
            "-Djava.net.preferIPv4Stack=true",
            *(f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOG.items()),
            *("-cp", classpath),
        ]
        if not (self.folder / "data" / "meta.properties").exists():
            with classes.made_by() as options:
                self._format([str(java), *options, *base, _FORMAT])
        return [str(java), *classes.use, *base, _MAIN, str(self.folder / "server.properties")]

    def stop(self) -> None:
        """Stop the broker; what it acknowledged stays in its folder."""
        if self.process is not None:
            processes.stop(self.process)
            self.process = None

    def __enter__(self) -> KafkaBroker:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def _format(self, tool: list[str]) -> None:
        done = subprocess.run(
            [*tool, "format", "--cluster-id", self._cluster.id, "--config", str(self.folder / "server.properties")],
            capture_output=True,
            text=True,
            timeout=_READY_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise DeploytrailError(f"Kafka's storage in {self.folder} cannot be formatted: {done.stdout}{done.stderr}")

    def _write_configuration(self) -> None:
        copies = self._cluster.copies
        lines = {
            "process.roles": "broker,controller",
            "node.id": self._cluster.voters.index(self.controller_port) + 1,
            "controller.quorum.voters": self._cluster.quorum,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{ports.LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": max(1, copies - 1),
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker is let in again only when the lease of its former life is over.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "message.max.bytes": 2 << 20,
            "log.segment.bytes": 64 << 20,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            "num.network.threads": 2,
            "num.io.threads": 4,
            # One node has no replica to recover from: a kill -9 of the machine would lose the page cache.
            "log.flush.interval.ms": 1000,
        }
        (self.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))

    def _answers_or_died(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or (ports.answers(self.port) and self._describes_itself())

    def _describes_itself(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with contextlib.suppress(KafkaException):
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return self.port in {broker.port for broker in admin.list_topics(timeout=2).brokers.values()}
        return False


def new_cluster_id() -> str:
    """A fresh id of a cluster. One that began with a dash would be taken for an option."""
    return "d" + urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()[1:]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


_LOG = {
    "defaultLogLevel": "warn",
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
    "log.kafka.server.KafkaRaftServer": "info",
}
