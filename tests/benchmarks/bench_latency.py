"""From emit() to a row that an SRE sees: spool, sender, Kafka, intake app, trail, ClickHouse sink."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
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

# In processes of their own, as deploy scripts are: each emit waits for its fsync, which bounds one process. At a lower
# priority, since those scripts run on other hosts; the rate that they reach is held against the one that was wanted.
EMITTER = """
import os, sys, time
import confluent_kafka, fastavro, deploytrail
os.nice(5)
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


STAGES = tuple(enumerate(("emit to intake app", "intake app to trail", "trail to visible row")))


@dataclass(frozen=True, slots=True)
class Measured:
    """ms from emit to visible row, and of each stage, sorted; events never seen; events a second really emitted."""

    delays: list[float]
    stages: tuple[list[float], ...]
    lost: int
    rate: float


def at(ordered: list[float], share: float) -> float:
    """A quantile; infinite where nothing was seen."""
    return ordered[int(len(ordered) * share)] if ordered else float("inf")


def run() -> list[tuple[str, str]]:
    """p50 and p99 of each repeat, their medians, and where the time went."""
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
    p50, p99 = (statistics.median(at(r.delays, share) for r in results) for share in (0.5, 0.99))
    lost = sum(r.lost for r in results)
    each = ", ".join(f"{at(r.delays, 0.5):.0f}/{at(r.delays, 0.99):.0f}" for r in results)
    rate = statistics.median(r.rate for r in results)
    stages = [
        ", ".join(f"{what} {statistics.median(at(r.stages[i], share) for r in results):.0f}" for i, what in STAGES)
        for share in (0.5, 0.99)
    ]
    verdict = "met" if p99 <= TARGET_MS else f"missed by {p99 - TARGET_MS:.0f} ms"
    if rate < 0.98 * RATE:
        verdict = f"not measured: only {rate:.0f} events/s were emitted"
    return [
        (f"emit to visible row at {RATE} events/s, p50", f"{p50:.0f} ms"),
        (f"emit to visible row at {RATE} events/s, p99", f"{p99:.0f} ms (target {TARGET_MS}: {verdict})"),
        ("p50/p99 of each repeat", f"{each} ms"),
        ("where the time went, p50", f"{stages[0]} ms"),
        ("where the time went, p99 of each", f"{stages[1]} ms"),
        ("events that never became visible", str(lost)),
        ("rate that was really emitted", f"{rate:.0f} events/s"),
    ]


def _measure(client: Client, env: dict[str, str], name: str, seconds: int = SECONDS) -> Measured:
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
        "SELECT kafka_offset, toUnixTimestamp64Micro(occurred_at), toUnixTimestamp64Micro(received_at), "
        "toUnixTimestamp64Milli(kafka_timestamp) * 1000 FROM deploytrail.deployment_events "
        f"WHERE region = 'eu-west-1' AND environment = 'bench' AND service = '{name}' AND kafka_offset > {{last:Int64}}"
    )
    delays: list[float] = []
    stages: tuple[list[float], ...] = tuple([] for _ in STAGES)
    times: list[int] = []
    last = -1
    deadline = time.monotonic() + seconds + 40
    try:
        while len(delays) < expected and time.monotonic() < deadline:
            rows = client.query(question, parameters={"last": last}, settings={"max_threads": 1}).result_rows
            seen = time.time_ns() // 1000
            delays.extend((seen - row[1]) / 1000 for row in rows)
            for _, *stamps in rows:
                for stage, (before, after) in zip(stages, itertools.pairwise([*stamps, seen]), strict=True):
                    stage.append((after - before) / 1000)
            times.extend(row[1] for row in rows)
            # One region is one partition, so its offsets rise in the order in which rows appear.
            last = max([last, *(int(row[0]) for row in rows)])
            time.sleep(0.05)  # asking more often would take the processor from what is measured
    finally:
        for emitter in emitters:
            emitter.wait(60)
    for ordered in (delays, *stages):
        ordered.sort()
    rate = len(times) / max((max(times) - min(times)) / 1e6, 1e-6) if times else 0.0
    return Measured(delays, stages, expected - len(delays), rate)
