"""Policies of the kind `suppression`: which alerts keep quiet while a deployment runs. Without one, none does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, narrowness, read_scope

if TYPE_CHECKING:
    from deploytrail_schemas.policies.document import Document

    from deploytrail_processors.rules.policies.policy_set import Policies

SEVERITIES = ("error", "warning", "info")
LONGEST_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Suppression:
    """Which alerts a deployment in the scope keeps quiet, and for how long.

    `lead_minutes` before its start; at most `max_minutes` after it. `dependents`: alerts of services that declare to
    depend on the deployed one, too. `any_cohort`: where it goes cohort by cohort, alerts of every cohort and of none.
    """

    severities: tuple[str, ...] = SEVERITIES
    lead_minutes: float = 0.0
    max_minutes: float = 60.0
    dependents: bool = False
    any_cohort: bool = False
    scope: Scope = Scope()


def read_suppression(reader: Reader) -> Suppression:
    severities = reader.texts("severities") if "severities" in reader.raw else SEVERITIES
    for severity in severities:
        if severity == "critical":
            reader.wrong("severities", "names critical, which is never suppressed")
        elif severity not in SEVERITIES:
            reader.wrong("severities", f"names {severity!r}; expected some of {', '.join(SEVERITIES)}")
    found = Suppression(
        severities=severities,
        lead_minutes=reader.number("lead_minutes", None) or 0.0,
        max_minutes=reader.number("max_minutes", Suppression().max_minutes) or 0.0,
        dependents=reader.flag("dependents"),
        any_cohort=reader.flag("any_cohort"),
        scope=read_scope(reader),
    )
    for name in ("lead_minutes", "max_minutes"):
        if getattr(found, name) > LONGEST_MINUTES:
            reader.wrong(name, f"is {getattr(found, name):g}; expected at most {LONGEST_MINUTES}, a day")
    return found


def suppression_for(subject: Mapping[str, str], policies: Policies) -> tuple[Document, Suppression] | None:
    """The policy that covers a deployment: the narrowest; of equally narrow ones the one that ends first.

    None where none does, or one that does is invalid: then nothing is suppressed. `subject` as `Scope.covers` takes it.
    """
    covering = [d for d in policies.documents if d.kind == "suppression" and d.scope.covers(subject)]
    valid = [(d, d.spec) for d in covering if isinstance(d.spec, Suppression)]
    if not covering or len(valid) < len(covering):
        return None
    return min(valid, key=lambda one: (-narrowness(one[1].scope), one[1].max_minutes, one[0].name))
