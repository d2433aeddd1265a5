"""Plans the day in true time: which deployments, which alerts, and nothing that spoils an answer.

What is planted comes first and reserves its surroundings; ordinary deployments fill the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import time
from math import log
from random import Random
from typing import Any

from deploytrail_schemas.ids import name_based_id

from deploytrail_local.simulation.truth import Alert
from deploytrail_local.simulation.world import (
    DAY,
    FREEZE_MINUTES,
    FREEZE_START,
    FROZEN_SERVICES,
    HOUR,
    MINUTE,
    PEOPLE,
    PRODUCERS,
    REGIONS,
    SECOND,
    SERVICES,
    SLOW_PRODUCER,
    Region,
    Service,
)

ORDINARY = 330
# Where an alert's cause must be clear, nothing related changes within this much before it.
QUIET_BEFORE, QUIET_AFTER = 70 * MINUTE, 3 * MINUTE


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a deployment, in true time. `late` is how long it waits in the spool."""

    event_type: str
    at: int
    cohort: str = ""
    weight: float | None = None
    late: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """One deployment to be reported."""

    id: str
    service: Service
    region: str
    environment: str
    producer: str
    started_at: int
    finished_at: int | None
    outcome: str
    steps: tuple[Step, ...]
    facts: dict[str, Any]  # what every event of it says besides
    undone_at: int | None = None

    @property
    def busy_until(self) -> int:
        """When it stops changing what runs."""
        return max(self.undone_at or 0, self.finished_at or self.started_at + HOUR)


@dataclass(frozen=True, slots=True)
class Reserved:
    """No deployment of these services may run there then."""

    region: str
    environment: str
    services: frozenset[str]
    since: int
    until: int


class Planner:
    """Collects the day's plans."""

    def __init__(self, rng: Random, seed: int) -> None:
        self.rng, self.seed = rng, seed
        self.opens_at = REGIONS["eu-west-1"].at(time(1))  # midnight UTC: Berlin is one hour ahead
        self.closes_at = self.opens_at + 24 * HOUR
        self.plans: dict[str, Plan] = {}
        self.alerts: list[Alert] = []
        self.planted: dict[str, set[str]] = {}
        self.reserved: list[Reserved] = []
        self._numbers = iter(rng.sample(range(1000, 10_000), 2000))
        self._versions: dict[str, int] = {name: rng.randrange(3, 90) for name in SERVICES}

    def plant(self, kind: str, *plans: Plan) -> None:
        """Note what a plan was planted for."""
        self.planted.setdefault(kind, set()).update(plan.id for plan in plans)

    def deploy(
        self,
        service: str,
        region: str,
        at: int,
        *,
        minutes: float | None = None,
        environment: str = "production",
        outcome: str = "succeeded",
        producer: str = "",
        start_late: int = 0,
        end_late: int = 0,
        steps: tuple[Step, ...] | None = None,
        **facts: Any,
    ) -> Plan:
        """Add a deployment that begins at `at`; `minutes` None: as long as they usually take."""
        found = SERVICES[service]
        length = int((self._usual_minutes(found) if minutes is None else minutes) * MINUTE)
        ended = outcome in ("succeeded", "failed", "cancelled")
        finished = at + length if ended else None
        if steps is None:
            end = (Step(outcome, finished, late=end_late, more=self._end(outcome)),) if finished is not None else ()
            steps = (Step("started", at, late=start_late), *end)
        number = next(self._numbers)
        plan = Plan(
            id=f"{service}-{REGIONS[region].short}-{number}",
            service=found,
            region=region,
            environment=environment,
            producer=producer or self._producer(region),
            started_at=at,
            finished_at=finished,
            outcome=outcome,
            steps=steps,
            facts=self._facts(found, number, environment) | facts,
        )
        self.plans[plan.id] = plan
        return plan

    def alert(self, service: str, region: str, at: int, guilty: str, *, clear: bool = True) -> Alert:
        """Add a firing alert of production; `guilty` "" where no deployment caused it."""
        number = len(self.alerts) + 1
        signal_id = name_based_id("simulation", str(self.seed), "alert", str(number))
        found = Alert(signal_id, at, region, "production", service, guilty, clear)
        self.alerts.append(found)
        self.reserve(region, SERVICES[service].related, at - QUIET_BEFORE, at + QUIET_AFTER)
        return found

    def reserve(self, region: str, services: frozenset[str], since: int, until: int) -> None:
        """Keep ordinary deployments out of a place in production."""
        self.reserved.append(Reserved(region, "production", services, since, until))

    def fill(self) -> None:
        """Ordinary deployments around all that was planted."""
        added = 0
        while added < ORDINARY:
            region = self.rng.choices(list(REGIONS.values()), (5, 4, 3))[0]
            environment = self.rng.choices(("production", "staging"), (3, 2))[0]
            service = self.rng.choice(list(SERVICES.values()))
            at = self._rush_hour(region, environment)
            minutes = self._usual_minutes(service)
            until = at + int(minutes * MINUTE)
            if self._is_free(service, region.name, environment, at, until):
                self._ordinary(service, region, environment, at, minutes)
                added += 1

    def _ordinary(self, service: Service, region: Region, environment: str, at: int, minutes: float) -> None:
        outcome = self.rng.choices(("succeeded", "failed", "cancelled"), (94, 4, 2))[0]
        kind = self.rng.choices(
            ("release", "configuration_change", "database_migration", "hotfix", "feature_flag"), (70, 14, 5, 7, 4)
        )[0]
        start_late = 0
        if self.rng.random() < 0.06:  # its start waits in the spool until after its end was received
            start_late = int(minutes * MINUTE) + self.rng.randrange(10, 150) * SECOND
        elif self.rng.random() < 0.03:
            start_late = self.rng.randrange(5, 90) * SECOND
        plan = self.deploy(
            service.name,
            region.name,
            at,
            minutes=minutes,
            environment=environment,
            outcome=outcome,
            start_late=start_late,
            kind=kind,
        )
        if start_late > minutes * MINUTE:
            self.plant("disordered", plan)

    def _is_free(self, service: Service, region: str, environment: str, since: int, until: int) -> bool:
        if until > self.closes_at - 50 * MINUTE or since < self.opens_at:
            return False
        if environment == "production":
            if self._window_forbids(service, REGIONS[region], since):
                return False
            reserved = any(
                service.name in r.services and r.region == region and since <= r.until and until >= r.since
                for r in self.reserved
            )
            if reserved:
                return False
        return not any(
            p.service is service
            and (p.region, p.environment) == (region, environment)
            and since - 2 * MINUTE <= p.busy_until
            and until + 2 * MINUTE >= p.started_at
            for p in self.plans.values()
        )

    def _window_forbids(self, service: Service, region: Region, at: int) -> bool:
        start, end = region.window()
        if not start + 2 * MINUTE <= at <= end - 2 * MINUTE:
            return True
        # London keeps the time of UTC on that day.
        frozen = self.opens_at + FREEZE_START.hour * HOUR
        in_freeze = frozen - 2 * MINUTE <= at <= frozen + (FREEZE_MINUTES + 2) * MINUTE
        return service.name in FROZEN_SERVICES and in_freeze

    def _rush_hour(self, region: Region, environment: str) -> int:
        peak = self.rng.choices((time(10), time(14, 30), None), (5, 4, 3 if environment == "staging" else 1))[0]
        if peak is None:
            return self.opens_at + self.rng.randrange(24 * HOUR // SECOND) * SECOND
        spread = self.rng.gauss(0, 75)
        return region.at(peak, DAY) + int(spread * MINUTE)

    def _usual_minutes(self, service: Service) -> float:
        drawn = self.rng.lognormvariate(log(service.median_minutes), 0.35)
        return min(max(drawn, 0.5), 0.75 * service.expected_minutes)

    def _producer(self, region: str) -> str:
        usual = [p.id for p in PRODUCERS.values() if p.region == region and p.id != SLOW_PRODUCER]
        if region == "eu-west-1" and self.rng.random() < 0.12:
            return SLOW_PRODUCER
        return self.rng.choice(usual)

    def _facts(self, service: Service, number: int, environment: str) -> dict[str, Any]:
        build = self._versions[service.name]
        if self.rng.random() < 0.6:
            self._versions[service.name] += 1
        commit = f"{self.rng.getrandbits(160):040x}"
        facts: dict[str, Any] = {
            "tier": service.tier,
            "team": service.team,
            "kind": "release",
            "strategy": "rolling",
            "version": f"4.{build}.{number % 7}",
            "previous_version": f"4.{build - 1}.0",
            "commit_sha": commit,
            "artifact_digest": f"sha256:{self.rng.getrandbits(256):064x}",
            "repository": f"https://git.example/{service.team}/{service.name}",
            "ref": "refs/heads/main",
            "build_id": str(900_000 + number),
            "build_number": str(number),
            "deployer": self.rng.choice(PEOPLE),
            "deployer_type": "person",
        }
        if environment == "production":
            facts["change_ticket"] = f"CHG{30_000 + number:07d}"
            facts["feature_ticket"] = f"{service.team.upper()}-{number % 400}"
        return facts

    def _end(self, outcome: str) -> dict[str, Any]:
        if outcome == "failed":
            return {"exit_code": 1, "error": self.rng.choice(("readiness probe failed", "migration timed out"))}
        return {"exit_code": 0} if outcome == "succeeded" else {}

    def undo(self, plan: Plan, at: int, minutes: float) -> Plan:
        """Roll a deployment back from `at` on."""
        rollback = self.deploy(
            plan.service.name,
            plan.region,
            at,
            minutes=minutes,
            environment=plan.environment,
            producer=plan.producer,
            kind="rollback",
            rollback_of=plan.id,
            version=plan.facts["previous_version"],
            previous_version=plan.facts["version"],
            justification=f"rolls back {plan.id}",
        )
        self.plans[plan.id] = replace(plan, outcome="rolled_back", undone_at=rollback.finished_at)
        self.plant("rollbacks", rollback)
        return rollback

    def supersede(self, plan: Plan, newer: Plan) -> None:
        """Note that a newer deployment took the place of one of whose end nobody tells."""
        assert newer.finished_at is not None
        self.plans[plan.id] = replace(plan, finished_at=newer.finished_at)
