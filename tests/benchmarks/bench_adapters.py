"""What an adapter costs: microseconds from a parsed payload to canonical values, for every golden case."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

from deploytrail.adapters.base import AdapterError
from support.golden import adapted, cases, payload_of

SHARED = Path(__file__).parents[3] / "shared"
ROUNDS, CALLS = 5, 200


def run() -> list[tuple[str, str]]:
    """A row a source: the median over its cases, and its slowest case."""
    by_source: dict[str, dict[str, float]] = defaultdict(dict)
    for path in cases():
        case = json.loads(path.read_text("utf-8"))
        try:
            payload = payload_of(case, SHARED)
        except FileNotFoundError:
            continue
        if case.get("records"):
            by_source[path.parent.name][path.stem] = _micros(path.parent.name, case, payload)
    rows = []
    for source, found in sorted(by_source.items()):
        slowest = max(found, key=lambda name: found[name])
        rows.append((source, f"{statistics.median(found.values()):.0f} µs; {slowest}: {found[slowest]:.0f} µs"))
    every = [micros for found in by_source.values() for micros in found.values()]
    rows.append(("all sources", f"{statistics.median(every):.0f} µs, median of {len(every)} payloads"))
    return rows


def _micros(source: str, case: dict[str, object], payload: object) -> float:
    """The quickest of ROUNDS: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            try:
                adapted(source, case, payload)
            except AdapterError:
                break
        best = min(best, (time.perf_counter() - began) / CALLS)
    return best * 1e6
