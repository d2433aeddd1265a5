"""Policies of the kind `rollback_verification`: by when a rollback must have helped, and what shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, narrowness, read_scope

if TYPE_CHECKING:
    from deploytrail_processors.rules.policies.policy_set import Policies

CHECKS = ("digest", "health", "alert")
LONGEST_MINUTES = 4 * 60


@dataclass(frozen=True, slots=True)
class RollbackVerification:
    """`deadline_minutes` after a rollback has succeeded, each check of `required` must hold. Health is compared with
    that of `baseline_minutes` before what was rolled back."""

    deadline_minutes: float = 15.0
    baseline_minutes: float = 60.0
    required: tuple[str, ...] = CHECKS
    scope: Scope = Scope()


def read_rollback_verification(reader: Reader) -> RollbackVerification:
    usual = RollbackVerification()
    required = reader.texts("required") if "required" in reader.raw else CHECKS
    if not required or set(required) - set(CHECKS):
        reader.wrong("required", f"is {list(required)}; expected some of {', '.join(CHECKS)}")
    found = RollbackVerification(
        deadline_minutes=reader.number("deadline_minutes", usual.deadline_minutes) or 0.0,
        baseline_minutes=reader.number("baseline_minutes", usual.baseline_minutes) or 0.0,
        required=required,
        scope=read_scope(reader),
    )
    for name in ("deadline_minutes", "baseline_minutes"):
        if getattr(found, name) > LONGEST_MINUTES:
            reader.wrong(name, f"is {getattr(found, name):g}; expected at most {LONGEST_MINUTES}")
    return found


def rollback_verification_for(subject: Mapping[str, str], policies: Policies) -> tuple[str, RollbackVerification]:
    """Key and spec of the policy that covers a rollback: the narrowest; of equally narrow ones the one that asks for
    more, sooner. Without one the usual values hold, without a key; invalid ones are passed over.
    """
    found = [
        (document.key, document.spec)
        for document in policies.documents
        if isinstance(document.spec, RollbackVerification) and document.spec.scope.covers(subject)
    ]
    return min(
        found,
        key=lambda one: (-narrowness(one[1].scope), -len(one[1].required), one[1].deadline_minutes, one[0]),
        default=("", RollbackVerification()),
    )
