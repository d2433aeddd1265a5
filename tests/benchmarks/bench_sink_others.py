"""The sink against sinks that others built in Python: the same messages in Kafka, the same engine, one run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import deploytrail_schemas
import psutil
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.kafka import make_topics

from benchmarks.bench_sink import row_of_bench

ROWS, PARTITIONS = int(os.environ.get("BENCH_ROWS", "200000")), 4
HERE = Path(__file__).parent / "sinks_of_others"
OTHERS = {
    "Quix Streams (BatchingSink, columns)": ("quix.py", "quixstreams<4"),
    "Arroyo (BatchStep, columns)": ("arroyo_batches.py", "sentry-arroyo<3"),
}
MARGIN_SECONDS = 240.0


def run() -> list[tuple[str, str]]:
    """Rows a second, CPU a row and the largest memory of each, from the first rows in the table to the last."""
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as broker, ClickHouseProcess(folder) as server:
            make_topics(broker.bootstrap)
            fill(broker.bootstrap)
            client = connect(Settings(clickhouse_url=server.url))
            migrate(client, "deploytrail")
            env = os.environ | {
                "DEPLOYTRAIL_KAFKA": broker.bootstrap,
                "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
                "BENCH_KAFKA": broker.bootstrap,
                "BENCH_URL": server.url,
                "BENCH_TOPIC": Topic.EVENTS.value,
                "BENCH_TABLE": "deploytrail.others",
                "BENCH_SCHEMA": str(Path(deploytrail_schemas.__file__).parent / "avro" / "deployment_event.v1.avsc"),
            }
            ours = [str(Path(sys.executable).parent / "deploytrail"), "sink", "clickhouse"]
            found = {"deploytrail": measured(client, ours, env, folder, "deploytrail.deployment_events")}
            for what, (script, package) in OTHERS.items():
                client.command("DROP TABLE IF EXISTS deploytrail.others SYNC")
                client.command("CREATE TABLE deploytrail.others AS deploytrail.deployment_events")
                try:
                    argv = [_uv(), "run", "-q", "--isolated", "--no-project", "--python", sys.executable]
                    argv += ["--with", package, "--with", "clickhouse-connect<2", "--with", "fastavro<2"]
                    argv += ["python", str(HERE / script)]
                    found[what] = measured(client, argv, env, folder, "deploytrail.others")
                except (RuntimeError, FileNotFoundError) as error:
                    found[what] = str(error)
    mine = found["deploytrail"]
    lines = []
    for what, result in found.items():
        if isinstance(result, str):
            lines.append((what, f"not measured: {result}"))
            continue
        ahead = (
            ""
            if isinstance(mine, str) or what == "deploytrail"
            else f"; deploytrail is {mine[0] / result[0]:.1f} times as fast"
        )
        lines.append(
            (what, f"{result[0]:,.0f} rows/s, {result[1]:.1f} µs of CPU a row, at most {result[2]:.0f} MiB{ahead}")
        )
    return lines


def fill(bootstrap: str) -> None:
    """The messages, spread over partitions."""
    producer = Producer(producer_config(Settings(kafka=bootstrap)) | {"queue.buffering.max.messages": 500_000})
    for offset in range(ROWS):
        producer.produce(Topic.EVENTS.value, row_of_bench(offset).value, b"k", partition=1 + offset % PARTITIONS)
        if offset % 1000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the messages were not delivered")


def measured(
    client: Client, argv: list[str], env: dict[str, str], folder: Path, table: str
) -> tuple[float, float, float] | str:
    """Rows a second, µs of CPU a row, MiB; from the moment when the process begins to read to the last row."""
    log = (folder / "log").open("w+")
    with started(argv, env, log) as process:
        deadline = time.monotonic() + MARGIN_SECONDS
        count, began, first, peak, cpu, cpu_at_first = 0, 0.0, 0, 0.0, 0.0, 0.0
        while count < ROWS:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"{count} of {ROWS} rows after its end: {log.read()[-300:]!r}")
            cpu, memory = used(process.pid)
            peak = max(peak, memory)
            count = int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])
            if count and not first:
                first, began, cpu_at_first = count, time.monotonic(), cpu
            time.sleep(0.02)
        took = time.monotonic() - began
        cpu = used(process.pid)[0]
    if first >= ROWS:
        return "all rows came in one piece; set BENCH_ROWS higher"
    return (ROWS - first) / took, (cpu - cpu_at_first) / (ROWS - first) * 1e6, peak


@contextlib.contextmanager
def started(argv: list[str], env: dict[str, str], log: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children, ended at the end."""
    process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)  # type: ignore[call-overload]  # a file
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.kill()
        process.kill()
        process.wait()


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU and MiB of a process and its children."""
    try:
        every = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        times = [one.cpu_times() for one in every]
        return sum(t.user + t.system for t in times), sum(one.memory_info().rss for one in every) / (1 << 20)
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = shutil.which("uv") or (str(beside) if beside.exists() else None)
    if found is None:
        raise FileNotFoundError("uv is missing, which installs it in an environment of its own")
    return found
