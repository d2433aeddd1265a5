"""Policies of the kind `velocity`: how many changes a service may have in a time."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope

MOST = 1000  # starts are kept of each service, so their number has a bound
LONGEST = 31 * 24 * 60


@dataclass(frozen=True, slots=True)
class Velocity:
    """Of a service in an environment: at most `budget` changes in a long time, fewer than `burst` in a short one."""

    budget: int | None
    budget_minutes: float
    burst: int | None
    burst_minutes: float
    scope: Scope


def read_velocity(reader: Reader) -> Velocity:
    week, hour = 7 * 24 * 60, 60
    found = Velocity(
        budget=reader.count("budget", None, most=MOST, about="So many changes a service may have in an environment."),
        budget_minutes=reader.number("budget_minutes", week, about="In any time of this length.") or week,
        burst=reader.count("burst", None, least=2, most=MOST, about="So many changes are a burst."),
        burst_minutes=reader.number("burst_minutes", hour, about="In any time of this length.") or hour,
        scope=read_scope(reader),
    )
    if found.budget is None and found.burst is None and not reader.problems:
        reader.wrong("budget", "is missing; expected budget or burst")
    for name in ("budget_minutes", "burst_minutes"):
        if getattr(found, name) > LONGEST:
            reader.wrong(name, f"is {getattr(found, name):g}; expected at most {LONGEST}, 31 days")
    return found
