"""Records into durable segments of the archive (Avro, SHA-256, zstandard, fsync), beside the plain way, in one run."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path

import fastavro
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.archive.raw_records import SCHEMA, Record, salts
from deploytrail_sinks.archive.retention import RetentionClass
from deploytrail_sinks.archive.sequence import Sequence
from deploytrail_sinks.archive.store import LocalFolder
from support.values import NOON, event

RECORDS, REPEATS, TARGET = 50_000, 5, 150_000


def run() -> list[tuple[str, str]]:
    """Records a second of both, alternating, and their ratio."""
    fresh, records = salts(), []
    for number in range(RECORDS):
        headers = (("dt-sent-at", b"1795600000000123"),)
        records.append(Record(number, NOON // 1000 + number, 1, b"checkout", _value(number), headers, next(fresh)))
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(REPEATS + 1):
        with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
            began = time.perf_counter()
            sequence = Sequence(LocalFolder(Path(folder)), "deploytrail.events", 1, RetentionClass.PRODUCTION)
            sequence.begin(0)
            for record in records:
                sequence.add(record)
            sequence.close_segment(RECORDS, 0)
            ours.append(RECORDS / (time.perf_counter() - began))
        began = time.perf_counter()
        fastavro.writer(io.BytesIO(), SCHEMA, map(_plain, records), codec="zstandard")
        plain.append(RECORDS / (time.perf_counter() - began))
    ratio = statistics.median(a / b for a, b in zip(ours[1:], plain[1:], strict=True))
    best, middle = max(ours), statistics.median(ours[1:])
    verdict = "met" if middle >= TARGET else f"missed by {TARGET - middle:,.0f}"
    size = sum(len(record.value or b"") for record in records) / RECORDS
    return [
        (f"records/s into durable segments, {size:.0f} bytes each", f"{middle:,.0f} (target {TARGET:,}: {verdict})"),
        ("the best of the runs", f"{best:,.0f}"),
        ("records/s of a general writer of Avro, in memory, without digest", f"{statistics.median(plain[1:]):,.0f}"),
        ("ratio", f"{ratio:.1f}"),
    ]


def _value(number: int) -> bytes:
    value = event(
        ("started", "progressed", "succeeded")[number % 3],
        NOON + number * 1000,
        deployment_id=f"checkout-{number // 3}",
        service=f"service-{number % 200}",
        version=f"4.{number % 50}.0",
        commit_sha=f"{number:040x}",
        artifact_digest=f"sha256:{number:064x}",
        repository="acme/checkout",
        build_system="github_actions",
        build_url=f"https://ci.example/acme/checkout/runs/{number}",
        deployer=f"deployer-{number % 30}",
        tags={"sprint": str(number % 20), "feature": f"SHOP-{number % 999}"},
    )
    return encode(RecordType.DEPLOYMENT_EVENT, value)


def _plain(record: Record) -> dict[str, object]:
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": record.timestamp_type,
        "key": record.key,
        "value": record.value,
        "headers": [{"name": name, "value": value} for name, value in record.headers],
        "salt": record.salt,
    }
