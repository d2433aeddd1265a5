"""A rebuild of regions that lie on shards of their own, on two engines."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import run, running
from support.kafka import make_topics, wait_for, write
from support.values import NOON, signal

EU, US = "eu-west-1", "us-east-1"


def titles(client: Client, database: str) -> list[tuple[str, str]]:
    rows = client.query(f"SELECT region, title FROM {database}.signals ORDER BY title, kafka_offset").result_rows
    return [(str(row[0]), str(row[1])) for row in rows]


@pytest.mark.requirement("M3.4", "M8.1")
@pytest.mark.timeout(900)
def test_a_rebuild_replays_every_shard_and_moves_what_an_earlier_map_left_elsewhere(
    own_kafka: str, clickhouse: str, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    database = f"shards_{uuid.uuid4().hex[:8]}"
    with ClickHouseProcess(tmp_path) as american:
        one = {
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
        }
        several = one | {"DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{US}={american.url}"}
        home, away = connect(Settings(clickhouse_url=clickhouse)), connect(Settings(clickhouse_url=american.url))

        def store(env: dict[str, str], title: str, count: int) -> None:
            trail = [
                (RegionMap.from_settings(Settings()).partition_of(region), b"k", encode(RecordType.SIGNAL, value))
                for region in (EU, US)
                for value in (signal(at=NOON, region=region, title=title),)
            ]
            with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
                write(own_kafka, Topic.EVENTS, trail)
                wait_for(lambda: stored() >= count, what="the rows")
                assert sink.stop() == 0

        def stored() -> int:
            clients = [c for c in (home, away) if c.command(f"EXISTS TABLE {database}.signals")]
            return sum(len(titles(c, database)) for c in clients)

        store(one, "early", 2)  # all of it at home
        store(several, "late", 4)
        before = sorted(titles(home, database) + titles(away, database))
        refused = run("rebuild", env=several, cwd=tmp_path, seconds=240)
        unchanged = sorted(titles(home, database)), titles(away, database)
        moved = run("rebuild", "--accept", env=several, cwd=tmp_path, seconds=240)
        again = run("rebuild", env=several, cwd=tmp_path, seconds=240)
        left = [c.command(f"EXISTS DATABASE {database}_rebuild") for c in (home, away)]

        assert refused.returncode == 1, refused.stderr
        assert "signals on shard 1: 1 row, DIFFERS: the trail gives 2 rows" in refused.stdout.splitlines()
        assert (US, "early") in unchanged[0] and unchanged[1] == [(US, "late")]
        assert moved.returncode == 0, moved.stderr
        assert titles(away, database) == [(US, "early"), (US, "late")]
        assert sorted(titles(home, database) + titles(away, database)) == before
        assert US not in {region for region, _ in titles(home, database)}
        assert again.returncode == 0 and "DIFFERS" not in again.stdout
        assert left == [0, 0]
