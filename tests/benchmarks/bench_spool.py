"""How fast a spool is read back: after a crash, and after an hour without a network."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from deploytrail._backlog import Backlog, Position, producers
from deploytrail._spool import EVENT, Spool, frame
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType

EVENTS, REPEATS = 20_000, 5


def run() -> list[tuple[str, str]]:
    """Rows of (what was measured, the figure); medians of REPEATS runs."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        spool = Spool(f"{folder}/spool", 1 << 30, 2 * EVENTS)
        began = time.perf_counter()
        for _ in range(EVENTS):
            spool.append(_event)
        stored = (time.perf_counter() - began) / EVENTS
        spool.close()
        (producer,) = producers(Path(spool.folder))
        size = sum(path.stat().st_size for path in producer.glob("*.segment"))
        opened, read, decoded = [], [], []
        for _ in range(REPEATS):
            last = max(producer.glob("*.segment"))
            with last.open("ab") as torn:  # as a crash in the midst of an append leaves it
                torn.write(frame(EVENT, 1, b"x" * 300)[:200])
            began = time.perf_counter()
            again = Spool(f"{folder}/spool", 1 << 30, 2 * EVENTS)
            again.append(_event)
            opened.append(time.perf_counter() - began)
            again.close()
            began = time.perf_counter()
            backlog = Backlog(producer)
            count = 0
            while entries := backlog.read(5000, 8 << 20):
                count += len(entries)
                backlog.position = Position(*entries[-1].behind)
            read.append(time.perf_counter() - began)
            assert count >= EVENTS, count
            began = time.perf_counter()
            for entry in Backlog(producer).read(EVENTS, 1 << 40):
                decode(entry.payload)
            decoded.append((time.perf_counter() - began) / EVENTS)
    read_s = statistics.median(read)
    return [
        ("stored, each fsynced", f"{1 / stored:,.0f} events/s by one process"),
        (
            "first append to a spool left by a crash",
            f"{statistics.median(opened) * 1e3:.0f} ms behind {EVENTS:,} events",
        ),
        ("recovery: read and checked", f"{EVENTS / read_s:,.0f} events/s, {size / read_s / 1e6:.0f} MB/s"),
        ("the same, decoded as a gateway's batch is", f"{1 / statistics.median(decoded):,.0f} events/s"),
    ]


def _event(producer: str, seq: int) -> bytes:
    value = {
        "event_id": uuid7(),
        "event_type": "progressed",
        "deployment_id": "checkout-42",
        "occurred_at": time.time_ns() // 1000,
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "producer_id": producer,
        "producer_seq": seq,
        "version": "4.2.0",
        "commit_sha": "a" * 40,
        "build_url": "https://ci.example.com/builds/1234",
    }
    return encode(RecordType.DEPLOYMENT_EVENT, value)
