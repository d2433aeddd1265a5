"""From emit() to a row that an SRE sees: spool, sender, Kafka, intake app, trail, ClickHouse sink."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import running
from support.kafka import make_topics

RATE, SECONDS, REPEATS = 500, 6, 5
TARGET_MS = 500

# In a process of its own, so that asking ClickHouse does not slow the emitting.
EMITTER = """
import sys, time
import deploytrail
rate, seconds, run = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
begin = time.perf_counter()
for i in range(rate * seconds):
    wait = begin + i / rate - time.perf_counter()
    if wait > 0:
        time.sleep(wait)
    deploytrail.start(service=f"{run}", environment="bench", region="eu-west-1", deployment_id=f"{run}-{i}")
deploytrail.flush(20)
"""


def run() -> list[tuple[str, str]]:
    """p50 and p99 of each repeat, and their medians."""
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
        home = Path(folder)
        with KafkaBroker(home / "kafka") as broker, ClickHouseProcess(home) as clickhouse:
            make_topics(broker.bootstrap)
            env = {
                "DEPLOYTRAIL_KAFKA": broker.bootstrap,
                "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse.url,
                "DEPLOYTRAIL_STATE": str(home / "state"),
                "DEPLOYTRAIL_URL": f"kafka://{broker.bootstrap}",
                "DEPLOYTRAIL_SPOOL": str(home / "spool"),
            }
            client = connect(Settings.load(env))
            with running("processor", "intake", env=env, cwd=home), running("sink", "clickhouse", env=env, cwd=home):
                _measure(client, os.environ | env, "warm-up", seconds=2)
                results = [_measure(client, os.environ | env, f"run-{i}") for i in range(REPEATS)]
    p50, p99 = (statistics.median(r[i] for r in results) for i in (0, 1))
    lost = sum(r[2] for r in results)
    each = ", ".join(f"{r[0]:.0f}/{r[1]:.0f}" for r in results)
    verdict = "met" if p99 <= TARGET_MS else f"missed by {p99 - TARGET_MS:.0f} ms"
    return [
        (f"emit to visible row at {RATE} events/s, p50", f"{p50:.0f} ms"),
        (f"emit to visible row at {RATE} events/s, p99", f"{p99:.0f} ms (target {TARGET_MS}: {verdict})"),
        ("p50/p99 of each repeat", f"{each} ms"),
        ("events that never became visible", str(lost)),
    ]


def _measure(client: Client, env: dict[str, str], name: str, seconds: int = SECONDS) -> tuple[float, float, int]:
    expected = RATE * seconds
    emitter = subprocess.Popen([sys.executable, "-c", EMITTER, str(RATE), str(seconds), name], env=env)
    question = (
        "SELECT kafka_offset, toUnixTimestamp64Micro(occurred_at) FROM deploytrail.deployment_events "
        f"WHERE region = 'eu-west-1' AND environment = 'bench' AND service = '{name}' AND kafka_offset > {{last:Int64}}"
    )
    delays: list[float] = []
    last = -1
    deadline = time.monotonic() + seconds + 40
    try:
        while len(delays) < expected and time.monotonic() < deadline:
            rows = client.query(question, parameters={"last": last}, settings={"max_threads": 1}).result_rows
            seen = time.time_ns() // 1000
            delays.extend((seen - row[1]) / 1000 for row in rows)
            # One region is one partition, so its offsets rise in the order in which rows appear.
            last = max([last, *(int(row[0]) for row in rows)])
            time.sleep(0.01)
    finally:
        emitter.wait(60)
    delays.sort()
    if not delays:
        return float("inf"), float("inf"), expected
    return delays[len(delays) // 2], delays[int(len(delays) * 0.99)], expected - len(delays)
