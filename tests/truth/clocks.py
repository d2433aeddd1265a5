"""Simulated producers whose clocks are wrong, and what an intake app sees of them: true times are known.

Written before the model that is measured on it, and frozen: a test holds its output by digest. It is made of
what hosts do and models like to forget. Oscillators follow the warmth of the day; time daemons step, or slew
faster than any crystal drifts; machines sleep and wake with a stale clock; hosts are sure of an NTP server that
is wrong; networks are slower one way than the other, and now and then by seconds; brokers and gateways differ
by milliseconds; records wait in a spool for hours while the clock is set; most producers speak a few times only.

All times are µs since the epoch; the true time scale is UTC.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field
from random import Random

MS, SECOND, MINUTE = 1000, 1_000_000, 60_000_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
START = 1_788_739_200_000_000  # 2026-09-07T00:00:00Z, a Monday
DAYS = 4
# Change windows of the scenario: 09:00 to 17:00 UTC, every day. Many starts lie close to their edges, as in life.
OPENS, CLOSES = 9, 17
PRODUCERS = 14  # of each group; five times as many of those that say little
BATCH = 500


@dataclass(frozen=True)
class Group:
    """A kind of producer: how its clock, its way to us and its reports behave."""

    name: str
    clock: str  # good, off, little, hours, stepped, slewed, resumed, ntp, ntp_wrong, vendor
    way: str = "mixed"  # lan, wan, heavy, mixed
    echo: bool = True
    monotonic: bool = True
    few: bool = False  # 1 to 5 events in all
    spools: bool = False
    says_sent: bool = True


GROUPS = (
    Group("good", "good"),
    Group("good, heavy delays", "good", "heavy"),
    Group("good, no echo", "good", echo=False),
    Group("skewed", "off"),
    Group("skewed, heavy delays", "off", "heavy"),
    Group("skewed, few events", "off", few=True),
    Group("skewed, no echo", "off", echo=False),
    Group("skewed, no echo, few events", "off", echo=False, few=True),
    Group("skewed, no monotonic clock", "off", monotonic=False),
    Group("hours off", "hours"),
    Group("up to 10 s off", "little"),
    Group("stepped", "stepped"),
    Group("stepped, no monotonic clock", "stepped", monotonic=False),
    Group("stepped, neither", "stepped", echo=False, monotonic=False),
    Group("slewed", "slewed"),
    Group("resumed from sleep", "resumed"),
    Group("spools for hours", "off", spools=True),
    Group("spools, is stepped", "stepped", spools=True),
    Group("knows NTP", "ntp", echo=False),
    Group("knows NTP, few events", "ntp", echo=False, few=True),
    Group("trusts a wrong NTP server", "ntp_wrong"),
    Group("webhooks", "vendor", echo=False, monotonic=False, says_sent=False),
    Group("webhooks, own server skewed", "off", echo=False, monotonic=False, says_sent=False),
)


@dataclass(frozen=True)
class Seen:
    """What intake sees of one event. `echo`: sent, received, acknowledged; `ntp`: offset, uncertainty."""

    group: str
    producer: str
    deployment: str
    event_type: str
    occurred_at: int
    received_at: int
    sent_at: int | None
    monotonic: int | None  # the producer's monotonic clock at occurred_at, and at sent_at
    sent_monotonic: int | None
    echo: tuple[int, int, int] | None
    ntp: tuple[int, int] | None
    true_at: int

    @property
    def is_bound_on_both_sides(self) -> bool:
        """Whether its record carries what bounds the clock from above too."""
        return self.echo is not None or self.ntp is not None


@dataclass
class Clock:
    """Wall and monotonic clock of a machine. `steps`: at, by; `slews`: from, until, ppm; `sleeps`: from, until."""

    base: int
    drift_ppm: float
    warmth: float  # µs, amplitude over a day
    phase: float
    booted: int
    steps: list[tuple[int, int]] = field(default_factory=list)
    slews: list[tuple[int, int, float]] = field(default_factory=list)
    sleeps: list[tuple[int, int]] = field(default_factory=list)

    def _rate(self, at: int) -> int:
        drifted = (at - START) * self.drift_ppm / 1e6 + self.warmth * math.sin(2 * math.pi * at / DAY + self.phase)
        for since, until, ppm in self.slews:
            drifted += (min(max(at, since), until) - since) * ppm / 1e6
        return round(drifted)

    def wall(self, at: int) -> int:
        return at + self.base + self._rate(at) + sum(by for since, by in self.steps if at >= since)

    def monotonic(self, at: int) -> int:
        return at - self.booted + self._rate(at) - sum(min(max(at, a), b) - a for a, b in self.sleeps)

    def awake(self, at: int) -> int:
        """The time itself, or the end of the sleep that it falls into."""
        return next((b + SECOND for a, b in self.sleeps if a - SECOND <= at <= b + SECOND), at)


@dataclass
class _Producer:
    name: str
    group: Group
    clock: Clock
    way: str
    to_kafka: bool
    receivers: tuple[int, ...]
    offline: list[tuple[int, int]]
    ntp: tuple[int, int] | None
    events: list[tuple[int, str, str]] = field(default_factory=list)  # at, deployment, type
    left: int = 1 << 30


def simulate(seed: int, producers: int = PRODUCERS, groups: tuple[Group, ...] = GROUPS) -> list[Seen]:
    """Every event of a few days, in the order in which it was received."""
    rng = Random(seed)
    # Whoever receives is disciplined, to a few milliseconds of each other.
    receivers = tuple(round(rng.gauss(0, 2 * MS)) for _ in range(4))
    made = [_producer(rng, group, n, receivers) for group in groups for n in range(producers * (5 if group.few else 1))]
    for producer in made:
        _plan(rng, producer, made)
    seen = [record for producer in made for record in _send(rng, producer)]
    return sorted(seen, key=lambda s: (s.received_at, s.producer, s.occurred_at))


def _producer(rng: Random, group: Group, number: int, receivers: tuple[int, ...]) -> _Producer:
    clock = _clock(rng, group)
    way = group.way if group.way != "mixed" else rng.choices(("lan", "wan", "heavy"), (0.5, 0.4, 0.1))[0]
    offline = []
    if group.spools:
        for _ in range(rng.randint(1, 3)):
            since = START + rng.randrange(DAYS * DAY)
            offline.append((since, since + round(rng.uniform(0.5, 9) * HOUR)))
    ntp = None
    if group.clock in ("ntp", "ntp_wrong"):
        ntp = (round(rng.gauss(0, MS)), round(rng.uniform(3, 40) * MS))
    producer = _Producer(f"{group.name}/{number}", group, clock, way, rng.random() < 0.5, receivers, offline, ntp)
    if group.few:
        producer.left = rng.randint(1, 5)
    return producer


def _clock(rng: Random, group: Group) -> Clock:
    sign = rng.choice((-1, 1))
    base = round(rng.gauss(0, 4 * MS))
    drift = rng.gauss(0, 0.01)
    warmth = rng.uniform(0, 3 * MS)
    if group.clock in ("off", "stepped"):
        base, drift = sign * round(rng.uniform(5, 300) * SECOND), rng.uniform(-200, 200)
    elif group.clock == "hours":
        base, drift = sign * round(rng.uniform(0.2, 13) * HOUR), rng.uniform(-60, 60)
    elif group.clock == "little":
        base, drift = sign * round(10 ** rng.uniform(-1.5, 1) * SECOND), rng.uniform(-20, 20)
    elif group.clock == "ntp_wrong":
        base = sign * round(10 ** rng.uniform(-0.5, 2) * SECOND)
    elif group.clock == "slewed":
        base, drift = sign * round(rng.uniform(0.5, 8) * SECOND), rng.uniform(-30, 30)
    if group.clock in ("off", "hours", "little", "stepped", "slewed"):
        warmth = rng.uniform(0, 60 * MS)  # up to some 4 ppm on top of the mean rate
    clock = Clock(base, drift, warmth, rng.uniform(0, 6.3), START - round(rng.uniform(1, 90) * DAY))
    if group.clock == "stepped":
        for _ in range(rng.randint(1, 3)):
            at = START + rng.randrange(DAYS * DAY)
            # An NTP client sets the clock right; or somebody sets it wrong, or the zone's way.
            by = -(clock.wall(at) - at) + round(rng.gauss(0, 5 * MS))
            if rng.random() < 0.3:
                by = rng.choice((-1, 1)) * round(10 ** rng.uniform(-0.5, 3.6) * SECOND)
            insort(clock.steps, (at, by))
    elif group.clock == "slewed":
        for _ in range(rng.randint(1, 2)):
            at = START + rng.randrange(DAYS * DAY)
            off = clock.wall(at) - at
            rate = rng.choice((500.0, 500.0, 5000.0, 50_000.0))  # ppm: adjtime(2), chrony with limits of its own
            clock.slews.append((at, at + round(abs(off) / rate * 1e6), -math.copysign(rate, off)))
    elif group.clock == "resumed":
        at = START
        for _ in range(rng.randint(2, 5)):
            at += round(rng.uniform(2, 20) * HOUR)
            wakes = at + round(10 ** rng.uniform(-1.5, 1) * HOUR)
            clock.sleeps.append((at, wakes))
            if rng.random() < 0.5:  # a paused virtual machine: its clock stood still, until NTP sees it
                corrected = wakes + round(rng.uniform(0.2, 30) * MINUTE)
                clock.steps += [(wakes, -(wakes - at)), (corrected, wakes - at)]
            at = wakes + HOUR
    return clock


def _plan(rng: Random, producer: _Producer, everyone: list[_Producer]) -> None:
    """Deployments that this producer starts; somebody else ends some of them."""
    few = producer.group.few
    for number in range(rng.randint(1, 3) if few else rng.randint(6, 22)):
        if producer.left <= 0:
            return
        day = START + rng.randrange(DAYS) * DAY
        if rng.random() < 0.5:  # as early as allowed, or just before it closes
            edge = day + rng.choice((OPENS, CLOSES)) * HOUR
            started = edge + rng.choice((-1, 1)) * round(10 ** rng.uniform(0, 2.9) * SECOND)
        else:
            started = day + round(rng.uniform(5, 22) * HOUR)
        lasted = round(rng.lognormvariate(math.log(180), 1.5) * SECOND)
        if rng.random() < 0.1:
            lasted = round(rng.uniform(0.02, 3) * SECOND)  # a flag, a configuration value
        name = f"{producer.name}#{number}"
        ender = producer
        if rng.random() < 0.25:
            ender = rng.choice(everyone)
            if ender.left <= 0:
                ender = producer
        _add(producer, started, name, "started")
        if ender is producer and rng.random() < 0.3:
            _add(producer, started + lasted // 2, name, "progressed")
        _add(ender, max(started + lasted, producer.clock.awake(started) + MS), name, "succeeded")


def _add(producer: _Producer, at: int, deployment: str, event_type: str) -> None:
    if producer.left > 0:
        producer.left -= 1
        producer.events.append((producer.clock.awake(at), deployment, event_type))


def _send(rng: Random, producer: _Producer) -> list[Seen]:
    """One sender a producer: a batch is on its way at a time, the next one carries what the last one learned."""
    group, clock = producer.group, producer.clock
    waiting = sorted(producer.events)
    found: list[Seen] = []
    free, echo = 0, None
    while waiting:
        if not group.says_sent:
            at, deployment, event_type = waiting.pop(0)
            found.append(_webhook(rng, producer, at, deployment, event_type))
            continue
        ready = max(waiting[0][0] + round(rng.expovariate(1 / (30 * MS))), free)
        for since, until in producer.offline:
            if since <= ready < until:
                ready = until + round(rng.uniform(0, 30) * SECOND)
        ready = clock.awake(ready)
        batch = [event for event in waiting if event[0] <= ready][:BATCH]
        waiting = waiting[len(batch) :]
        out, back = _delays(rng, producer.way)
        receiver = rng.choice(producer.receivers)
        for index, (at, deployment, event_type) in enumerate(batch):
            sent = ready + (index * 20 if producer.to_kafka else 0)
            received = sent + out + receiver
            if producer.to_kafka:
                received -= received % MS
            found.append(
                Seen(
                    group.name,
                    producer.name,
                    deployment,
                    event_type,
                    clock.wall(at),
                    received,
                    clock.wall(sent),
                    clock.monotonic(at) if group.monotonic else None,
                    clock.monotonic(sent) if group.monotonic else None,
                    echo,
                    producer.ntp and (producer.ntp[0] + round(rng.gauss(0, 200)), producer.ntp[1]),
                    at,
                )
            )
        last = found[-1]
        free = ready + out + back + len(batch) * 20
        if group.echo:
            assert last.sent_at is not None
            echo = (last.sent_at, last.received_at, clock.wall(free))
    return found


def _webhook(rng: Random, producer: _Producer, at: int, deployment: str, event_type: str) -> Seen:
    """Told by a vendor, who cuts to seconds or milliseconds and delivers when it can."""
    unit = SECOND if producer.to_kafka else MS
    told = producer.clock.wall(at)
    late = round(rng.lognormvariate(math.log(0.8), 0.9) * SECOND)
    if rng.random() < 0.02:
        late += round(10 ** rng.uniform(1, 4) * SECOND)  # delivered again, later
    received = at + late + rng.choice(producer.receivers)
    return Seen(producer.group.name, producer.name, deployment, event_type, told - told % unit, received, None, None,
                None, None, None, at)  # fmt: skip


def _delays(rng: Random, way: str) -> tuple[int, int]:
    """There and back, µs: never the same."""
    if way == "lan":
        out, back = rng.lognormvariate(math.log(6), 0.6), rng.lognormvariate(math.log(4), 0.5)
    elif way == "wan":
        out, back = 70 + rng.lognormvariate(math.log(40), 0.7), 12 + rng.lognormvariate(math.log(10), 0.6)
    else:  # a Pareto tail: one in 100 takes some seconds, one in 1000 nearly half a minute
        out, back = (25 * min(rng.paretovariate(0.95), 1200) for _ in range(2))
    if rng.random() < 0.004:
        out += rng.uniform(1, 25) * 1000  # a broker changes hands
    return round(out * MS), round(back * MS)
