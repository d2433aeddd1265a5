"""May an emergency start while every window is closed?

In: a deployment, the approvals that were reported about it, the `break_glass` policies of that time.
Out: whether one of the approvals lets it pass, or which part is missing. An approval needs an approver
who is known and is not the deployer, a reason, and an expiry; policy may ask for a role, limits how long
it may hold, and says how long after the start it may still be given (not at all, if it does not say).
Approvals are a set: they come in any order and any number of times, and late ones give a new answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.approval_steps import is_among, person
from deploytrail_processors.rules.policies import BreakGlass, Document, Policies
from deploytrail_processors.rules.policies.scope import narrowness

Approval = Mapping[str, Any]
MINUTE = 60_000_000
# What is kept of an Approval record.
FIELDS = (
    "approval_id", "approval_type", "corrected_at", "uncertainty_ms", "region", "environment", "service",
    "deployment_id", "artifact_digest", "change_ticket", "approver", "approver_role", "justification", "valid_from",
    "valid_until", "emergency",
)  # fmt: skip
# What an approval may lack; the first of these that does is the reason.
LACKS = (
    Reason.APPROVER_UNKNOWN,
    Reason.DEPLOYER_UNKNOWN,
    Reason.SELF_APPROVAL,
    Reason.APPROVER_LACKS_ROLE,
    Reason.NO_JUSTIFICATION,
    Reason.NO_EXPIRY,
    Reason.APPROVAL_TOO_LONG,
    Reason.APPROVED_OTHER_ARTIFACT,
    Reason.APPROVAL_REVOKED,
    Reason.LATE_APPROVAL,
    Reason.APPROVAL_NOT_YET_VALID,
    Reason.APPROVAL_EXPIRED,
)
_WITHDRAWN = frozenset({"revoked", "rejected", "expired"})


@dataclass(frozen=True, slots=True)
class Emergency:
    """`reason` BREAK_GLASS: it may start. Else the first of what is `missing`, as reasons, or that nobody can tell."""

    reason: Reason
    documents: tuple[str, ...]
    missing: tuple[Reason, ...] = ()
    approval: Approval | None = None
    steps: int = 0  # of approvals that were looked at: an answer that comes back is another answer

    @property
    def evidence(self) -> dict[str, str]:
        """What the answer rests on."""
        found = {"approval_steps": str(self.steps)}
        if self.missing:
            found["emergency_missing"] = ", ".join(self.missing)
        if self.approval is not None:
            found |= {"approval_id": self.approval["approval_id"], "approver": self.approval["approver"]}
            if self.approval["valid_until"] is not None:
                found["approval_expires"] = from_micros(self.approval["valid_until"]).isoformat()
        return found


def matters(approval: Approval) -> bool:
    """Whether a step of an approval can let an emergency pass, or take that back."""
    kind = approval["approval_type"]
    return kind in _WITHDRAWN or (kind == "approved" and bool(approval["emergency"]))


def concerns(approval: Approval, deployment: Mapping[str, Any]) -> bool:
    """Whether an approval is about a deployment: by its id or, where it names none, by the change ticket."""
    if any(approval[name] != deployment[name] for name in ("region", "environment", "service")):
        return False
    if approval["deployment_id"]:
        return bool(approval["deployment_id"] == deployment["deployment_id"])
    return bool(approval["change_ticket"]) and approval["change_ticket"] == deployment["change_ticket"]


def judge(
    deployment: Mapping[str, Any],
    subject: Mapping[str, str],
    policies: Policies,
    approvals: Iterable[Approval],
    *,
    at: int,
    uncertainty: int,
) -> Emergency | None:
    """Whether a start at `at` ± `uncertainty` (microseconds) may pass; None where it is no emergency, or no policy
    lets emergencies of this subject pass.

    `deployment` has deployment_id, region, environment, service, deployer, change_ticket, artifact_digest and
    emergency. Of several policies the narrowest counts; of equally narrow ones each must be satisfied.
    """
    mine = [a for a in approvals if concerns(a, deployment) and matters(a)]
    given = [a for a in mine if a["approval_type"] == "approved"]
    covering = [d for d in policies.break_glasses if d.scope.covers(subject)]
    if not covering or not (given or deployment["emergency"]):
        return None
    narrowest = max(narrowness(d.scope) for d in covering)
    rules = [d for d in covering if narrowness(d.scope) == narrowest or d.spec is None]
    keys = tuple(d.key for d in rules)
    if any(d.spec is None for d in rules):
        return Emergency(Reason.POLICY_INVALID, keys, (Reason.POLICY_INVALID,), steps=len(mine))
    if not given:
        return Emergency(Reason.NO_APPROVAL, keys, (Reason.NO_APPROVAL,), steps=len(mine))
    withdrawn = [a for a in mine if a["approval_type"] in _WITHDRAWN]
    answers = [_weigh(approval, deployment, rules, withdrawn, at - uncertainty, at + uncertainty) for approval in given]
    # The approval that lacks least speaks; its id decides between equals, so that order does not.
    missing, doubtful, approval = min(answers, key=lambda answer: (len(answer[0]), answer[1], answer[2]["approval_id"]))
    if missing:
        return Emergency(missing[0], keys, tuple(missing), approval, len(mine))
    reason = Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY if doubtful else Reason.BREAK_GLASS
    return Emergency(reason, keys, (), approval, len(mine))


def _weigh(
    approval: Approval,
    deployment: Mapping[str, Any],
    rules: list[Document],
    withdrawn: list[Approval],
    earliest: int,
    latest: int,
) -> tuple[list[Reason], bool, Approval]:
    """What an approval lacks, and whether its times are too close to the start's to tell."""
    specs = [d.spec for d in rules if isinstance(d.spec, BreakGlass)]
    width = (approval["uncertainty_ms"] or 0) * 1000
    given, since, until = approval["corrected_at"], approval["valid_from"], approval["valid_until"]
    grace = int(min(spec.approve_within_minutes for spec in specs) * MINUTE)
    held = (until - (since if since is not None else given)) / MINUTE if until is not None else 0
    later = [w for w in withdrawn if w["corrected_at"] >= given]
    taken_back = [(w["corrected_at"], (w["uncertainty_ms"] or 0) * 1000) for w in later]
    # Each as (certainly so, possibly so).
    late = given - width > latest + grace, given + width > earliest + grace
    early = since is not None and latest < since, since is not None and earliest < since
    expired = until is not None and earliest >= until, until is not None and latest >= until
    gone = any(w + u <= earliest for w, u in taken_back), any(w - u <= latest for w, u in taken_back)
    approver, deployer = person(approval["approver"]), person(deployment["deployer"])
    digests = {approval["artifact_digest"], deployment["artifact_digest"]} - {""}
    lacks = {
        Reason.APPROVER_UNKNOWN: not approver,
        Reason.DEPLOYER_UNKNOWN: not deployer,
        Reason.SELF_APPROVAL: bool(approver) and is_among(approver, [deployer]),
        Reason.APPROVER_LACKS_ROLE: any(
            spec.approver_roles and approval["approver_role"] not in spec.approver_roles for spec in specs
        ),
        Reason.NO_JUSTIFICATION: not approval["justification"].strip(),
        Reason.NO_EXPIRY: until is None,
        Reason.APPROVAL_TOO_LONG: any(held > spec.max_minutes for spec in specs),
        Reason.APPROVED_OTHER_ARTIFACT: len(digests) > 1,
        Reason.APPROVAL_REVOKED: gone[0],
        Reason.LATE_APPROVAL: late[0],
        Reason.APPROVAL_NOT_YET_VALID: early[0],
        Reason.APPROVAL_EXPIRED: expired[0],
    }
    doubtful = any(possibly and not certainly for certainly, possibly in (late, early, expired, gone))
    return [reason for reason in LACKS if lacks[reason]], doubtful, approval
