"""What a row costs the sink when there is much to do: CPU and memory at 0.2 M and at 4 M rows."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.kafka import make_topics, wait_for

from benchmarks.bench_sink import row_of_bench
from benchmarks.bench_sink_others import started, used

FEW, MANY = 200_000, int(os.environ.get("BENCH_MANY_ROWS", "4000000"))
PARTITIONS, DISTINCT, TARGET = 4, 50_000, 1.5


def run() -> list[tuple[str, str]]:
    """CPU a row of both, their ratio, and the memory of the sink at rest and under load."""
    values = [row_of_bench(offset).value for offset in range(DISTINCT)]
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as broker, ClickHouseProcess(folder) as server:
            make_topics(broker.bootstrap)
            env = os.environ | {"DEPLOYTRAIL_KAFKA": broker.bootstrap, "DEPLOYTRAIL_CLICKHOUSE_URL": server.url}
            command = [str(Path(sys.executable).parent / "deploytrail"), "sink", "clickhouse"]
            client = connect(Settings(clickhouse_url=server.url))
            with (folder / "log").open("w+") as log, started(command, env, log) as process:
                wait_for(lambda: bool(client.command("EXISTS deploytrail.deployments")), seconds=60, what="tables")
                _send(broker.bootstrap, values, 1)
                _stored(client, process.pid, 1)
                rest = used(process.pid)[1]
                few = _load(client, broker.bootstrap, values, process.pid, 1, FEW)
                many = _load(client, broker.bootstrap, values, process.pid, 1 + FEW, MANY)
    ratio = many[0] / few[0]
    return [
        (f"CPU of the sink a row, {FEW:,} rows", f"{few[0]:.1f} µs"),
        (f"CPU of the sink a row, {MANY:,} rows", f"{many[0]:.1f} µs"),
        ("ratio", f"{ratio:.2f} (target {TARGET}: {'met' if ratio <= TARGET else 'missed'})"),
        ("memory of the sink at rest", f"{rest:.0f} MiB"),
        ("memory of the sink under load, at most", f"{max(few[1], many[1]):.0f} MiB"),
    ]


def _load(
    client: Client, bootstrap: str, values: list[bytes | None], pid: int, before: int, rows: int
) -> tuple[float, float]:
    """µs of CPU a row, and the most MiB."""
    cpu = used(pid)[0]
    _send(bootstrap, values, rows)
    peak = _stored(client, pid, before + rows)
    return (used(pid)[0] - cpu) / rows * 1e6, peak


def _send(bootstrap: str, values: list[bytes | None], rows: int) -> None:
    producer = Producer(producer_config(Settings(kafka=bootstrap)) | {"queue.buffering.max.messages": 200_000})
    for number in range(rows):
        while True:
            try:
                partition = 1 + number % PARTITIONS
                producer.produce(Topic.EVENTS.value, values[number % DISTINCT], b"k", partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise RuntimeError("the messages were not delivered")


def _stored(client: Client, pid: int, rows: int) -> float:
    """Wait for so many rows; the most MiB meanwhile."""
    peak, deadline = 0.0, time.monotonic() + 900
    while int(client.query("SELECT count() FROM deploytrail.deployment_events").result_rows[0][0]) < rows:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{rows} rows were not stored within 900 s")
        peak = max(peak, used(pid)[1])
        time.sleep(0.1)
    return peak
