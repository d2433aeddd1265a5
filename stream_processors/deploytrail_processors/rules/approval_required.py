"""What policy asks of a deployment before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.policies.scope import narrowness

from deploytrail_processors.rules.approval_steps import Asked
from deploytrail_processors.rules.policies import Approvals, Policies


def required(asked: Asked, policies: Policies) -> tuple[Approvals | None, tuple[str, ...]]:
    """What policy asks of a deployment, and the documents that say so; None where one of them is invalid.

    The narrowest of those that cover it counts; of equally narrow ones everything together. Where none covers it,
    production needs one approval and everything else nothing.
    """
    covering = [d for d in policies.documents if d.kind == "approval" and d.scope.covers(asked.subject())]
    if broken := [d.key for d in covering if d.spec is None]:
        return None, tuple(broken)
    narrowest = max((narrowness(d.scope) for d in covering), default=0)
    chosen = [d for d in covering if narrowness(d.scope) == narrowest]
    specs = [d.spec for d in chosen if isinstance(d.spec, Approvals)]
    if not specs:
        production = is_production(asked.environment, policies)
        return (Approvals() if production else Approvals(count=0, registration=False)), ()
    return _together(specs), tuple(d.key for d in chosen)


def _together(specs: Sequence[Approvals]) -> Approvals:
    """What several policies ask together."""
    first, *others = specs
    for other in others:
        roles = tuple(r for r in first.roles if r in other.roles) if first.roles and other.roles else ()
        # Two lists of roles without a common one: no approval can be in both.
        nobody = bool(first.roles and other.roles and not roles)
        first = Approvals(
            count=max(first.count, other.count),
            roles=("",) if nobody else roles or first.roles or other.roles,
            holders={**first.holders, **other.holders},
            four_eyes=first.four_eyes or other.four_eyes,
            valid_minutes=min(first.valid_minutes, other.valid_minutes),
            registration=first.registration or other.registration,
            unbound=first.unbound and other.unbound,
            permit=first.permit or other.permit,
            scope=first.scope,
        )
    return first
