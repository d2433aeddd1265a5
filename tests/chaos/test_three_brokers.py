"""Three brokers, one of which dies under load: nothing is lost, and nothing waits for its return."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # no __all__
from deploytrail_schemas.kafka import UNCERTAIN, client_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic, ensure_topics
from support.disturbed import Pair, Teller
from support.kafka import read_topic
from support.kafka_cluster import KafkaCluster
from support.story import APPS, effects


def copies_wanted(bootstrap: str) -> str | None:
    """How many copies an event needs, by the broker at `bootstrap`.

    Asked at the end by a new client: right after the topics were made a broker may not have heard of them,
    and an older client of librdkafka may wait for the dead broker, which it still knows, until its time is over.
    """
    asked = ConfigResource(ConfigResource.Type.TOPIC, Topic.EVENTS.value)
    admin = AdminClient(client_config(Settings(kafka=bootstrap, replication=3)))
    [config] = admin.describe_configs([asked]).values()
    return config.result(60)["min.insync.replicas"].value


@pytest.mark.timeout(900)
@pytest.mark.requirement("M3.4", "M8.4")
def test_a_broker_of_three_may_die_under_load(own_kafka_needs: None, tmp_path: Path) -> None:
    with KafkaCluster(tmp_path / "kafka") as cluster:
        settings = Settings(kafka=cluster.bootstrap, replication=3)
        ensure_topics(AdminClient(client_config(settings)), settings)
        with Pair(cluster.bootstrap, tmp_path, DEPLOYTRAIL_REPLICATION="3") as pair:
            teller = Teller(cluster.bootstrap, (1, 2, 3), 5, seconds=10)
            teller.start()
            time.sleep(3)  # some of the load is under way
            cluster.kill(0)
            teller.finish()
            ended = pair.wait_until_read()
            pair.stop(excuse=UNCERTAIN)
            differences = pair.differences()
        copies = copies_wanted(cluster.nodes[1].bootstrap)
        found = {name: len(effects(cluster.bootstrap, name)) for name in APPS}
        letters = read_topic(cluster.bootstrap, Topic.DEAD_LETTERS)

    assert copies == "2"
    assert differences == []
    assert all(found.values()), found
    assert letters == []
    # What a new leader may not have been given ends its worker, and is written again. Nothing else does.
    assert [said for said in ended if UNCERTAIN not in said] == []
