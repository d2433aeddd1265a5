"""The sink on two engines: a region's rows on its own shard, failover between replicas, answers that stop it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_local import ports
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import running
from support.kafka import make_topics, wait_for, write
from support.values import NOON, signal

EU, US = "eu-west-1", "us-east-1"


def titles(client: Client, database: str) -> list[tuple[str, str]]:
    rows = client.query(f"SELECT region, title FROM {database}.signals ORDER BY title, kafka_offset").result_rows
    return [(str(row[0]), str(row[1])) for row in rows]


@pytest.mark.requirement("M8.1")
def test_each_region_is_on_its_own_shard_and_a_dead_replica_is_passed_by(
    own_kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    database = f"shards_{uuid.uuid4().hex[:8]}"
    dead = f"http://127.0.0.1:{ports.free_port()}"
    with ClickHouseProcess(tmp_path) as american:
        env = {
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{US}={dead},{american.url}",
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
        }
        home, away = connect(Settings(clickhouse_url=clickhouse)), connect(Settings(clickhouse_url=american.url))
        regions = RegionMap.from_settings(Settings())
        trail = [
            (regions.partition_of(region) if own else 15, b"k", encode(RecordType.SIGNAL, value))
            for own in (True, False)  # the other partition holds history of all regions
            for region in (EU, US, "mars")
            for value in (signal(at=NOON, region=region, title=f"{region} {own}"),)
        ]
        with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
            write(own_kafka, Topic.EVENTS, trail)
            wait_for(
                lambda: len(titles(home, database)) == 4 and len(titles(away, database)) == 2,
                what="six rows",
            )
            assert sink.stop() == 0

        assert titles(away, database) == [(US, f"{US} False"), (US, f"{US} True")]
        assert {region for region, _ in titles(home, database)} == {EU, "mars"}


def test_an_answer_that_only_an_operator_can_change_stops_the_sink_and_loses_nothing(
    own_kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    database = f"stops_{uuid.uuid4().hex[:8]}"
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
    }
    client = connect(Settings(clickhouse_url=clickhouse))
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
        client.command(f"RENAME TABLE {database}.signals TO {database}.mislaid")
        write(own_kafka, Topic.EVENTS, [(3, b"k", encode(RecordType.SIGNAL, signal(title="kept")))])
        wait_for(lambda: sink.process.poll() is not None, what="its end")

        assert sink.process.returncode == 78
        assert any("run `deploytrail migrate`" in line for line in sink.lines)
    client.command(f"RENAME TABLE {database}.mislaid TO {database}.signals")
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as again:
        wait_for(lambda: (EU, "kept") in titles(client, database), what="the row")
        assert again.stop() == 0


def test_a_row_that_a_table_refuses_is_found_and_the_rest_goes_in(
    own_kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    """Sound Avro, but against a constraint: only halving finds it."""
    make_topics(own_kafka)
    database = f"refused_{uuid.uuid4().hex[:8]}"
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
    }
    client = connect(Settings(clickhouse_url=clickhouse))
    migrate(client, database)
    client.command(f"ALTER TABLE {database}.signals ADD CONSTRAINT calm CHECK title != 'refused'")
    names = ["refused" if i in (7, 20) else f"row {i:02}" for i in range(30)]
    values = [(4, b"k", encode(RecordType.SIGNAL, signal(at=NOON + i, title=name))) for i, name in enumerate(names)]
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
        write(own_kafka, Topic.EVENTS, values)
        letters = f"SELECT reason, count() FROM {database}.dead_letters WHERE origin_partition = 4 GROUP BY 1"
        wait_for(lambda: client.query(letters).result_rows == [("insert_refused", 2)], what="two dead letters")
        found = [title for _, title in titles(client, database) if title.startswith(("row", "refused"))]
        assert sink.stop() == 0

    assert found == [name for name in names if name != "refused"]
