"""The audit report of a month of very many deployments: time and peak memory, and how they grow.

And what `standing_findings` costs, which looks for what supersedes each verdict: the whole view, and the verdicts
of one deployment, beside the same from `findings`.

BENCH_DEPLOYMENTS: the sizes, one after the other (default 5000,50000).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client
from support.clickhouse import ClickHouseProcess
from support.many_deployments import fill, report
from support.questions import Trail


def run() -> list[tuple[str, str]]:
    """A line a size."""
    sizes = [int(text) for text in os.environ.get("BENCH_DEPLOYMENTS", "5000,50000").split(",")]
    lines = []
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder, ClickHouseProcess(Path(folder)) as server:
        for count in sizes:
            trail = Trail(server.url)
            try:
                fill(trail.client, trail.database, count)
                env = {
                    "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
                    "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database,
                }
                made = report(env, Path(folder) / "report.md")
                verdicts = _verdicts(trail.client, trail.database)
            finally:
                trail.close()
            if made.code:
                raise RuntimeError(f"the report of {count} deployments ended with {made.code}: {made.stderr[-500:]}")
            size = made.path.stat().st_size / 1e6
            lines.append((f"{count:,} deployments", f"{made.seconds:.1f} s, {count / made.seconds:,.0f} a second, "
                          f"{made.peak_mb:.0f} MB at most, {size:.0f} MB of Markdown"))  # fmt: skip
            lines += [(f"{count:,} deployments, {name}", said) for name, said in verdicts]
    return lines


def _verdicts(client: Client, database: str) -> list[tuple[str, str]]:
    lines = []
    for name, where in (("all verdicts", "1"), ("verdicts of one deployment", "deployment_id = 'd-77'")):
        every, stand = (
            _asked(client, f"SELECT sum(length(explanation)) FROM {database}.{table} WHERE {where}")
            for table in ("findings", "standing_findings")
        )
        lines.append((name, f"{stand:.0f} ms for those that stand, ×{stand / every:.1f} of what all take"))
    return lines


def _asked(client: Client, question: str) -> float:
    """Milliseconds, the least of five."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        client.query(question)
        took.append((time.perf_counter() - began) * 1000)
    return min(took)
