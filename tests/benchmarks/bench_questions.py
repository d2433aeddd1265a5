"""Every question of sinks/README.md on two years of a company: latency, rows and bytes read, and how they grow.

BENCH_EVENTS: numbers of events to load, one after the other (default 200000,1000000; 10 M take
some ten minutes and 4 GB of disk).
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploytrail_sinks.clickhouse.migrate import migrations

from benchmarks.history import load

RUNS = 20
MONTH = "since = '2026-09-01 00:00:00', until = '2026-10-01 00:00:00'"
NOW = "as_of = '2026-12-01 00:00:00', environment = 'production'"
COUNTED = f"{MONTH}, {NOW}, excluded_kinds = ['configuration_change']"
QUESTIONS = {
    "active_deployments": "active_deployments",
    "what_runs": "what_runs",
    "drift": "drift",
    "changed_before, 15 minutes": "changed_before(service = '{service}', region = '{region}', "
    "environment = 'production', at = '{at}', minutes = 15)",
    "deployment_timeline": "deployment_timeline(deployment_id = {deployment})",
    "incident_timeline": "incident_timeline(incident = '{signal}')",
    "who_changed": "who_changed(key = 'pool_size') WHERE service = '{service}'",
    "version_at": "version_at(at = '{at}')",
    "version_at, one service": "version_at(at = '{at}') WHERE service = '{service}'",
    "config_at, one service": "config_at(at = '{at}') WHERE service = '{service}'",
    "dora, a month": f"dora({COUNTED})",
    "deployment_frequency, a month": f"deployment_frequency({COUNTED}, zone = 'Europe/Berlin')",
    "deployment_risk, a month": f"deployment_risk({COUNTED})",
    "change_failures, a month": f"change_failures({COUNTED})",
    "incident_causes, a month": f"incident_causes({MONTH}, {NOW})",
    "coverage, a month": f"coverage({MONTH})",
    "broken_ticket_links, a month": f"broken_ticket_links({MONTH}, environment = 'production')",
    "access_review, a month": f"access_review({MONTH})",
    "loss, a month": f"loss({MONTH})",
    "ingest_lag, a month": f"ingest_lag({MONTH})",
    "tracker_slo, a month": f"tracker_slo({MONTH}, limit_ms = 5000, objective = 0.999)",
}


def run() -> list[tuple[str, str]]:
    """A line a question: p50 / p99 in milliseconds and what was read, for each size."""
    sizes = [int(text) for text in os.environ.get("BENCH_EVENTS", "200000,1000000").split(",")]
    found: dict[str, list[str]] = {name: [] for name in QUESTIONS}
    firsts: dict[str, float] = {}
    lines = []
    for events in sizes:
        with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
            lines.append(_measure(Path(folder), events, found, firsts))
    return [*lines, *((name, "; ".join(texts)) for name, texts in found.items())]


def _measure(folder: Path, events: int, found: dict[str, list[str]], firsts: dict[str, float]) -> tuple[str, str]:
    import chdb

    connection = chdb.connect(str(folder / "data"))
    try:
        connection.query("CREATE DATABASE deploytrail")
        for migration in migrations():
            for statement in migration.statements("deploytrail"):
                connection.query(statement.text)
        began = time.perf_counter()
        load(connection.query, "deploytrail", events)
        took = time.perf_counter() - began
        stored = _scalar(connection, "SELECT sum(rows) FROM system.parts WHERE active AND database = 'deploytrail'")
        disk = _scalar(
            connection, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'deploytrail'"
        )
        connection.query("USE deploytrail")
        for name, question in QUESTIONS.items():
            times, rows, size = [], 0, 0
            for text in asked(question):
                start = time.perf_counter()
                answer = connection.query(f"SELECT * FROM {text}", "Native")
                times.append((time.perf_counter() - start) * 1000)
                rows, size = max(rows, answer.storage_rows_read()), max(size, answer.storage_bytes_read())
                if sum(times) > 8_000 and len(times) >= 3:
                    break  # a slow one needs no more to be known as such
            times.sort()
            middle, worst = times[len(times) // 2], times[min(len(times) - 1, round(0.99 * len(times)))]
            growth = f", ×{middle / firsts[name]:.1f}" if name in firsts else ""
            firsts.setdefault(name, middle)
            found[name].append(f"{middle:,.0f} / {worst:,.0f} ms, {rows:,} rows, {size / 1e6:,.1f} MB{growth}")
        return (
            f"{events:,} events",
            f"{int(stored):,} rows in all tables, {int(disk) / 1e9:.2f} GB, loaded in {took:.0f} s",
        )
    finally:
        connection.close()


def asked(question: str) -> Iterator[str]:
    """The question about different services and times, busy ones more often, the same for every size."""
    chance = random.Random(7)
    for _ in range(RUNS):
        yield question.format(
            service=f"svc-{int(2000 * chance.random() ** 3):04}",
            region=chance.choice(["eu-west-1", "us-east-1"]),
            at=f"2026-{chance.randint(1, 9):02}-{chance.randint(1, 28):02} {chance.randint(8, 16):02}:30:00",
            deployment=f"concat('d-', hex(sipHash64(toUInt64({chance.randint(1000, 40_000)}))))",
            signal=f"s-{40 * chance.randint(10, 1000)}-0",
        )


def _scalar(connection: Any, question: str) -> float:
    return float(connection.query(question, "TSV").bytes().decode().strip())
