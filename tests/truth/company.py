"""A simulated company: what was changed, what alarmed, and what truly caused each alert.

Written before the correlation model, and frozen: a test holds its output by digest. It is made of what
companies do and models like to forget. Changes and alarms follow the same working hours; release trains
put many candidates into the same minutes; hotfixes and rollbacks come *after* the incident that they
answer; alarms repeat, flap and come in storms; hosts fail by themselves; some defects wait for the next
peak or show only at a neighbour; records arrive late, clocks are off, ends are missing.

All times are µs since the epoch, in UTC; the company works in UTC too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.values import MINUTE, SECOND, event, signal

HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_788_739_200_000_000  # 2026-09-07T00:00:00Z, a Monday
DAYS = 56
REGIONS = ("eu-west-1", "us-east-1")
SERVICES = 36
TRAIN_DAYS, TRAIN_HOUR = (1, 3), 10  # Tuesdays and Thursdays
NIGHTLY_HOUR = 2
PEAKS = (11.0, 15.5)
# What goes wrong, by share of the defects: see `_effects`.
MODES = (("at_once", 0.52), ("slowly", 0.20), ("at_the_peak", 0.13), ("at_a_neighbour", 0.15))
KINDS = (
    ("release", 0.60),
    ("configuration_change", 0.20),
    ("feature_flag", 0.10),
    ("database_migration", 0.06),
    ("infrastructure", 0.04),
)
RISK = {
    "release": 0.045,
    "configuration_change": 0.05,
    "feature_flag": 0.025,
    "database_migration": 0.09,
    "infrastructure": 0.08,
    "hotfix": 0.06,
    "rollback": 0.01,
}
ALERTS = ("HighErrorRate", "HighLatency", "Saturation", "QueueGrows", "PodRestarts", "DiskFills", "ProbeFails")


@dataclass(frozen=True)
class Service:
    """A service. `risk` scales how often its changes break; `noise`: alarms a day of each of its alerts by itself."""

    name: str
    depends_on: tuple[str, ...]
    changes_a_week: float
    risk: float
    noise: dict[str, float]
    provider: str  # a third party that it needs; "" for none
    nightly: str  # an alert that its nightly job raises most nights; "" for none


@dataclass(frozen=True)
class Known:
    """A record of the trail, and when it became known."""

    at: int
    value: dict[str, Any]


@dataclass(frozen=True)
class Company:
    """What a tracker sees (`events`, `signals`, in the order in which they became known) and what is true: the cause of
    each signal (a deployment id, "" for none of them) and the incident that it belongs to, by signal id."""

    services: dict[str, Service]
    events: list[Known]
    signals: list[Known]
    cause: dict[str, str]
    incident: dict[str, str]


@dataclass
class _Change:
    id: str
    service: str
    region: str
    kind: str
    begun: int
    ended: int
    size: float  # lines, of a release; 1 is small
    rollback_of: str = ""
    outcome: str = "succeeded"
    cohort_from: int = 0  # when the change reached most of its hosts


@dataclass
class _World:
    rng: Random
    services: dict[str, Service]
    dependents: dict[str, list[str]]
    changes: list[_Change] = field(default_factory=list)
    alarms: list[tuple[int, str, str, str, str, str]] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def alarm(self, at: float, region: str, service: str, alert: str, cause: str, incident: str) -> None:
        if START <= at < START + DAYS * DAY:
            self.alarms.append((int(at), region, service, alert, cause, incident))


def simulate(seed: int) -> Company:
    """The company of a seed, always the same."""
    rng = Random(f"company-{seed}")
    services = _services(rng)
    dependents: dict[str, list[str]] = {name: [] for name in services}
    for service in services.values():
        for name in service.depends_on:
            dependents[name].append(service.name)
    world = _World(rng, services, dependents)
    _plan_changes(world)
    for change in list(world.changes):
        _effects(world, change, depth=0)
    _noise(world)
    _failures_of_hosts(world)
    _failures_of_providers(world)
    _full_at_the_peak(world)
    _nightly(world)
    return _told(world)


def _services(rng: Random) -> dict[str, Service]:
    found: dict[str, Service] = {}
    for number in range(SERVICES):
        name = f"service-{number:02d}"
        # Later ones are nearer to the user and depend on earlier ones, mostly on few popular ones.
        pool = list(found)
        wanted = min(len(pool), rng.choices((0, 1, 2, 3, 4), (2, 4, 4, 2, 1))[0])
        depends = tuple(sorted({pool[int(len(pool) * rng.random() ** 2)] for _ in range(wanted)}))
        noise = {alert: rng.lognormvariate(math.log(0.02), 1.3) for alert in rng.sample(ALERTS, rng.randint(3, 6))}
        if rng.random() < 0.15:  # somebody should mend this alert
            noise[rng.choice(sorted(noise))] = rng.uniform(0.8, 3.0)
        found[name] = Service(
            name,
            depends,
            changes_a_week=rng.lognormvariate(math.log(3.0), 0.8),
            risk=rng.lognormvariate(0.0, 0.5),
            noise=noise,
            provider=rng.choice(("", "", "", "payments", "mail", "maps")),
            nightly=rng.choice((*[""] * 5, "QueueGrows", "DiskFills")),
        )
    return found


def _load(at: float) -> float:
    """How busy the company's users are, about 0.2 to 1.6."""
    hour, weekday = at % DAY / HOUR, int(at // DAY + 3) % 7
    busy = sum(math.exp(-((hour - peak) ** 2) / 6.0) for peak in PEAKS)
    return 0.2 + (1.0 if weekday < 5 else 0.45) * busy


def _working(rng: Random) -> float:
    """Some moment at which people change things."""
    while True:
        at = START + rng.random() * DAYS * DAY
        hour, weekday = at % DAY / HOUR, int(at // DAY + 3) % 7
        weight = (1.0 if weekday < 4 else 0.55 if weekday == 4 else 0.04) * (
            math.exp(-((hour - 11.0) ** 2) / 8.0) + math.exp(-((hour - 15.0) ** 2) / 7.0) + 0.02
        )
        if rng.random() < weight:
            return at


def _plan_changes(world: _World) -> None:
    rng = world.rng
    for service in world.services.values():
        for _ in range(_poisson(rng, service.changes_a_week * DAYS / 7)):
            _roll_out(world, service.name, _pick(rng, KINDS), _working(rng))
    for day in range(DAYS):
        if day % 7 in TRAIN_DAYS:
            for name in rng.sample(sorted(world.services), rng.randint(6, 12)):
                _roll_out(world, name, "release", START + day * DAY + TRAIN_HOUR * HOUR + rng.random() * 25 * MINUTE)
    # Automation changes configuration at any hour.
    for _ in range(_poisson(rng, DAYS * 1.5)):
        _roll_out(world, rng.choice(sorted(world.services)), "configuration_change", START + rng.random() * DAYS * DAY)


def _roll_out(world: _World, service: str, kind: str, at: float, rollback_of: str = "") -> list[_Change]:
    """One change in each region, the second region some time behind the first."""
    rng = world.rng
    size = rng.lognormvariate(math.log(60), 1.4) if kind in ("release", "hotfix") else rng.lognormvariate(1.0, 1.0)
    made = []
    for region in REGIONS if rng.random() < 0.8 else (rng.choice(REGIONS),):
        minutes = {"configuration_change": 2.0, "feature_flag": 0.2, "rollback": 3.0}.get(kind, 7.0)
        took = rng.lognormvariate(math.log(minutes), 0.6) * MINUTE
        change = _Change(
            f"d-{len(world.changes):05d}", service, region, kind, int(at), int(at + took), size, rollback_of
        )
        change.cohort_from = int(at + took * rng.choice((0.2, 0.5, 0.9)))
        if rng.random() < 0.04:
            change.outcome = "failed"
        world.changes.append(change)
        made.append(change)
        at += took + rng.uniform(2, 25) * MINUTE
    return made


def _effects(world: _World, change: _Change, depth: int) -> None:
    """What a change breaks, if it does; and what people do then, which is a change again."""
    rng, service = world.rng, world.services[change.service]
    odds = RISK[change.kind] * service.risk * (1.0 + 0.25 * max(math.log10(max(change.size, 1.0)) - 1.5, 0.0))
    if change.outcome == "failed":
        odds *= 3.0
    if rng.random() >= min(odds, 0.6):
        return
    mode = _pick(rng, MODES)
    incident = f"i-{change.id}"
    hurt = change.service
    if mode == "at_once":
        begun = change.cohort_from + rng.gammavariate(1.4, 2.6) * MINUTE
    elif mode == "slowly":
        begun = change.ended + min(rng.weibullvariate(70.0, 0.8), 480.0) * MINUTE
    elif mode == "at_the_peak":
        begun = _next_peak(change.ended) + rng.gauss(0, 12) * MINUTE
        begun = max(begun, change.ended + 10 * MINUTE)
    else:
        neighbours = world.dependents[change.service] or [change.service]
        hurt = rng.choice(neighbours)
        begun = change.cohort_from + rng.gammavariate(2.0, 4.0) * MINUTE
    lasting = rng.lognormvariate(math.log(45), 0.7) * MINUTE
    _hurt(world, hurt, change.region, begun, lasting, change.id, incident)
    _answer(world, change, begun, lasting, depth)


def _hurt(world: _World, service: str, region: str, begun: float, lasting: float, cause: str, incident: str) -> None:
    """Alarms of a service that is broken, again and again, and of those that depend on it."""
    rng = world.rng
    names = list(world.services[service].noise)
    alerts = rng.sample(names, min(len(names), rng.choices((1, 2, 3), (5, 3, 2))[0]))
    if rng.random() < 0.3:  # something that this service never did before
        alerts[0] = f"{rng.choice(('Panic', 'Deadlock', 'SchemaError', 'NullReference'))}{rng.randint(1, 999)}"
    for alert in alerts:
        at = begun + rng.gammavariate(1.5, 1.5) * MINUTE  # how long the alarm's own condition has to hold
        while at < begun + lasting:
            world.alarm(at, region, service, alert, cause, incident)
            at += rng.choice((rng.uniform(4, 12), 30.0, 60.0)) * MINUTE
    for name in world.dependents[service]:
        if rng.random() < 0.3:
            at = begun + rng.gammavariate(2.0, 2.5) * MINUTE
            alert = rng.choice(("HighErrorRate", "HighLatency"))
            world.alarm(at, region, name, alert, cause, incident)
            if rng.random() < 0.4:
                world.alarm(at + rng.uniform(5, 30) * MINUTE, region, name, alert, cause, incident)


def _answer(world: _World, change: _Change, begun: float, lasting: float, depth: int) -> None:
    """People roll back, or fix it with one more change; both come before the last alarms of the incident."""
    rng = world.rng
    if depth >= 2 or rng.random() < 0.25:
        return  # it went away, or they lived with it
    at = begun + rng.uniform(0.15, 0.8) * lasting
    if at >= START + DAYS * DAY:
        return
    undone = rng.random() < 0.55
    kind = "rollback" if undone else "hotfix"
    for made in _roll_out(world, change.service, kind, at, change.id if undone else "")[:1]:
        if not undone:
            _effects(world, made, depth + 1)


def _noise(world: _World) -> None:
    """Alarms that nothing caused: more at busy hours, often several in a row."""
    rng = world.rng
    for region in REGIONS:
        for service in world.services.values():
            for alert, a_day in service.noise.items():
                for _ in range(_poisson(rng, a_day * DAYS * 1.6)):
                    at = START + rng.random() * DAYS * DAY
                    if rng.random() > _load(at) / 1.6:
                        continue
                    incident = f"n-{len(world.alarms)}"
                    while True:
                        world.alarm(at, region, service.name, alert, "", incident)
                        if rng.random() > 0.35:
                            break
                        at += rng.uniform(2, 15) * MINUTE


def _failures_of_hosts(world: _World) -> None:
    """A rack, a zone, a network: many services of a region within minutes."""
    rng = world.rng
    for region in REGIONS:
        at = START + rng.expovariate(1 / (5 * DAY))
        while at < START + DAYS * DAY:
            incident = f"h-{region}-{int(at)}"
            for name in rng.sample(sorted(world.services), rng.randint(4, 14)):
                for alert in rng.sample(
                    ("ProbeFails", "PodRestarts", "HighLatency", "HighErrorRate"), rng.randint(1, 2)
                ):
                    world.alarm(at + rng.gammavariate(2.0, 1.2) * MINUTE, region, name, alert, "", incident)
            at += rng.expovariate(1 / (5 * DAY))


def _failures_of_providers(world: _World) -> None:
    """A third party is down: those that need it, in both regions."""
    rng = world.rng
    for provider in ("payments", "mail", "maps"):
        at = START + rng.expovariate(1 / (12 * DAY))
        while at < START + DAYS * DAY:
            lasting = rng.lognormvariate(math.log(40), 0.8) * MINUTE
            for service in world.services.values():
                if service.provider == provider:
                    for region in REGIONS:
                        _hurt_alone(world, service.name, region, at, lasting, f"p-{provider}-{int(at)}")
            at += rng.expovariate(1 / (12 * DAY))


def _hurt_alone(world: _World, service: str, region: str, begun: float, lasting: float, incident: str) -> None:
    at = begun + world.rng.gammavariate(1.5, 2.0) * MINUTE
    while at < begun + lasting:
        world.alarm(at, region, service, "HighErrorRate", "", incident)
        at += world.rng.uniform(10, 40) * MINUTE


def _full_at_the_peak(world: _World) -> None:
    """Some services are too small for their busiest days."""
    rng = world.rng
    for name in rng.sample(sorted(world.services), 5):
        for day in range(DAYS):
            if day % 7 < 5 and rng.random() < 0.12:
                region = rng.choice(REGIONS)
                begun = START + day * DAY + (rng.choice(PEAKS) + rng.gauss(0, 0.4)) * HOUR
                incident = f"f-{name}-{day}"
                for alert in ("Saturation", "HighLatency"):
                    world.alarm(begun + rng.gammavariate(2.0, 3.0) * MINUTE, region, name, alert, "", incident)


def _nightly(world: _World) -> None:
    rng = world.rng
    for service in world.services.values():
        if not service.nightly:
            continue
        for day in range(DAYS):
            for region in REGIONS:
                if rng.random() < 0.7:
                    at = START + day * DAY + NIGHTLY_HOUR * HOUR + rng.uniform(0, 25) * MINUTE
                    world.alarm(at, region, service.name, service.nightly, "", f"b-{service.name}-{day}-{region}")


def _told(world: _World) -> Company:
    """What becomes known of it, when, and with which errors."""
    rng = world.rng
    skew = {f"runner-{n}": rng.gauss(0, 0.4) * SECOND if n else 40 * SECOND for n in range(12)}
    events: list[Known] = []
    for change in world.changes:
        runner = rng.choice(sorted(skew))
        width = int(rng.choice((5, 50, 400))) if runner != "runner-0" else 45_000
        late = rng.uniform(10, 300) * MINUTE if rng.random() < 0.04 else rng.uniform(0.2, 3) * SECOND
        common = {
            "deployment_id": change.id,
            "service": change.service,
            "region": change.region,
            "kind": change.kind,
            "rollback_of": change.rollback_of,
            "version": f"1.{int(change.size)}.{change.id[2:]}",
            "producer_id": runner,
            "uncertainty_ms": width,
            "tags": {"lines_changed": str(int(change.size))},
        }
        steps = [("started", change.begun), (change.outcome, change.ended)]
        for kind, true_at in steps[: 1 if rng.random() < 0.03 else 2]:
            at = int(true_at + skew[runner])
            events.append(Known(int(true_at + late), event(kind, at, **common)))
    signals: list[Known] = []
    cause: dict[str, str] = {}
    incident: dict[str, str] = {}
    for at, region, service, alert, caused_by, belongs_to in sorted(world.alarms):
        told = signal(
            at=at,
            region=region,
            service=service,
            fingerprint=f"{region}/{service}/{alert}",
            title=alert,
            severity=rng.choice(("critical", "error", "warning")),
            uncertainty_ms=20,
            started_at=at,
        )
        if told["signal_id"] in cause:
            continue
        signals.append(Known(at + int(rng.uniform(0.2, 4) * SECOND), told))
        cause[told["signal_id"]], incident[told["signal_id"]] = caused_by, belongs_to
    events.sort(key=lambda known: (known.at, known.value["event_id"]))
    signals.sort(key=lambda known: (known.at, known.value["signal_id"]))
    return Company(world.services, events, signals, cause, incident)


def _next_peak(after: float) -> float:
    days = after // DAY * DAY
    return min(at for day in (0, DAY) for peak in PEAKS if (at := days + day + peak * HOUR) > after + 20 * MINUTE)


def _pick(rng: Random, shares: tuple[tuple[str, float], ...]) -> str:
    return rng.choices([name for name, _ in shares], [share for _, share in shares])[0]


def _poisson(rng: Random, mean: float) -> int:
    """A Poisson number; by its normal approximation where it is large."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
