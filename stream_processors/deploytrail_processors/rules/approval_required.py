"""What policy asks of a deployment before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.policies.scope import narrowness, places_of

from deploytrail_processors.rules.approval_steps import Asked
from deploytrail_processors.rules.policies import Approvals, Document, Policies


def required(asked: Asked, policies: Policies) -> tuple[Approvals | None, tuple[str, ...]]:
    """What policy asks of a deployment, and the documents that say so; None where one of them is invalid.

    The narrowest of those that cover it counts; of equally narrow ones everything together. Where none covers it,
    production needs one approval and everything else nothing. What is deployed everywhere needs all that it needs in
    each region.
    """
    every = [d for d in policies.documents if d.kind == "approval"]
    found = [_governing(every, place) for place in places_of(asked.subject(), [d.scope for d in every])]
    chosen = list({d.key: d for documents in found for d in documents}.values())
    if broken := [d.key for d in chosen if d.spec is None]:
        return None, tuple(broken)
    specs = [d.spec for d in chosen if isinstance(d.spec, Approvals)]
    if not found[0] and is_production(asked.environment, policies):
        specs.append(Approvals())
    elif not specs:
        specs.append(Approvals(count=0, registration=False))
    return _together(specs), tuple(d.key for d in chosen)


def _governing(every: Sequence[Document], place: Mapping[str, str]) -> list[Document]:
    """The policies that decide about a place: the narrowest of those that cover it, or those that are invalid."""
    covering = [d for d in every if d.scope.covers(place)]
    narrowest = max((narrowness(d.scope) for d in covering), default=0)
    return [d for d in covering if d.spec is None] or [d for d in covering if narrowness(d.scope) == narrowest]


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
