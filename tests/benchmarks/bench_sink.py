"""The sink's path into ClickHouse against the plain Python loop, on the same messages, in one run."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, is_instant
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.batches import Range, Row, sort
from deploytrail_sinks.clickhouse.container import layout
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.writer import Writer, connect
from support.clickhouse import ClickHouseProcess
from support.values import NOON, event

ROWS, BATCH, PARTITIONS, REPEATS = 50_000, 50_000, 4, 5
TARGET_PLAIN, TARGET_TUNED = 4.5, 2.5
_KIND = RecordType.DEPLOYMENT_EVENT
_INSTANTS = [field["name"] for field in fields(_KIND) if is_instant(field)]


def run() -> list[tuple[str, str]]:
    """Rows a second of each way, alternating, and their ratios."""
    rows = [row_of_bench(offset) for offset in range(ROWS)]
    rates: dict[str, list[float]] = {"ours": [], "plain": [], "tuned": []}
    costs: dict[str, list[float]] = {"ours": [], "plain": [], "tuned": []}
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder, ClickHouseProcess(Path(folder)) as server:
        settings = Settings(clickhouse_url=server.url)
        client = connect(settings)
        migrate(client, settings.clickhouse_database)
        writer = Writer(settings)
        for repeat in range(REPEATS + 1):
            took = {
                "ours": _timed(server, _passed_through, writer, rows, repeat),
                "plain": _timed(server, _plain_loop, client, rows, repeat),
                "tuned": _timed(server, _tuned_loop, client, rows, repeat),
            }
            if repeat:  # the first one warms up
                for way, (seconds, cpu) in took.items():
                    rates[way].append(ROWS / seconds)
                    costs[way].append(cpu / ROWS * 1e6)
        stored = client.query("SELECT count() FROM deploytrail.deployment_events").result_rows[0][0]
    if stored != 3 * ROWS * (REPEATS + 1):
        raise RuntimeError(f"{stored} rows are stored, {3 * ROWS * (REPEATS + 1)} were sent")
    return [
        ("rows/s, Avro passed through", f"{statistics.median(rates['ours']):,.0f}"),
        ("rows/s, plain Python loop (decode, rows, insert)", f"{statistics.median(rates['plain']):,.0f}"),
        ("rows/s, the same loop tuned (columns, no garbage collection)", f"{statistics.median(rates['tuned']):,.0f}"),
        ("against the plain loop", _against(rates["ours"], rates["plain"], TARGET_PLAIN)),
        ("against the tuned loop", _against(rates["ours"], rates["tuned"], TARGET_TUNED)),
        # Neighbours on the same processors change how long it takes, and hardly what it costs.
        ("CPU a row, client and ClickHouse: passed through, plain, tuned", _cpu(costs)),
    ]


def _cpu(costs: dict[str, list[float]]) -> str:
    ours, plain, tuned = (statistics.median(costs[way]) for way in ("ours", "plain", "tuned"))
    return f"{ours:.1f}, {plain:.1f} and {tuned:.1f} µs: {plain / ours:.1f} and {tuned / ours:.1f} times as much"


def _against(ours: list[float], theirs: list[float], target: float) -> str:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "met" if ratio >= target else f"missed by {target - ratio:.1f}"
    return f"{ratio:.1f} times ({min(ratios):.1f} to {max(ratios):.1f}; target {target}: {verdict})"


def row_of_bench(offset: int) -> Row:
    """A message of a company that deploys: many services, ids and digests that differ, a few tags."""
    value = event(
        ("started", "progressed", "succeeded")[offset % 3],
        NOON + offset * 1000,
        deployment_id=f"checkout-{offset // 3}",
        service=f"service-{offset % 200}",
        version=f"4.{offset % 50}.0",
        commit_sha=f"{offset:040x}",
        artifact_digest=f"sha256:{offset:064x}",
        repository="acme/checkout",
        build_system="github_actions",
        build_url=f"https://ci.example/acme/checkout/runs/{offset}",
        deployer=f"deployer-{offset % 30}",
        tags={"sprint": str(offset % 20), "feature": f"SHOP-{offset % 999}"},
    )
    return Row("deploytrail.events", 1, offset, NOON // 1000, b"checkout", encode(_KIND, value), ())


def _timed(server: ClickHouseProcess, work: Any, *arguments: Any) -> tuple[float, float]:
    """Seconds that it took, and seconds of CPU of this process and ClickHouse's."""
    processes = (psutil.Process(), psutil.Process(server.process.pid))
    began, before = time.perf_counter(), sum(sum(one.cpu_times()[:2]) for one in processes)
    work(*arguments)
    return time.perf_counter() - began, sum(sum(one.cpu_times()[:2]) for one in processes) - before


def _passed_through(writer: Writer, rows: list[Row], repeat: int) -> None:
    """As the sink does it: the ranges of a batch's partitions go in side by side."""

    def write(part: Range) -> None:
        for (kind, version), some in sort(part.rows).inserts.items():
            writer.insert(part, kind, version, some)

    with ThreadPoolExecutor(Settings().clickhouse_insert_threads) as pool:
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            # Each repeat has partitions of its own: the same token would be dropped as a repeat.
            parts = [
                Range("deploytrail.events", repeat * PARTITIONS + p, tuple(batch[p::PARTITIONS]))
                for p in range(PARTITIONS)
            ]
            list(pool.map(write, parts))


def _plain_loop(client: Client, rows: list[Row], repeat: int) -> None:
    columns = list(layout(_KIND, 1).columns)
    for begin in range(0, len(rows), BATCH):
        data = []
        for row in rows[begin : begin + BATCH]:
            _, value = decode(row.value)
            for name in _INSTANTS:
                if value[name] is not None:
                    value[name] = datetime.fromtimestamp(value[name] / 1_000_000, UTC)
            # The engine would drop a block that it has seen before.
            place = [1000 + repeat, row.offset, datetime.fromtimestamp(row.timestamp / 1000, UTC)]
            data.append(place + [value[name] for name in columns[3:]])
        client.insert("deploytrail.deployment_events", data, columns)


def _tuned_loop(client: Client, rows: list[Row], repeat: int) -> None:
    """Columns instead of rows, instants as they are, and no garbage collection meanwhile."""
    names = list(layout(_KIND, 1).columns)
    gc.collect()
    gc.disable()
    try:
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            values = [decode(row.value)[1] for row in batch]
            columns: list[list[Any]] = [
                [2000 + repeat] * len(batch),
                [row.offset for row in batch],
                [row.timestamp for row in batch],
            ]
            columns += [[value[name] for value in values] for name in names[3:]]
            client.insert("deploytrail.deployment_events", columns, names, column_oriented=True)
    finally:
        gc.enable()
