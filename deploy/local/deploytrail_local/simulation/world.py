"""The simulated company: services, regions with their change windows, and who reports.

The policy files beside this package (`policies/*.yaml`) say the same to deploytrail; a test
compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from deploytrail_schemas.instants import to_micros

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# A Tuesday on which Europe has left daylight saving time and New York has not.
DAY = date(2026, 10, 27)
LOST_AFTER_MINUTES = 240
CORRELATION_WINDOW_MINUTES = 15
SLOW_BY = 7 * MINUTE


@dataclass(frozen=True, slots=True)
class Service:
    """A service; durations in minutes."""

    name: str
    team: str
    tier: str
    expected_minutes: float
    median_minutes: float
    depends_on: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def related(self) -> frozenset[str]:
        """Services whose change may explain an alert of this one."""
        return frozenset({self.name, *self.depends_on})


@dataclass(frozen=True, slots=True)
class Region:
    """A region and its production change window, in local time of its zone."""

    name: str
    short: str
    zone: str
    opens: time
    open_minutes: int

    def at(self, local: time, day: date = DAY) -> int:
        """The instant of a local time of that day, in microseconds."""
        return to_micros(datetime.combine(day, local, ZoneInfo(self.zone)))

    def window(self, day: date = DAY) -> tuple[int, int]:
        """Start and end of the change window that opens on that local day."""
        start = self.at(self.opens, day)
        return start, start + self.open_minutes * MINUTE


@dataclass(frozen=True, slots=True)
class Producer:
    """Who reports: its clock's offset from true time, and how its records travel."""

    id: str
    region: str
    source: str
    build_system: str
    offset: int = 0  # its clock minus true time, µs
    delay_ms: float = 120.0  # median way to us
    echoes: bool = False  # whether it learns when its records were received, and says so
    monotonic: bool = False
    environment_names: dict[str, str] = field(default_factory=dict)
    service_alias: bool = False  # whether it uses a service's first alias


SERVICES = {
    service.name: service
    for service in (
        Service("edge-gateway", "platform", "1", 30, 9),
        Service("storefront", "shop", "1", 20, 6, ("catalogue", "search")),
        Service("checkout", "shop", "1", 25, 8, ("payments", "inventory"), ("checkout-service", "checkout-svc")),
        Service("payments", "money", "1", 40, 12, ("ledger",)),
        Service("ledger", "money", "1", 45, 14),
        Service("catalogue", "shop", "2", 20, 6, ("pricing",)),
        Service("pricing", "shop", "2", 20, 5),
        Service("search", "discovery", "2", 35, 11),
        Service("recommendations", "discovery", "3", 35, 12, ("search",)),
        Service("inventory", "logistics", "2", 25, 7),
        Service("shipping", "logistics", "2", 25, 8, ("inventory",)),
        Service("accounts", "identity", "1", 30, 9, (), ("account-service",)),
        Service("notifications", "identity", "3", 15, 4, ("accounts",)),
        Service("reporting", "data", "3", 60, 21, ("ledger",)),
    )
}

REGIONS = {
    region.name: region
    for region in (
        Region("eu-west-1", "eu", "Europe/Berlin", time(8), 600),
        Region("us-east-1", "us", "America/New_York", time(7), 720),
        Region("ap-southeast-1", "ap", "Asia/Singapore", time(8, 30), 600),
    )
}

# While the day's payments are settled, nobody changes what settles them.
FROZEN_SERVICES = ("payments", "ledger")
FREEZE_ZONE, FREEZE_START, FREEZE_MINUTES = "Europe/London", time(14), 60

_SHORT_NAMES = {"production": "PROD", "staging": "stg"}
SLOW_PRODUCER = "jenkins-eu-2"
PRODUCERS = {
    producer.id: producer
    for producer in (
        Producer("gha-runner-eu-1", "eu-west-1", "library", "github_actions", 35_000, 90, True, True),
        Producer("gha-runner-eu-2", "eu-west-1", "library", "github_actions", -60_000, 110, False, True),
        Producer("gitlab-runner-eu-1", "eu-west-1", "library", "gitlab_ci", 12_000, 140, service_alias=True),
        Producer(
            SLOW_PRODUCER,
            "eu-west-1",
            "library",
            "jenkins",
            -SLOW_BY,
            130,
            echoes=True,
            environment_names=_SHORT_NAMES,
        ),
        Producer("gha-runner-us-1", "us-east-1", "library", "github_actions", -22_000, 80, True, True),
        Producer("jenkins-us-1", "us-east-1", "library", "jenkins", 150_000, 210, environment_names=_SHORT_NAMES),
        Producer("argocd-us-1", "us-east-1", "cdevents", "argo", 4_000, 60),
        Producer("gha-runner-ap-1", "ap-southeast-1", "library", "github_actions", 18_000, 260, True, True),
        Producer("argocd-ap-1", "ap-southeast-1", "cdevents", "argo", -9_000, 240),
        Producer("gitlab-runner-ap-1", "ap-southeast-1", "library", "gitlab_ci", 90_000, 320, service_alias=True),
    )
}
MONITORING = {name: Producer(f"alertmanager-{name}", name, "alertmanager", "", 3_000, 70) for name in REGIONS}
OBSERVERS = {name: Producer(f"observer-{name}", name, "kubernetes", "", -2_000, 50) for name in REGIONS}
SERVICE_DESK = Producer("servicedesk-1", "eu-west-1", "servicenow", "", 8_000, 300)

PEOPLE = ("amara", "bjorn", "chitra", "dmitri", "elif", "femi", "greta", "hiroshi", "ines", "jonas", "kavya", "liam")
