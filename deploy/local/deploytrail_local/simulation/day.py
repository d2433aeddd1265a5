"""From the plan of a day to the lines that a company's systems would have left of it.

Each line is a JSON object as `deploytrail backfill` reads it: kind, sent_at by the reporter's own
clock, received_at by ours, the echo of an earlier record where the reporter knows one, the value.
Lines stand in the order in which they were received; some are repeated, some out of order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from random import Random
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import format_instant

from deploytrail_local.simulation.plan import Plan, Planner
from deploytrail_local.simulation.planted import plant
from deploytrail_local.simulation.truth import Alert, Deployment, GroundTruth
from deploytrail_local.simulation.world import (
    HOUR,
    MINUTE,
    MONITORING,
    OBSERVERS,
    PRODUCERS,
    REGIONS,
    SECOND,
    SERVICE_DESK,
    SERVICES,
    SLOW_PRODUCER,
    Producer,
    Region,
)

Line = dict[str, Any]
_ID_FIELDS = {
    "deployment": "event_id",
    "signal": "signal_id",
    "approval": "approval_id",
    "observation": "observation_id",
}
REPEATED = 0.05  # share of lines that were sent again


@dataclass(frozen=True, slots=True)
class _Message:
    """One record on its way, in true time."""

    kind: str
    value: dict[str, Any]  # without what only its sending decides
    producer: Producer
    occurred: int
    sent: int
    received: int
    acknowledged: int


def simulate(seed: int) -> tuple[list[Line], GroundTruth]:
    """The lines of a day, in the order of their receipt, and what truly happened."""
    rng = Random(f"deploytrail-{seed}")
    planner = Planner(rng, seed)
    plant(planner)
    planner.fill()
    messages = [m for p in planner.plans.values() for m in _deployment(rng, seed, p)]
    messages += [m for alert in planner.alerts for m in _alert(rng, seed, alert)]
    messages += _health_checks(rng, seed, planner)
    messages += _approvals(rng, seed, planner)
    messages += _observations(rng, seed, planner)
    lines = _lines(rng, messages)
    repeats = _repeats(rng, lines, planner.closes_at)
    every = sorted([*lines, *repeats], key=lambda timed: timed[0])
    truth = _truth(seed, planner, [line for _, line in every], len(repeats))
    return [line for _, line in every], truth


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """The lines as a file of JSON lines."""
    path.write_text("".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines))


def _message(
    rng: Random, kind: str, value: dict[str, Any], producer: Producer, occurred: int, late: int = 0
) -> _Message:
    sent = occurred + late + rng.randrange(4_000, 40_000)
    way = min(rng.lognormvariate(log(producer.delay_ms), 0.6), 4_000) * 1000
    back = min(rng.lognormvariate(log(producer.delay_ms), 0.4), 4_000) * 1000
    received = sent + int(max(way, 15_000))
    return _Message(kind, value, producer, occurred, sent, received, received + int(max(back, 5_000)))


def _deployment(rng: Random, seed: int, plan: Plan) -> list[_Message]:
    producer = PRODUCERS[plan.producer]
    boot = str(name_based_id("simulation", str(seed), "boot", producer.id))
    found = []
    for step in plan.steps:
        value: dict[str, Any] = {
            "event_id": name_based_id("simulation", str(seed), plan.id, step.event_type, step.cohort),
            "event_type": step.event_type,
            "deployment_id": plan.id,
            **_place(producer, plan),
            **plan.facts,
            "build_system": producer.build_system,
            "source": producer.source,
            **step.more,
        }
        if step.cohort:
            value |= {"cohort": step.cohort, "cohort_weight": step.weight}
        if producer.monotonic:
            value |= {"monotonic_ns": (step.at - _BOOTED) * 1000, "boot_id": boot, "clock_state": "synchronised"}
        found.append(_message(rng, "deployment", value, producer, step.at, step.late))
    return found


_BOOTED = REGIONS["eu-west-1"].at(REGIONS["eu-west-1"].opens) - 60 * HOUR


def _place(producer: Producer, plan: Plan) -> dict[str, str]:
    aliased = producer.service_alias and plan.service.aliases
    return {
        "region": plan.region,
        "environment": producer.environment_names.get(plan.environment, plan.environment),
        "service": plan.service.aliases[0] if aliased else plan.service.name,
    }


def _alert(rng: Random, seed: int, alert: Alert) -> list[_Message]:
    producer = MONITORING[alert.region]
    title = rng.choice(("HighErrorRate", "LatencyP99High", "QueueBacklog", "SaturationHigh"))
    severity = "critical" if SERVICES[alert.service].tier == "1" else "error"
    value = {
        "signal_id": alert.signal_id,
        "signal_type": "alert_firing",
        "region": alert.region,
        "environment": alert.environment,
        "service": alert.service,
        "source": producer.source,
        "fingerprint": name_based_id("simulation", str(seed), "fingerprint", alert.signal_id)[:16].replace("-", ""),
        "severity": severity,
        "title": title,
        "started_at": format_instant(alert.at + producer.offset),
        "labels": {"alertname": title, "severity": severity, "service": alert.service},
    }
    ended = alert.at + rng.randrange(6 * MINUTE, 25 * MINUTE)
    resolved = value | {
        "signal_id": name_based_id("simulation", str(seed), "resolved", alert.signal_id),
        "signal_type": "alert_resolved",
        "ended_at": format_instant(ended + producer.offset),
    }
    return [
        _message(rng, "signal", value, producer, alert.at),
        _message(rng, "signal", resolved, producer, ended),
    ]


def _health_checks(rng: Random, seed: int, planner: Planner) -> list[_Message]:
    """Of the most important services, every two hours."""
    found = []
    for region in REGIONS.values():
        for service in SERVICES.values():
            if service.tier != "1":
                continue
            for number in range(12):
                at = planner.opens_at + number * 2 * HOUR + rng.randrange(0, 60 * SECOND)
                value = {
                    "signal_id": name_based_id(
                        "simulation", str(seed), "health", region.name, service.name, str(number)
                    ),
                    "signal_type": "health_check",
                    "region": region.name,
                    "environment": "production",
                    "service": service.name,
                    "source": "blackbox",
                    "severity": "info",
                    "healthy": True,
                    "value": round(rng.lognormvariate(log(0.08), 0.3), 4),
                }
                found.append(_message(rng, "signal", value, MONITORING[region.name], at))
    return found


def _approvals(rng: Random, seed: int, planner: Planner) -> list[_Message]:
    """Of releases to production of the most important services."""
    found = []
    for plan in planner.plans.values():
        if plan.environment != "production" or plan.service.tier != "1" or plan.facts["kind"] == "rollback":
            continue
        at = max(plan.started_at - rng.randrange(20 * MINUTE, 3 * HOUR), planner.opens_at)
        value = {
            "approval_id": name_based_id("simulation", str(seed), "approval", plan.id),
            "approval_type": "approved",
            "region": plan.region,
            "environment": plan.environment,
            "service": plan.service.name,
            "deployment_id": plan.id,
            "artifact_digest": plan.facts["artifact_digest"],
            "change_ticket": plan.facts["change_ticket"],
            "ticket_state": "Approved",
            "approver": rng.choice(("olga", "pedro", "quinn")),
            "approver_role": "change manager",
            "justification": "reviewed and tested",
            "source": SERVICE_DESK.source,
        }
        found.append(_message(rng, "approval", value, SERVICE_DESK, at))
    return found


def _observations(rng: Random, seed: int, planner: Planner) -> list[_Message]:
    """What ran at noon and when the day closed; the very last is received at the close."""
    found = []
    for at in (planner.opens_at + 12 * HOUR, planner.closes_at - 20 * SECOND):
        for region in REGIONS.values():
            for service in SERVICES.values():
                value = {
                    "observation_id": name_based_id(
                        "simulation", str(seed), "observed", region.name, service.name, str(at)
                    ),
                    "observation_type": "running",
                    "region": region.name,
                    "environment": "production",
                    "service": service.name,
                    "cluster": f"{region.short}-main",
                    "version": _running_version(planner, service.name, region, at),
                    "source": OBSERVERS[region.name].source,
                }
                seen = at + rng.randrange(0, 10 * SECOND)
                found.append(_message(rng, "observation", value, OBSERVERS[region.name], seen))
    last = max(found, key=lambda m: m.received)
    found.remove(last)
    return [*found, replace(last, received=planner.closes_at, acknowledged=planner.closes_at)]


def _running_version(planner: Planner, service: str, region: Region, at: int) -> str:
    done = [
        p
        for p in planner.plans.values()
        if (p.service.name, p.region, p.environment, p.outcome) == (service, region.name, "production", "succeeded")
        and (p.finished_at or at) < at
    ]
    return str(max(done, key=lambda p: p.finished_at or 0).facts["version"]) if done else "4.0.0"


def _lines(rng: Random, messages: list[_Message]) -> list[tuple[int, Line]]:
    """The lines with their true time of receipt; each producer counts and echoes in the order of its sending."""
    by_producer: dict[str, list[_Message]] = {}
    for message in sorted(messages, key=lambda m: (m.sent, m.received)):
        by_producer.setdefault(message.producer.id, []).append(message)
    found = []
    for sent in by_producer.values():
        for number, message in enumerate(sent, 1):
            own = message.producer.offset
            value = message.value | {
                "producer_id": message.producer.id,
                "occurred_at": format_instant(message.occurred + own),
            }
            if message.kind == "deployment":
                value["producer_seq"] = number
            line: Line = {
                "kind": message.kind,
                "sent_at": format_instant(message.sent + own),
                "received_at": format_instant(message.received),
            }
            known = [m for m in sent[: number - 1] if m.acknowledged < message.sent]
            if message.producer.echoes and known and rng.random() < 0.6:
                heard = max(known, key=lambda m: m.acknowledged)
                line["echo"] = [
                    format_instant(heard.sent + own),
                    format_instant(heard.received),
                    format_instant(heard.acknowledged + own),
                ]
            found.append((message.received, line | {"value": value}))
    return found


def _repeats(rng: Random, lines: list[tuple[int, Line]], closes_at: int) -> list[tuple[int, Line]]:
    """Records whose acknowledgement was lost, sent again as they were."""
    found = []
    for received, line in sorted(lines, key=lambda timed: timed[0]):
        later = rng.randrange(20 * SECOND, 25 * MINUTE)
        if rng.random() < REPEATED and received + later < closes_at:
            producer = _producer(line["value"]["producer_id"])
            again = {name: line[name] for name in ("kind", "value")}
            times = {
                "sent_at": format_instant(received + later - 80_000 + producer.offset),
                "received_at": format_instant(received + later),
            }
            found.append((received + later, {"kind": line["kind"], **times, **again}))
    return found


def _producer(name: str) -> Producer:
    return {p.id: p for p in (*PRODUCERS.values(), *MONITORING.values(), *OBSERVERS.values(), SERVICE_DESK)}[name]


def _truth(seed: int, planner: Planner, lines: list[Line], duplicates: int) -> GroundTruth:
    planted = {kind: frozenset(ids) for kind, ids in planner.planted.items()}
    (looks_outside,) = planted["looks_outside"]
    (looks_inside,) = planted["looks_inside"]
    return GroundTruth(
        seed=seed,
        opens_at=planner.opens_at,
        closes_at=planner.closes_at,
        deployments={
            p.id: Deployment(
                p.id,
                p.service.name,
                p.region,
                p.environment,
                p.producer,
                p.facts["deployer"],
                p.started_at,
                p.finished_at,
                p.outcome,
                p.undone_at,
            )
            for p in planner.plans.values()
        },
        alerts={alert.signal_id: alert for alert in planner.alerts},
        outside_window=planted["outside_window"],
        uncertain_window=planted["uncertain_window"],
        overdue=planted["overdue"],
        overdue_taken_back=planted["overdue_taken_back"],
        slow=frozenset(p.id for p in planner.plans.values() if p.producer == SLOW_PRODUCER),
        canaries=planted["canaries"],
        rollbacks=planted["rollbacks"],
        looks_outside=looks_outside,
        looks_inside=looks_inside,
        ids={
            kind: frozenset(line["value"][name] for line in lines if line["kind"] == kind)
            for kind, name in _ID_FIELDS.items()
        },
        lines=len(lines),
        duplicates=duplicates,
        disordered=planted["disordered"],
    )
