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

RATE, EMITTERS, SECONDS, REPEATS = 1000, 2, 6, 5
TARGET_MS = 250

# In processes of their own, as deploy scripts are: each emit waits for its fsync, which bounds one process.
EMITTER = """
import sys, time
import confluent_kafka, fastavro, deploytrail
rate, seconds, run = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
time.sleep(max(0.0, float(sys.argv[4]) - time.time()))
begin = time.perf_counter()
for i in range(rate * seconds):
    wait = begin + i / rate - time.perf_counter()
    if wait > 0:
        time.sleep(wait)
    deploytrail.start(service=f"{run}", environment="bench", region="eu-west-1")
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
    rate = statistics.median(r[3] for r in results)
    verdict = "met" if p99 <= TARGET_MS else f"missed by {p99 - TARGET_MS:.0f} ms"
    if rate < 0.98 * RATE:
        verdict = f"not measured: only {rate:.0f} events/s were emitted"
    return [
        (f"emit to visible row at {RATE} events/s, p50", f"{p50:.0f} ms"),
        (f"emit to visible row at {RATE} events/s, p99", f"{p99:.0f} ms (target {TARGET_MS}: {verdict})"),
        ("p50/p99 of each repeat", f"{each} ms"),
        ("events that never became visible", str(lost)),
        ("rate that was really emitted", f"{rate:.0f} events/s"),
    ]


def _measure(client: Client, env: dict[str, str], name: str, seconds: int = SECONDS) -> tuple[float, float, int, float]:
    """p50 and p99 in ms, events never seen, events a second that were really emitted."""
    expected = RATE * seconds
    share, begin = str(RATE // EMITTERS), str(time.time() + 3)
    emitters = [
        # A spool each, as on hosts of their own.
        subprocess.Popen(
            [sys.executable, "-c", EMITTER, share, str(seconds), name, begin],
            env=env | {"DEPLOYTRAIL_SPOOL": f"{env['DEPLOYTRAIL_SPOOL']}/{name}-{i}"},
        )
        for i in range(EMITTERS)
    ]
    question = (
        "SELECT kafka_offset, toUnixTimestamp64Micro(occurred_at) FROM deploytrail.deployment_events "
        f"WHERE region = 'eu-west-1' AND environment = 'bench' AND service = '{name}' AND kafka_offset > {{last:Int64}}"
    )
    delays: list[float] = []
    times: list[int] = []
    last = -1
    deadline = time.monotonic() + seconds + 40
    try:
        while len(delays) < expected and time.monotonic() < deadline:
            rows = client.query(question, parameters={"last": last}, settings={"max_threads": 1}).result_rows
            seen = time.time_ns() // 1000
            delays.extend((seen - row[1]) / 1000 for row in rows)
            times.extend(row[1] for row in rows)
            # One region is one partition, so its offsets rise in the order in which rows appear.
            last = max([last, *(int(row[0]) for row in rows)])
            time.sleep(0.05)  # asking more often would take the processor from what is measured
    finally:
        for emitter in emitters:
            emitter.wait(60)
    delays.sort()
    if not delays:
        return float("inf"), float("inf"), expected, 0.0
    rate = len(times) / max((max(times) - min(times)) / 1e6, 1e-6)
    return delays[len(delays) // 2], delays[int(len(delays) * 0.99)], expected - len(delays), rate
