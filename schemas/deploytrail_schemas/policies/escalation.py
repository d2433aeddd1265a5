"""Policies of the kind `escalation`: who is told when something goes wrong, and who next if nobody answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.in_force import InForce
from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, narrowness, read_scope

# From the gravest on.
SEVERITIES = ("critical", "error", "warning", "info")
# Who a level may name besides people and schedules of the on-call tool: they are looked up in the deployment.
DEPLOYER, TEAM = "deployer", "team"
LONGEST_MINUTES = 24 * 60
MOST_LEVELS, MOST_ROUNDS = 10, 10


@dataclass(frozen=True, slots=True)
class Level:
    """Who is told together, and how long one of them has to acknowledge before the next level is told, too."""

    notify: tuple[str, ...]
    acknowledge_minutes: float = 10.0


@dataclass(frozen=True, slots=True)
class Escalation:
    """`levels` in order, `rounds` times over. For findings of these severities alone."""

    levels: tuple[Level, ...]
    severities: tuple[str, ...] = SEVERITIES[:2]
    rounds: int = 1
    scope: Scope = Scope()


def read_escalation(reader: Reader) -> Escalation:
    usual = Escalation(())
    severities = reader.choices("severities", SEVERITIES, about="Findings of these; left out: critical and error.")
    rounds = reader.count("rounds", usual.rounds, most=MOST_ROUNDS, about="So often the levels are gone through.")
    found = Escalation(
        levels=tuple(_level(inner, reader) for inner in reader.inners("levels", about="Who is told, and who next.")),
        severities=severities or usual.severities,
        rounds=rounds or usual.rounds,
        scope=read_scope(reader),
    )
    if not 0 < len(found.levels) <= MOST_LEVELS and not reader.problems:
        reader.wrong("levels", f"has {len(found.levels)}; expected 1 to {MOST_LEVELS}")
    return found


def _level(inner: Reader, reader: Reader) -> Level:
    about = "People and schedules of the on-call tool; `deployer` and `team` are those of the deployment."
    minutes = inner.number("acknowledge_minutes", Level(()).acknowledge_minutes, about="Until the next level is told.")
    found = Level(inner.texts("notify", about=about), minutes or 0.0)
    if not found.notify and not inner.problems:
        inner.wrong("notify", "names nobody")
    if found.acknowledge_minutes > LONGEST_MINUTES:
        inner.wrong("acknowledge_minutes", f"is {found.acknowledge_minutes:g}; expected at most {LONGEST_MINUTES}")
    reader.problems.extend(inner.finish())
    return found


def escalation_for(subject: Mapping[str, str], severity: str, policies: InForce) -> tuple[Document, Escalation] | None:
    """The policy for a finding of a severity about a subject: the narrowest; of equally narrow ones the one that is
    quicker to its second level, then the first name. None where none covers it; invalid ones are passed over, since
    nobody would be told at all."""
    valid = [(d, d.spec) for d in policies.of_kind("escalation") if isinstance(d.spec, Escalation)]
    covering = [one for one in valid if one[0].scope.covers(subject) and severity in one[1].severities]
    return min(
        covering,
        key=lambda one: (-narrowness(one[1].scope), one[1].levels[0].acknowledge_minutes, one[0].name),
        default=None,
    )
