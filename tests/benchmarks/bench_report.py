"""The audit report of a month of very many deployments: time and peak memory, and how they grow.

BENCH_DEPLOYMENTS: the sizes, one after the other (default 5000,50000).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
            finally:
                trail.close()
            if made.code:
                raise RuntimeError(f"the report of {count} deployments ended with {made.code}: {made.stderr[-500:]}")
            size = made.path.stat().st_size / 1e6
            lines.append((f"{count:,} deployments", f"{made.seconds:.1f} s, {count / made.seconds:,.0f} a second, "
                          f"{made.peak_mb:.0f} MB at most, {size:.0f} MB of Markdown"))  # fmt: skip
    return lines
