"""Policies of the kind `reconciliation`: how long what runs may differ from what was reported and declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, narrowness, read_scope

if TYPE_CHECKING:
    from deploytrail_processors.rules.policies.policy_set import Policies

LONGEST_MINUTES = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Late reports are awaited for `grace_minutes`; old and new may run side by side for `settle_minutes` after the end
    of a deployment. `infer`, `drift`: whether records are inferred, and differences from what is declared found."""

    grace_minutes: float = 15.0
    settle_minutes: float = 2.0
    infer: bool = True
    drift: bool = True
    scope: Scope = Scope()


def read_reconciliation(reader: Reader) -> Reconciliation:
    usual = Reconciliation()
    abouts = {
        "grace_minutes": "How long reports may be late, and a rollout may take, before anything is said.",
        "settle_minutes": "How long after the end of a deployment the version before it may still start.",
    }
    found = Reconciliation(
        **{name: reader.number(name, getattr(usual, name), about=about) or 0.0 for name, about in abouts.items()},
        infer=reader.flag("infer", about="Whether missing deployments are inferred; left out, they are.")
        or "infer" not in reader.raw,
        drift=reader.flag("drift", about="Whether what differs from what is declared is found; left out, it is.")
        or "drift" not in reader.raw,
        scope=read_scope(reader),
    )
    for name in abouts:
        if getattr(found, name) > LONGEST_MINUTES:
            reader.wrong(name, f"is {getattr(found, name):g}; expected at most {LONGEST_MINUTES}")
    return found


def reconciliation_for(subject: Mapping[str, str], policies: Policies) -> tuple[str, Reconciliation]:
    """Key and spec of the policy that covers a place: the narrowest; of equally narrow ones the most patient. Without
    one the usual values hold, without a key; invalid ones are passed over."""
    found = [
        (document.key, document.spec)
        for document in policies.of_kind("reconciliation")
        if isinstance(document.spec, Reconciliation) and document.spec.scope.covers(subject)
    ]
    return min(
        found,
        key=lambda one: (-narrowness(one[1].scope), -one[1].grace_minutes, one[0]),
        default=("", Reconciliation()),
    )
