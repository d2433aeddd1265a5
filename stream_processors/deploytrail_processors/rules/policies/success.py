"""Policies of the kind `success_criteria`: what makes a deployment a success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, narrowness, read_scope

if TYPE_CHECKING:
    from deploytrail_schemas.policies.document import Document

    from deploytrail_processors.rules.policies.policy_set import Policies

SEVERITIES = ("info", "warning", "error", "critical")  # from mild to grave
# An answer of correlation may change for so long; health is remembered long enough for the second.
LONGEST_INCIDENT_MINUTES, LONGEST_HEALTH_MINUTES = 6 * 60, 4 * 60
MOST_DEPLOYMENTS, MOST_DAYS = 200, 90


@dataclass(frozen=True, slots=True)
class RollbackRate:
    """At most `max_percent` of a service's changes in an environment may be undone: of the last `deployments`, or of
    those of the last `days`; fewer than `minimum` tell nothing."""

    max_percent: int
    deployments: int | None = None
    days: int | None = None
    minimum: int = 10


@dataclass(frozen=True, slots=True)
class NoIncident:
    """No incident of this severity, or a graver one, from the start to `within_minutes` after the end."""

    severity: str = "error"
    within_minutes: float = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """Within so long after the end, health is that of `baseline_minutes` before the start."""

    within_minutes: float = 15.0
    baseline_minutes: float = 60.0


@dataclass(frozen=True, slots=True)
class SuccessCriteria:
    """What a deployment must meet besides having succeeded; None: it is not asked."""

    max_duration_minutes: float | None = None
    rollback_rate: RollbackRate | None = None
    incident: NoIncident | None = None
    health: Health | None = None
    scope: Scope = Scope()

    @property
    def observed_minutes(self) -> float:
        """For how long after its end a deployment is observed."""
        return max((asked.within_minutes for asked in (self.incident, self.health) if asked is not None), default=0.0)

    @property
    def asked(self) -> int:
        """How many criteria there are."""
        criteria = (self.max_duration_minutes, self.rollback_rate, self.incident, self.health)
        return sum(criterion is not None for criterion in criteria)


def read_success_criteria(reader: Reader) -> SuccessCriteria:
    found = SuccessCriteria(
        max_duration_minutes=reader.number(
            "max_duration_minutes", None, about="How long a deployment may take from its start to its end."
        ),
        rollback_rate=_rollback_rate(reader) if "rollback_rate" in reader.raw else None,
        incident=_incident(reader) if "incident" in reader.raw else None,
        health=_health(reader) if "health" in reader.raw else None,
        scope=read_scope(reader),
    )
    if not found.asked and not reader.problems:
        names = "max_duration_minutes, rollback_rate, incident or health"
        reader.wrong("max_duration_minutes", f"is missing; expected {names}")
    return found


def _rollback_rate(reader: Reader) -> RollbackRate:
    about = "How many of a service's changes in an environment may be rolled back."
    inner = reader.inner("rollback_rate", about=about)
    percent = inner.count("max_percent", None, least=0, most=100, about="At most so many of a hundred.")
    deployments = inner.count("deployments", None, most=MOST_DEPLOYMENTS, about="Of the last so many changes; or days.")
    days = inner.count("days", None, most=MOST_DAYS, about="Of the changes of the last so many days.")
    usual = RollbackRate(0).minimum if deployments is None else min(RollbackRate(0).minimum, deployments)
    minimum = inner.count("minimum", None, most=MOST_DEPLOYMENTS, about="Fewer changes than these (10) tell nothing.")
    if percent is None and not inner.problems:
        inner.wrong("max_percent", "is missing")
    if (deployments is None) == (days is None) and not inner.problems:
        inner.wrong("deployments", "is stated together with days, or both are missing; expected one of the two")
    if minimum is not None and deployments is not None and minimum > deployments:
        inner.wrong("minimum", f"is {minimum}, more than the deployments that are looked at")
    reader.problems.extend(inner.finish())
    return RollbackRate(percent or 0, deployments, days, usual if minimum is None else minimum)


def _incident(reader: Reader) -> NoIncident:
    inner, usual = reader.inner("incident", about="No incident that it has likely caused."), NoIncident()
    severity = inner.choice("severity", SEVERITIES, usual.severity, about="Of this severity or a graver one.")
    within = inner.number("within_minutes", usual.within_minutes, about="So long after its end.") or 0.0
    _at_most(inner, "within_minutes", within, LONGEST_INCIDENT_MINUTES)
    reader.problems.extend(inner.finish())
    return NoIncident(severity, within)


def _health(reader: Reader) -> Health:
    inner, usual = reader.inner("health", about="Health checks are as they were before."), Health()
    within = inner.number("within_minutes", usual.within_minutes, about="So long after its end.") or 0.0
    baseline = inner.number("baseline_minutes", usual.baseline_minutes, about="As so long before its start.") or 0.0
    for name, minutes in (("within_minutes", within), ("baseline_minutes", baseline)):
        _at_most(inner, name, minutes, LONGEST_HEALTH_MINUTES)
    reader.problems.extend(inner.finish())
    return Health(within, baseline)


def _at_most(reader: Reader, name: str, minutes: float, most: int) -> None:
    if minutes > most:
        reader.wrong(name, f"is {minutes:g}; expected at most {most}")


def success_criteria_for(
    subject: Mapping[str, str], policies: Policies
) -> tuple[tuple[Document, ...], SuccessCriteria | None]:
    """The policy that covers a deployment, and what it asks: the narrowest; of equally narrow ones the one that asks
    for more, then the first name. Without one, nothing but success is asked. None: one that covers it is invalid."""
    covering = [d for d in policies.of_kind("success_criteria") if d.scope.covers(subject)]
    if broken := tuple(d for d in covering if not isinstance(d.spec, SuccessCriteria)):
        return broken, None
    valid = [(d, d.spec) for d in covering if isinstance(d.spec, SuccessCriteria)]
    if not valid:
        return (), SuccessCriteria()
    document, spec = min(valid, key=lambda one: (-narrowness(one[1].scope), -one[1].asked, one[0].name))
    return (document,), spec
