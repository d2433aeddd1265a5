"""Two regional clusters and a central one, a real MirrorMaker between them, kill -9 on the way.

What the mirror brings twice, late or in another order makes no difference: the federated records are those of a run
in memory that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_local.mirror_maker import MirrorMaker
from deploytrail_processors.apps.federation import document
from deploytrail_processors.rules.federated_content import Claim
from deploytrail_schemas.clusters import mirrored
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import MissingDependencyError
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic, ensure_topics
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import Command, running
from support.federation import InMemory, company
from support.kafka import read_topic, wait_for, write

pytestmark = [pytest.mark.requirement("M8.2"), pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PROPERTIES = ROOT / "deploy" / "kafka" / "mirror.properties"
REGIONS = ("eu", "us")
# Few partitions: each costs a mirror and a broker some time, and none of what is held here depends on their number.
NUMBERS = {"DEPLOYTRAIL_PARTITIONS": "3", "DEPLOYTRAIL_BACKFILL_PARTITION": "2", "DEPLOYTRAIL_REGIONS": "eu-west-1=1"}


@dataclass
class Clusters:
    """Three clusters, and what the regional ones have told."""

    brokers: dict[str, KafkaBroker]
    told: list[Claim] = field(default_factory=list)

    @property
    def central(self) -> str:
        return self.brokers["central"].bootstrap

    @property
    def env(self) -> dict[str, str]:
        return {"DEPLOYTRAIL_KAFKA": self.central, "DEPLOYTRAIL_FEDERATED_CLUSTERS": "eu,us", **NUMBERS}

    def tell(self, claims: list[Claim]) -> None:
        """Write records where the lifecycle app of their cluster would have."""
        for region in REGIONS:
            write(self.brokers[region].bootstrap, Topic.RECORDS, [message(c) for c in claims if c["cluster"] == region])
        self.told += claims

    def mirror(self, folder: Path) -> MirrorMaker:
        where = {f"{name.upper()}_KAFKA": broker.bootstrap for name, broker in self.brokers.items()}
        return MirrorMaker(folder, PROPERTIES, {**where, "COPIES": "1"})

    def federated(self) -> dict[str, dict[str, Any]]:
        """The newest federated record of each id in the central cluster."""
        found = {}
        for written in read_topic(self.central, Topic.FEDERATED):
            found[(written.key() or b"").decode()] = json.loads(written.value() or b"")
        return found

    def undisturbed(self) -> dict[str, dict[str, Any]]:
        """What they would be if each cluster's records had come once, in another order: one cluster after the other."""
        memory = InMemory()
        for claim in sorted(self.told, key=lambda claim: claim["cluster"], reverse=True):
            memory.app.on_record(claim)
        memory.merge()
        return {name: json.loads(json.dumps(document(content))) for name, content in memory.records.items()}


def message(claim: Claim) -> tuple[int, bytes, bytes]:
    record = claim["record"]
    return claim["partition"], record["deployment_id"].encode(), encode(RecordType.RECORD, record)


@pytest.fixture(scope="module")
def clusters(own_kafka_needs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    folder = tmp_path_factory.mktemp("clusters")
    with ExitStack() as stack:
        found = Clusters({name: stack.enter_context(KafkaBroker(folder / name)) for name in (*REGIONS, "central")})
        for broker in found.brokers.values():
            settings = Settings.load({**NUMBERS, "DEPLOYTRAIL_KAFKA": broker.bootstrap})
            ensure_topics(AdminClient(client_config(settings)), settings)
        yield found


@pytest.fixture(scope="module")
def merged(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    """The clusters once all that they told is merged, with the mirror and a worker of the app killed on the way."""
    folder = tmp_path_factory.mktemp("federation")
    # Without company in Asia: two clusters.
    told = company(random.Random(5), deployments=12, clusters=REGIONS)
    with ExitStack() as stack:
        mirror = clusters.mirror(folder)
        try:
            mirror.start()
        except MissingDependencyError as error:
            pytest.skip(str(error))
        stack.callback(mirror.stop)
        app = Command("processor", "federation", env=clusters.env, cwd=folder)
        stack.callback(lambda: app.kill())
        clusters.tell(told[: len(told) // 3])
        app.wait_ready(240)
        wait_for(lambda: bool(clusters.federated()), seconds=240, what="the first federated record")
        mirror.kill()
        app.kill()
        clusters.tell(told[len(told) // 3 : 2 * len(told) // 3])
        # What a mirror writes again that was killed before it noted how far it was.
        again = [message(claim) for claim in clusters.told if claim["cluster"] == "eu"]
        write(clusters.central, mirrored("eu", Topic.RECORDS), [*again[: len(again) // 2], *reversed(again)])
        mirror.start()
        app = Command("processor", "federation", env=clusters.env, cwd=folder)
        # A second worker: it takes over what the first one has when that is killed, and gives it back to the third.
        beside_env = {**clusters.env, "DEPLOYTRAIL_STATE": str(folder / "state-beside")}
        beside = Command("processor", "federation", env=beside_env, cwd=folder)
        stack.callback(lambda: beside.kill())
        clusters.tell(told[2 * len(told) // 3 :])
        app.wait_ready(240)
        beside.wait_ready(240)
        app.kill()  # in the middle of it
        app = Command("processor", "federation", env=clusters.env, cwd=folder)
        expected = clusters.undisturbed()
        wait_for(lambda: clusters.federated() == expected, seconds=300, what="the content of an undisturbed run")
        assert app.stop() == 0
        assert beside.stop() == 0
    return clusters


def test_the_federated_records_are_those_of_an_undisturbed_run(merged: Clusters) -> None:
    found = merged.federated()

    assert found == merged.undisturbed()
    assert {tuple(record["clusters"]) for record in found.values()} >= {("eu", "us")}
    assert any(record["conflicts"] for record in found.values())
    assert any(record["merged_into"] for record in found.values())
    assert [dict(letter.headers() or []) for letter in read_topic(merged.central, Topic.DEAD_LETTERS)] == []


def test_partitions_of_a_region_stay_what_they_are(merged: Clusters) -> None:
    for region in REGIONS:
        here = {
            (m.partition(), m.key(), m.value()) for m in read_topic(merged.brokers[region].bootstrap, Topic.RECORDS)
        }
        there = {
            (m.partition(), m.key(), m.value()) for m in read_topic(merged.central, mirrored(region, Topic.RECORDS))
        }

        assert here == there


def test_an_sre_and_an_auditor_ask_the_central_cluster(merged: Clusters, clickhouse: str, tmp_path: Path) -> None:
    base = {**merged.env, "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse}
    own = {**base, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": "federation"}
    eu = {**base, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": "federation_eu", "DEPLOYTRAIL_MIRRORED_CLUSTER": "eu"}
    us = {**base, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": "federation_us", "DEPLOYTRAIL_MIRRORED_CLUSTER": "us"}
    expected = {name: record for name, record in merged.federated().items() if not record["merged_into"]}
    with ExitStack() as stack:
        for number, env in enumerate((own, eu, us)):
            folder = tmp_path / str(number)
            folder.mkdir()
            stack.enter_context(running("sink", "clickhouse", env=env, cwd=folder))
        client = connect(Settings.load({**os.environ, **base}))

        def asked(question: str) -> list[Any]:
            return list(client.query(question).result_rows)

        current = (
            "SELECT deployment_id, state, clusters, claims, conflicts, revision FROM federation.federated_deployments"
        )

        def stands() -> dict[str, Any]:
            return {name: rest for name, *rest in asked(current)}

        names = ("state", "clusters", "claims", "conflicts", "revision")
        wanted = {name: [record[field] for field in names] for name, record in expected.items()}
        wait_for(lambda: stands() == wanted, what="every federated record in ClickHouse")
        every = "merge(REGEXP('^federation_(eu|us)$'), '^deployment_revisions$')"
        of_each = f"SELECT _database, uniqExact(deployment_id) FROM {every} GROUP BY 1"
        told = {
            f"federation_{region}": len({c["record"]["deployment_id"] for c in merged.told if c["cluster"] == region})
            for region in REGIONS
        }
        wait_for(lambda: dict(asked(of_each)) == told, what="every cluster's own records in a database each")
        view = "federation.federated_deployments"
        disagreed = asked(f"SELECT deployment_id, conflicts['state'] FROM {view} WHERE conflicts['state'] != ''")

        assert dict(disagreed) == {
            name: record["conflicts"]["state"] for name, record in expected.items() if "state" in record["conflicts"]
        }
