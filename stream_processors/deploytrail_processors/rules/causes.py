"""How likely each change is to have caused an alert, with "none of them" as a competitor.

Every alert has one parent: a change, an alert before it (then it has that one's cause), or nothing but its own habit.
Each of these would bring about such an alert at some rate, and the shares of the rates are the probabilities: a
branching process, as seismologists tell aftershocks from new quakes (Ogata 1988, "Statistical Models for Earthquake
Occurrences"; Zhuang, Ogata, Vere-Jones 2002, "Stochastic Declustering"). So a noisy alert needs better evidence against
a change than one that never fired; a storm has the cause of its first alert; and a hotfix that comes after an incident
is not taken for its cause.

All rates are per minute. The constants were fitted on the simulated companies 1 to 6 of `tests/truth`; `make truth`
reports on others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

NONE = ""
LEAST = 0.01  # a smaller share is not worth a line
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Chance that a change raises an alert at all, by kind.
RISK = {
    "release": 0.036,
    "configuration_change": 0.061,
    "feature_flag": 0.045,
    "database_migration": 0.137,
    "infrastructure": 0.157,
    "hotfix": 0.026,
    "rollback": 0.01,
    "unknown": 0.036,
}
# The same of a change that says itself that it went wrong ...
WENT_WRONG = 2.9
# ... of one that is 10 × as large as usual: so much more.
PER_DECADE_OF_SIZE = 0.62
USUAL_LINES = 30.0
# When a change that breaks something does so: (share, mean minutes) of three exponential delays.
DELAYS = ((0.57, 11.5), (0.34, 56.0), (0.09, 870.0))
# A change takes effect when it has reached this share of its way.
TAKES_EFFECT = 0.25
# Of a change of what a service depends on, and of what that depends on. The first was fitted as 0.08, and raised by
# judgement: where nothing else is near, a dependency that has just been changed should be named.
DEPENDENCY, INDIRECT_DEPENDENCY = 0.12, 0.009
REACHES = (1.0, DEPENDENCY, INDIRECT_DEPENDENCY)
# What follows was set by judgement, since the simulated companies know no cohorts, names and shared incidents.
# The share of defects that show only in what a change has changed, and the share of the work that this usually is.
ITS_OWN, USUAL_SHARE, LEAST_SHARE = 0.9, 0.5, 0.01
# The share of alerts that name a deployment which did not cause them.
NAMED_BY_CHANCE = 0.1
# Of a change of a service where another alert of the same incident is: so much of what it would bring about there.
OF_THE_INCIDENT = 0.5
# Where the clocks leave open whether the change came before.
POSSIBLY_BEFORE = 0.4
WHILE_IT_BEGINS = 0.7
# Habit: of an alert about which nothing is known, one in 6 days and a bit.
PRIOR_ALERTS, PRIOR_MINUTES = 1.1, 9_100.0
# How many alerts of its own an alert needs before its hours of the day count more than those of all alerts together.
PRIOR_HOURS = 16.4
SEASON = 0.42


class Link(StrEnum):
    """How an earlier alert is related to one."""

    SAME_ALERT = "the same alert"
    SAME_INCIDENT = "another alert of the incident"
    SAME_SERVICE = "another alert of the service"
    DEPENDENCY = "an alert of a service that it depends on"
    DEPENDENT = "an alert of a service that depends on it"
    SIBLING = "an alert of a service with a dependency in common"
    ELSEWHERE = "an alert of an unrelated service"


# How many alerts an alert draws after it, and within how many minutes (mean of an exponential delay).
DRAWS = {
    Link.SAME_ALERT: (2.56, 23.2),
    Link.SAME_INCIDENT: (1.5, 45.0),  # by judgement: somebody has said that they belong together
    Link.SAME_SERVICE: (0.4, 1.17),
    Link.DEPENDENCY: (0.062, 3.1),
    Link.DEPENDENT: (0.0036, 5.9),
    Link.SIBLING: (0.0028, 0.59),
    Link.ELSEWHERE: (0.00012, 10.8),
}
# Earlier alerts than these draw nothing that counts; the same alert and the same incident are remembered for longer.
LOOKS_BACK = 90 * MINUTE
LOOKS_BACK_FOR_ITSELF = 8 * HOUR


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether an alert comes from what a change has changed; None: it does not say. `share`: of the work, how much that
    is, or how often an alert would say so by chance; None: unknown."""

    own: bool | None = None
    share: float | None = None

    @property
    def ratio(self) -> float:
        """How much likelier the alert says so if the change has caused it than if it has not: a defect shows where the
        change is, or else anywhere, while alerts that it did not cause come from there as often as it has work."""
        if self.own is None:
            return 1.0
        if not self.own:
            return 1.0 - ITS_OWN
        share = max(USUAL_SHARE if self.share is None else self.share, LEAST_SHARE)
        return (ITS_OWN + (1.0 - ITS_OWN) * share) / share


@dataclass(frozen=True, slots=True)
class Change:
    """A change that may be the cause. `distance`: 0 the service itself, 1 what it depends on, 2 what that depends on.

    Times in µs; `end` is its end, or when the alert came while it runs. `width`: µs by which its time may be off.
    `evidence`: how much likelier it is by what the alert says of itself.
    """

    id: str
    distance: int
    start: int
    end: int
    width: int = 0
    kind: str = "unknown"
    went_wrong: bool = False
    lines: float = 0.0
    evidence: float = 1.0

    def lag(self, at: int) -> float:
        """Minutes from when it took effect to `at`; negative before."""
        return (at - self.start - TAKES_EFFECT * (self.end - self.start)) / MINUTE

    def rate(self, at: int, width: int) -> float:
        """At which rate it would bring about such an alert at `at` ± `width`."""
        lag = self.lag(at)
        certainty = 1.0
        if lag < 0:
            if at + width + self.width < self.start:
                return 0.0
            certainty = WHILE_IT_BEGINS if at >= self.start else POSSIBLY_BEFORE
            lag = 0.0
        risk = RISK.get(self.kind, RISK["unknown"]) * (WENT_WRONG if self.went_wrong else 1.0)
        risk *= 1.0 + PER_DECADE_OF_SIZE * max(math.log10(max(self.lines, 1.0) / USUAL_LINES), 0.0)
        risk *= REACHES[self.distance] * self.evidence
        return certainty * risk * sum(share / mean * math.exp(-lag / mean) for share, mean in DELAYS)


@dataclass(frozen=True, slots=True)
class Habit:
    """How often alerts fired before. `hours`: how many in each hour of the day, UTC; `since`: µs, from when on; None
    where nobody has watched yet."""

    hours: tuple[int, ...] = (0,) * 24
    since: int | None = None

    def watched(self, at: int) -> float:
        """For how many minutes."""
        return max(at - self.since, 0) / MINUTE if self.since is not None else 0.0

    def with_one(self, at: int, more: int = 1) -> Habit:
        """The habit after one more alert; `more` = -1: before it."""
        hour = at % DAY // HOUR
        return replace(self, hours=(*self.hours[:hour], self.hours[hour] + more, *self.hours[hour + 1 :]))

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.hours)

    def around(self, at: int) -> float:
        """How many within an hour of that time of the day, on any day."""
        hour = at % DAY // HOUR
        return 0.5 * self.hours[hour] + 0.25 * self.hours[hour - 1] + 0.25 * self.hours[(hour + 1) % 24]

    def rate(self, at: int, everyone: Habit) -> float:
        """At which rate this alert fires by itself at that time; `everyone`: the habit of all alerts of its region."""
        mean = (self.count + PRIOR_ALERTS) / (self.watched(at) + PRIOR_MINUTES)
        season = 24 * (everyone.around(at) + 2) / (everyone.count + 48)
        return mean * (24 * self.around(at) + PRIOR_HOURS * math.pow(season, SEASON)) / (self.count + PRIOR_HOURS)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An alert before this one: how it is related, how many minutes ago, and the probabilities of its causes."""

    id: str
    link: Link
    minutes: float
    causes: Mapping[str, float]

    @property
    def rate(self) -> float:
        """At which rate it draws such an alert now."""
        drawn, mean = DRAWS[self.link]
        return drawn / mean * math.exp(-self.minutes / mean)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Probabilities by change id, NONE among them, summing to one; and the parts that they are made of: the habit's
    share, and the earlier alert that most likely drew this one, with its share."""

    causes: Mapping[str, float]
    habit: float
    drawn_by: Earlier | None = None
    drawn: float = 0.0


def weigh(at: int, width: int, habit: float, changes: Iterable[Change], earlier: Iterable[Earlier]) -> Weighed:
    """The probabilities of the causes of an alert at `at` ± `width` (µs), whose habit has the rate `habit`."""
    rates = {NONE: habit}
    for change in changes:
        if rate := change.rate(at, width):
            rates[change.id] = rates.get(change.id, 0.0) + rate
    by: Earlier | None = None
    for alert in earlier:
        rate = alert.rate
        if by is None or rate > by.rate:
            by = alert
        for cause, probability in alert.causes.items():
            rates[cause] = rates.get(cause, 0.0) + rate * probability
    total = sum(rates.values())
    shares = {cause: rate / total for cause, rate in rates.items()}
    return Weighed(shares, habit / total, by, by.rate / total if by is not None else 0.0)
