"""Policies of the kind `break_glass`: who may let an emergency start while a window is closed."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """What an emergency approval must have, besides an approver who does not deploy, a reason and an expiry."""

    scope: Scope
    approver_roles: tuple[str, ...] = ()  # empty: any
    max_minutes: float = 24 * 60.0  # an approval may not hold longer
    approve_within_minutes: float = 0.0  # so long after the start it may still be given


def read_break_glass(reader: Reader) -> BreakGlass:
    usual = BreakGlass(Scope())
    return BreakGlass(
        read_scope(reader),
        reader.texts("approver_roles", about="Roles of which the approver has one; left out: any."),
        reader.number("max_minutes", usual.max_minutes, about="So long an approval may hold at most.")
        or usual.max_minutes,
        reader.number("approve_within_minutes", None, about="So long after the start it may be given.") or 0.0,
    )
