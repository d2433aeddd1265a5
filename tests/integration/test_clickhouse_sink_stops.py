"""A sink that is stopped: what it had gathered is stored, and ClickHouse may hang as long as it likes."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.replay import committed
from deploytrail_sinks.clickhouse.sink import ClickHouseSink
from deploytrail_sinks.clickhouse.writer import connect
from support.breaking_proxy import BreakingProxy
from support.commands import running
from support.kafka import make_topics, wait_for, write
from support.values import signal

COUNT = 5_000
IN_TIME = 45.0  # seconds: eight for what gathered, and a slow machine's own; the next batch is due in ten minutes


@pytest.fixture
def env(own_kafka: str, clickhouse: str) -> dict[str, str]:
    make_topics(own_kafka)
    return {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"tail_{uuid.uuid4().hex[:8]}",
        "DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS": str(10 * COUNT),
        "DEPLOYTRAIL_CLICKHOUSE_BATCH_SECONDS": "600",
    }


def stored(env: dict[str, str], url: str = "") -> tuple[int, int]:
    """Rows, and how many different ones."""
    database = env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]
    question = f"SELECT count(), uniqExact(kafka_offset) FROM {database}.signals WHERE title = 'tail'"
    rows, different = (
        connect(Settings(clickhouse_url=url or env["DEPLOYTRAIL_CLICKHOUSE_URL"])).query(question).result_rows[0]
    )
    return int(rows), int(different)


def put(env: dict[str, str], count: int) -> None:
    value = encode(RecordType.SIGNAL, signal(title="tail"))
    write(env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, [(6, b"k", value)] * count)


@pytest.mark.requirement("M3.4")
@pytest.mark.timeout(600)
def test_a_stop_stores_all_that_has_gathered_in_bounded_time(env: dict[str, str]) -> None:
    settings = Settings.load(env)
    migrate(connect(settings), settings.clickhouse_database)
    sink = ClickHouseSink(settings)
    sink._buffer.took(600.0, time.monotonic())  # as if ClickHouse were slow: the next batch is due in ten minutes
    thread = threading.Thread(target=sink.run)
    thread.start()
    try:
        put(env, COUNT)
        wait_for(lambda: sink._buffer.rows == COUNT, what="all of them, gathered")
        before = stored(env)
    finally:
        began = time.monotonic()
        sink.stop()
        thread.join(120)
    took = time.monotonic() - began

    assert before == (0, 0)
    assert stored(env) == (COUNT, COUNT)
    assert took < IN_TIME
    offsets, announced = committed(settings)
    assert offsets[Topic.EVENTS.value, 6] == COUNT
    assert announced == set()


@pytest.mark.requirement("M3.4")
@pytest.mark.timeout(600)
def test_a_stop_ends_in_bounded_time_though_clickhouse_hangs_and_nothing_is_lost(
    env: dict[str, str], tmp_path: Path
) -> None:
    direct = env["DEPLOYTRAIL_CLICKHOUSE_URL"]
    with BreakingProxy(direct, answers=1 << 40) as way:
        hanging = env | {"DEPLOYTRAIL_CLICKHOUSE_URL": way.url}
        with running("sink", "clickhouse", env=hanging, cwd=tmp_path) as sink:
            put(env, 10)
            wait_for(lambda: stored(env) == (10, 10), what="the first rows")
            way.silent.set()
            put(env, 10)
            wait_for(lambda: committed(Settings.load(env))[1] != set(), what="an insert that hangs")
            began = time.monotonic()
            code = sink.stop(120)
            took = time.monotonic() - began
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as again:
        wait_for(lambda: stored(env) == (20, 20), what="the rest, by the next one")
        assert again.stop() == 0

    assert code == 0
    assert took < IN_TIME
    assert stored(env) == (20, 20)
