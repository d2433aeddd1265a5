"""Three real Kafka nodes, each of which may be killed."""

from __future__ import annotations

from pathlib import Path

from deploytrail_local import ports
from deploytrail_local.kafka_broker import Cluster, KafkaBroker, new_cluster_id


class KafkaCluster:
    """Three nodes, brokers and controllers at once; a context manager starts and stops them."""

    def __init__(self, folder: Path) -> None:
        controllers = tuple(ports.free_port() for _ in range(3))
        cluster = Cluster(new_cluster_id(), controllers)
        self.nodes = [
            KafkaBroker(folder / f"node-{number}", controller_port=port, cluster=cluster)
            for number, port in enumerate(controllers, 1)
        ]

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    def kill(self, number: int) -> None:
        """kill -9 of one node."""
        process = self.nodes[number].process
        assert process is not None
        process.kill()
        process.wait()

    def __enter__(self) -> KafkaCluster:
        try:
            for node in self.nodes:
                node.spawn()
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
