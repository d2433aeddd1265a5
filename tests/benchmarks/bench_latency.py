"""From emit() to a row that an SRE can see: spool, sender, Kafka, intake app, trail, ClickHouse sink."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from clickhouse_connect.driver.client import Client
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import running
from support.kafka import make_topics

RATES = tuple(map(int, os.environ.get("BENCH_RATES", "250,500,1000").split(",")))
EMITTED, EMITTERS, SECONDS, REPEATS = 50, 2, 12, 3
TARGET_RATE, TARGET_MS = 1000, 250
# Whose events: the library's are what is held against the target; the others are the load.
LIBRARY, LOAD = "library", "load"

# In processes of their own, as deploy scripts are. At a lower priority, since those scripts run on other hosts.
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
    deploytrail.start(service=run, environment="bench", region="eu-west-1")
deploytrail.flush(20)
"""
# ClickHouse tells when each part became visible: asking 40 times a second takes a fifth of a core from the others.
CONFIG = """
<clickhouse><part_log><database>system</database><table>part_log</table>
<flush_interval_milliseconds>600000</flush_interval_milliseconds></part_log></clickhouse>
"""
VISIBLE = """
SELECT toUnixTimestamp64Micro(event_time_microseconds), rows FROM system.part_log
WHERE database = 'deploytrail' AND table = 'deployment_events' AND event_type = 'NewPart' AND error = 0
ORDER BY event_time_microseconds
"""
ASK_SECONDS = 0.25  # between two questions, which have to find what the log of parts says
LOGGED_WITHIN = 100_000  # µs from a part's being visible to its line in that log
# What happened when, µs: emitted, appended to the intake topic, appended to the trail.
STAMPS = """
SELECT service, toUnixTimestamp64Micro(occurred_at), toUnixTimestamp64Micro(received_at),
    toUnixTimestamp64Milli(kafka_timestamp) * 1000
FROM deploytrail.deployment_events
WHERE region = 'eu-west-1' AND environment = 'bench' AND service IN ('{library}', '{load}')
ORDER BY kafka_partition, kafka_offset
"""
STAGES = tuple(enumerate(("to the intake topic", "to the trail", "to a visible row")))


@dataclass(frozen=True, slots=True)
class Parts:
    """The processes that are measured, by name."""

    by_name: Mapping[str, psutil.Process]

    def seconds(self) -> dict[str, float]:
        """Processor time that each has taken."""
        return {name: sum(part.cpu_times()[:2]) for name, part in self.by_name.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, µs, and the rows that it saw."""

    begin: int
    end: int
    rows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """ms from emit to visible row of each kind of event, of each stage, sorted; events never seen; events a second
    really emitted; µs of processor time by event of each part."""

    delays: Mapping[str, list[float]]
    stages: tuple[list[float], ...]
    lost: int
    rate: float
    cost: Mapping[str, float]


def at(ordered: list[float], share: float) -> float:
    """A quantile; infinite where nothing was seen."""
    return ordered[int(len(ordered) * share)] if ordered else float("inf")


def run() -> list[tuple[str, str]]:
    """At each rate p50 and p99, where the time went, and what each part takes of the processors."""
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
        home = Path(folder)
        (home / "config.xml").write_text(CONFIG)
        logging = {"DEPLOYTRAIL_CLICKHOUSE_CONFIG": str(home / "config.xml")}
        with KafkaBroker(home / "kafka") as broker, ClickHouseProcess(home, logging) as clickhouse:
            make_topics(broker.bootstrap)
            env = {
                "DEPLOYTRAIL_KAFKA": broker.bootstrap,
                "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse.url,
                "DEPLOYTRAIL_STATE": str(home / "state"),
                "DEPLOYTRAIL_URL": f"kafka://{broker.bootstrap}",
                "DEPLOYTRAIL_SPOOL": str(home / "spool"),
            }
            client = connect(Settings.load(env))
            with (
                running("processor", "intake", env=env, cwd=home) as intake,
                running("sink", "clickhouse", env=env, cwd=home) as sink,
            ):
                assert broker.process is not None
                pids = {
                    "intake app": intake.process.pid,
                    "sink": sink.process.pid,
                    "ClickHouse": clickhouse.process.pid,
                    "broker": broker.process.pid,
                    "who asks": os.getpid(),
                }
                parts = Parts({name: psutil.Process(pid) for name, pid in pids.items()})
                _measure(client, os.environ | env, parts, "warm-up", RATES[-1], seconds=4)
                for rate in RATES:
                    results = [_measure(client, os.environ | env, parts, f"{rate}-{i}", rate) for i in range(REPEATS)]
                    rows += _told(rate, results)
    return rows


def _told(rate: int, results: list[Measured]) -> list[tuple[str, str]]:
    def median(of: list[list[float]], share: float) -> float:
        return statistics.median(at(one, share) for one in of)

    p50, p99 = (median([r.delays[LIBRARY] for r in results], share) for share in (0.5, 0.99))
    load50, load99 = (median([r.delays[LOAD] for r in results], share) for share in (0.5, 0.99))
    each = ", ".join(f"{at(r.delays[LIBRARY], 0.5):.0f}/{at(r.delays[LIBRARY], 0.99):.0f}" for r in results)
    stages = ", ".join(
        f"{what} {median([r.stages[i] for r in results], 0.5):.0f}/{median([r.stages[i] for r in results], 0.99):.0f}"
        for i, what in STAGES
    )
    cost = {name: statistics.median(r.cost[name] for r in results) for name in results[0].cost}
    reached = statistics.median(r.rate for r in results)
    verdict = "met" if p99 <= TARGET_MS else f"missed by {p99 - TARGET_MS:.0f} ms"
    if reached < 0.98 * rate:
        verdict = f"not measured: only {reached:.0f} events/s were emitted"
    aim = f" (target {TARGET_MS}: {verdict})" if rate == TARGET_RATE else ""
    return [
        (f"at {rate} events/s: really emitted", f"{reached:.0f} events/s"),
        ("  emit to visible row, p50; p99", f"{p50:.0f}; {p99:.0f} ms{aim}; p50/p99 of each repeat: {each}"),
        ("  the load, from the producer's call, p50; p99", f"{load50:.0f}; {load99:.0f} ms"),
        ("  where the time of all went, p50/p99 of each", f"{stages} ms"),
        ("  processor time by event", ", ".join(f"{name} {micros:.0f}" for name, micros in cost.items()) + " µs"),
        ("  events that never became visible", str(sum(r.lost for r in results))),
    ]


def _measure(
    client: Client, env: dict[str, str], parts: Parts, name: str, rate: int, seconds: int = SECONDS
) -> Measured:
    begin = time.time() + 4
    library, load = f"{LIBRARY}-{name}", f"{LOAD}-{name}"
    emitting = [
        # A spool each, as on hosts of their own.
        subprocess.Popen(
            [sys.executable, "-c", EMITTER, str(EMITTED // EMITTERS), str(seconds), library, str(begin)],
            env=env | {"DEPLOYTRAIL_SPOOL": f"{env['DEPLOYTRAIL_SPOOL']}/{name}-{i}"},
        )
        for i in range(EMITTERS)
    ]
    argv = [sys.executable, "-m", "benchmarks.load_member", str(rate - EMITTED), str(seconds), load, str(begin)]
    emitting.append(subprocess.Popen(argv, env=env))
    before = _rows(client)
    time.sleep(max(0.0, begin - time.time()))
    spent, deadline = parts.seconds(), time.monotonic() + seconds + 40
    asked = [Asked(0, 0, before)]
    try:
        while asked[-1].rows - before < rate * seconds and time.monotonic() < deadline:
            time.sleep(ASK_SECONDS)
            at_first = time.time_ns() // 1000
            rows = _rows(client)
            asked.append(Asked(at_first, time.time_ns() // 1000, rows))
        took = parts.seconds()
    finally:
        for one in emitting:
            one.wait(60)
    seen = [(rows - before, when) for rows, when in _visible(client, asked) if rows > before]
    delays: dict[str, list[float]] = {library: [], load: []}
    stages: tuple[list[float], ...] = tuple([] for _ in STAGES)
    counts, times = zip(*(seen or [(0, 0)]), strict=True)
    emitted = client.query(STAMPS.format(library=library, load=load)).result_rows[: counts[-1]]
    for number, (service, *stamps) in enumerate(emitted, 1):
        # One region is one partition, so rows appear in the order of their offsets.
        at_last = times[bisect_left(counts, number)]
        delays[service].append((at_last - stamps[0]) / 1000)
        for stage, (first, second) in zip(stages, itertools.pairwise([*stamps, at_last]), strict=True):
            stage.append((second - first) / 1000)
    for ordered in (*delays.values(), *stages):
        ordered.sort()
    reached = [stamps[0] for _, *stamps in emitted]
    span = max((max(reached) - min(reached)) / 1e6, 1e-6) if reached else 1e-6
    return Measured(
        {LIBRARY: delays[library], LOAD: delays[load]},
        stages,
        rate * seconds - len(emitted),
        len(emitted) / span,
        {name: (took[name] - spent[name]) / (rate * seconds) * 1e6 for name in took},
    )


def _visible(client: Client, asked: list[Asked]) -> list[tuple[int, int]]:
    """Rows that could be seen, and from what time on, µs, by ClickHouse's log of parts. RuntimeError where questions
    found something else."""
    client.command("SYSTEM FLUSH LOGS")
    logged = client.query(VISIBLE).result_rows
    seen = list(zip(itertools.accumulate(rows for _, rows in logged), (when for when, _ in logged), strict=True))
    times = [when for _, when in seen]
    for one in asked[1:]:
        least, most = (bisect_right(times, when) for when in (one.begin, one.end + LOGGED_WITHIN))
        if not (seen[least - 1][0] if least else 0) <= one.rows <= (seen[most - 1][0] if most else 0):
            raise RuntimeError(
                f"a question saw {one.rows} rows; the log of parts says otherwise: {seen[max(0, least - 1) : most]}"
            )
    return seen


def _rows(client: Client) -> int:
    """Rows that a query sees now. ClickHouse answers this without reading any."""
    return int(client.query("SELECT count() FROM deploytrail.deployment_events").first_row[0])
