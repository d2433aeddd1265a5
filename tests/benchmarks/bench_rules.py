"""What a rule costs: microseconds a call."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from deploytrail_processors.rules import change_window, impact, lifecycle, place_state
from deploytrail_processors.rules.artefacts import Artefact
from deploytrail_processors.rules.deployed import Deployed
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_processors.rules.policies.reconciliation import Reconciliation
from deploytrail_processors.rules.schedule import schedule_of
from deploytrail_processors.rules.sightings import Sighting
from deploytrail_schemas.instants import to_micros

NOON = to_micros(datetime.fromisoformat("2026-11-02T12:00:00Z"))  # a Monday
HOUR = 3_600_000_000
SUBJECT = {"service": "shop", "team": "web", "environment": "production", "region": "eu-west-1", "tier": "1",
           "kind": "release"}  # fmt: skip
ROUNDS = 5


def run() -> list[tuple[str, str]]:
    """Change windows: few and many, all of them covering the subject, with rules that began years ago."""
    rows = []
    for count in (1, 10, 200):
        policies = windows(count)
        judge(policies, NOON)
        for what, at, seconds in (
            ("inside", NOON, 0),
            ("outside", NOON + 8 * HOUR, 0),
            ("at a weekend", NOON - 24 * HOUR, 0),
            ("clock ± 5 s", NOON, 5),
        ):
            rows.append((f"judge, {count} windows, {what}", _micros(200, partial(judge, policies, at, seconds))))
        rows.append((f"judge, {count} windows, first call", _first_call(count)))
        rows.append((f"read {count} windows", _micros(1, partial(windows, count))))
    policies = windows(10)
    schedule = schedule_of(SUBJECT, policies)
    rows.append(("next_open, 10 windows", _micros(200, partial(schedule.next_open, NOON + 8 * HOUR))))
    company, content = services(2000), deployed("s0")
    rows.append(("impact, 2,000 services, first call", _once(partial(impact.find_impact, content, {}, company)) * 1e6))
    rows.append(("impact, 2,000 services", _micros(5, partial(impact.find_impact, content, {}, company))))
    for count in (10, 1000):
        row, seen = rolled_out(count)
        judged = partial(place_state.judge, row, seen, Reconciliation(), "", now=NOON + HOUR)
        rows.append((f"reconciliation, {count} instances just replaced, of 64 deployments", _micros(1, judged)))
    return [(what, f"{micros:.0f} µs") for what, micros in rows]


def rolled_out(count: int) -> tuple[dict[str, Any], list[Sighting]]:
    """A place that was deployed every hour, and so many instances that the last one has just replaced."""
    row = place_state.new_place({"region": "eu-west-1", "environment": "production", "service": "shop"})
    for n in range(64):
        at = NOON - (63 - n) * HOUR
        one = Deployed(f"d{n}", Artefact(f"sha256:{n}", f"1.{n}"), "succeeded", at, at + HOUR // 12, at + 24 * HOUR)
        row = place_state.with_deployment(row, one.id, one)
    new, old = (Artefact("sha256:63", "1.63"),), (Artefact("sha256:62", "1.62"),)
    seen = [Sighting(f"new-{n}", "prod-1", f"new-{n}", new, NOON + n, 0, 0) for n in range(count)]
    gone = [Sighting(f"old-{n}", "prod-1", f"old-{n}", old, NOON - HOUR + n, 0, 0, NOON + n) for n in range(count)]
    return row, seen + gone


def services(count: int) -> Policies:
    """So many services, each of which needs up to four of those before it: nearly all stand on the first."""
    chance = random.Random(1)
    documents = [
        {"kind": "service", "name": f"s{n}",
         "spec": {"tier": n % 4, "depends_on": [f"s{chance.randrange(max(1, n))}" for _ in range(4)]}}
        for n in range(count)
    ]  # fmt: skip
    return Policies(tuple(read_document(document) for document in documents))


def deployed(service: str) -> lifecycle.Content:
    """A deployment in production that has begun, without cohorts."""
    empty = lifecycle.derive(lifecycle.new_facts("one"), 0, None)
    return empty | {"service": service, "environment": "production", "state": "running", "started_at": NOON}


def windows(count: int) -> Policies:
    """So many windows that began in 2010, every tenth denying, all leaving out a calendar of 200 days."""
    documents: list[dict[str, Any]] = [
        {"kind": "calendar", "name": "holidays",
         "spec": {"dates": [f"{2016 + n // 10}-{n % 10 + 1:02d}-17" for n in range(200)]}}
    ]  # fmt: skip
    for n in range(count):
        deny = n % 10 == 9
        documents.append({"kind": "change_window", "name": f"w{n}", "spec": {
            "effect": "deny" if deny else "allow", "zone": "Europe/Berlin" if n % 2 else "America/New_York",
            "start": f"2010-01-04T{2 if deny else 6 + n % 4:02d}:{n % 60:02d}", "duration": "PT1H" if deny else "PT8H",
            "rrule": "FREQ=DAILY" if n % 3 == 0 and deny else "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", "except": ["holidays"],
        }})  # fmt: skip
    return Policies(tuple(read_document(document) for document in documents))


def judge(policies: Policies, at: int, seconds: int = 0) -> change_window.Judgement:
    return change_window.judge(SUBJECT, policies, at=at, uncertainty=seconds * 1_000_000)


def _first_call(count: int) -> float:
    return min(_once(partial(judge, windows(count), NOON)) for _ in range(ROUNDS)) * 1e6


def _micros(calls: int, what: Callable[[], object]) -> float:
    """The quickest of ROUNDS: what else the machine does only ever adds."""
    return min(sum(_once(what) for _ in range(calls)) / calls for _ in range(ROUNDS)) * 1e6


def _once(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
