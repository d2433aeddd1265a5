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
from dataclasses import dataclass
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
    "what_runs_of, one service": "what_runs_of(service = '{service}')",
    "drift": "drift",
    "changed_before, 15 minutes": "changed_before(service = '{service}', region = '{region}', "
    "environment = 'production', at = '{at}', minutes = 15)",
    "deployment_timeline": "deployment_timeline(deployment_id = '{deployment}')",
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


@dataclass(frozen=True, slots=True)
class Answered:
    """How a question was answered, asked some times: milliseconds of each, sorted; and the most that was read."""

    took: tuple[float, ...]
    cpu: tuple[float, ...]  # of all cores: says more than the clock where others use the machine
    rows: int
    size: int  # bytes, as they are in memory

    @property
    def p50(self) -> float:
        return self.took[len(self.took) // 2]

    @property
    def p99(self) -> float:
        return self.took[min(len(self.took) - 1, round(0.99 * len(self.took)))]

    def grown_from(self, other: Answered) -> str:
        """How many times more than for another size."""
        times = {
            "p50": self.p50 / other.p50,
            "CPU": self.cpu[len(self.cpu) // 2] / max(0.1, other.cpu[len(other.cpu) // 2]),
            "rows": self.rows / max(1, other.rows),
            "MB": self.size / max(1, other.size),
        }
        return "grown " + ", ".join(f"{what} ×{number:.1f}" for what, number in times.items())

    def __str__(self) -> str:
        cpu, read = self.cpu[len(self.cpu) // 2], self.size / 1e6
        return f"{self.p50:,.0f} / {self.p99:,.0f} ms ({cpu:,.0f} ms CPU), {self.rows:,} rows, {read:,.1f} MB"


def run() -> list[tuple[str, str]]:
    """A line a question: p50 / p99 in milliseconds and what was read, for each size."""
    sizes = [int(text) for text in os.environ.get("BENCH_EVENTS", "200000,1000000").split(",")]
    lines, found = [], []
    for events in sizes:
        with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
            line, answers = _measure(Path(folder), events)
        lines.append(line)
        found.append(answers)
    for name in QUESTIONS:
        first, *others = (answers[name] for answers in found)
        lines.append((name, "; ".join([str(first), *(f"{a}, {a.grown_from(first)}" for a in others)])))
    return lines


def _measure(folder: Path, events: int) -> tuple[tuple[str, str], dict[str, Answered]]:
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
        stored, disk = (
            _scalar(connection, f"SELECT sum({column}) FROM system.parts WHERE active AND database = 'deploytrail'")
            for column in ("rows", "bytes_on_disk")
        )
        said = f"{int(stored):,} rows in all tables, {int(disk) / 1e9:.2f} GB, loaded in {took:.0f} s"
        connection.query("USE deploytrail")
        return (f"{events:,} events", said), {name: ask(connection, text) for name, text in QUESTIONS.items()}
    finally:
        connection.close()


def ask(connection: Any, question: str) -> Answered:
    """Ask a question about different services and times."""
    took, cpu, rows, size = [], [], 0, 0
    for text in asked(question):
        start, busy = time.perf_counter(), time.process_time()
        answer = connection.query(f"SELECT * FROM {text}", "Native")
        took.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
        rows, size = max(rows, answer.storage_rows_read()), max(size, answer.storage_bytes_read())
        if sum(took) > 8_000 and len(took) >= 3:
            break  # a slow one needs no more to be known as such
    return Answered(tuple(sorted(took)), tuple(sorted(cpu)), rows, size)


def asked(question: str) -> Iterator[str]:
    """The question about different services and times, busy ones more often, the same for every size."""
    chance = random.Random(7)
    for _ in range(RUNS):
        yield question.format(
            service=f"svc-{int(2000 * chance.random() ** 3):04}",
            region=chance.choice(["eu-west-1", "us-east-1"]),
            at=f"2026-{chance.randint(1, 9):02}-{chance.randint(1, 28):02} {chance.randint(8, 16):02}:30:00",
            deployment=f"github:api.github.com:{2_000_000_000 + 5 * chance.randint(200, 8_000)}",
            signal=f"s-{40 * chance.randint(10, 1000)}-0",
        )


def _scalar(connection: Any, question: str) -> float:
    return float(connection.query(question, "TSV").bytes().decode().strip())
