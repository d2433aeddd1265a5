"""May an emergency start while every window is closed?

In: a deployment, the approvals that were reported about it, the `break_glass` policies of that time.
Out: whether one of the approvals lets it pass, or which part is missing. An approval needs an approver
who is known, and is neither the deployer nor an author of the commits, a reason, and an expiry; policy may
ask for a role, limits how long it may hold, and says how long after the start it may still be given (not at
all, if it does not say). The gate, and those who look back, judge by this.
Approvals are a set: they come in any order and any number of times, and late ones give a new answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.people import is_among, is_bot, person
from deploytrail_schemas.policies.scope import narrowness
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.approval_steps import hands_of, is_at, is_refusal
from deploytrail_processors.rules.policies import BreakGlass, Document, Policies

Approval = Mapping[str, Any]
MINUTE = 60_000_000
# What a step leaves out that does not say it.
_UNSAID: Approval = {
    **dict.fromkeys(("deployment_id", "artifact_digest", "change_ticket", "approver", "approver_role",
                     "justification"), ""),
    "uncertainty_ms": 0, "valid_from": None, "valid_until": None, "emergency": False,
}  # fmt: skip
# What an approval may lack; the first of these that does is the reason.
LACKS = (
    Reason.APPROVER_UNKNOWN,
    Reason.DEPLOYER_UNKNOWN,
    Reason.SELF_APPROVAL,
    Reason.APPROVED_BY_COMMIT_AUTHOR,
    Reason.APPROVER_IS_A_BOT,
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


def matters(step: Approval) -> bool:
    """Whether a step can let an emergency pass, take that back, or tell whose hands a deployment is in."""
    kind = step["approval_type"]
    if is_refusal(step):
        return False
    return kind in _WITHDRAWN or kind == "registered" or (kind == "approved" and bool(step.get("emergency")))


def concerns(approval: Approval, deployment: Mapping[str, Any]) -> bool:
    """Whether an approval is about a deployment: by its id or, where it names none, by the change ticket."""
    if not is_at(approval, deployment):
        return False
    if approval["deployment_id"]:
        return bool(approval["deployment_id"] == deployment["deployment_id"])
    return bool(approval["change_ticket"]) and approval["change_ticket"] == deployment["change_ticket"]


def grace(subject: Mapping[str, str], policies: Policies) -> int:
    """How long after a start of this subject an emergency approval may still be given (µs)."""
    specs = [d.spec for d in _governing(subject, policies)]
    return int(min((s.approve_within_minutes if isinstance(s, BreakGlass) else 0.0 for s in specs), default=0) * MINUTE)


def _governing(subject: Mapping[str, str], policies: Policies) -> list[Document]:
    """The policies that decide: the narrowest of those that cover it, and every one that is invalid."""
    covering = [d for d in policies.break_glasses if d.scope.covers(subject)]
    narrowest = max((narrowness(d.scope) for d in covering), default=0)
    return [d for d in covering if narrowness(d.scope) == narrowest or d.spec is None]


def judge(
    deployment: Mapping[str, Any],
    subject: Mapping[str, str],
    policies: Policies,
    approvals: Iterable[Approval],
    *,
    at: int,
    uncertainty: int,
    is_now: bool = False,
) -> Emergency | None:
    """Whether a start at `at` ± `uncertainty` (microseconds) may pass; None where it is no emergency, or no policy
    lets emergencies of this subject pass. `is_now`: every step that is known lies before it.

    `deployment` has deployment_id, region, environment, service, deployer, change_ticket, artifact_digest and
    emergency. `approvals` are steps as `approval_steps.keep` gives them, registrations among them: they tell more of
    whose hands it is in. Of several policies the narrowest counts; of equally narrow ones each must be satisfied.
    """
    steps = [{**_UNSAID, **step} for step in approvals]
    mine = [a for a in steps if concerns(a, deployment) and matters(a) and a["approval_type"] != "registered"]
    given = [a for a in mine if a["approval_type"] == "approved"]
    rules = _governing(subject, policies)
    if not rules or not (given or deployment["emergency"]):
        return None
    keys = tuple(d.key for d in rules)
    if any(d.spec is None for d in rules):
        return Emergency(Reason.POLICY_INVALID, keys, (Reason.POLICY_INVALID,), steps=len(mine))
    if not given:
        return Emergency(Reason.NO_APPROVAL, keys, (Reason.NO_APPROVAL,), steps=len(mine))
    withdrawn = [a for a in mine if a["approval_type"] in _WITHDRAWN]
    deployers, authors = hands_of(steps, deployment["deployment_id"], deployment["deployer"])
    answers = [
        _weigh(approval, deployment, rules, withdrawn, (deployers, authors), at - uncertainty, at + uncertainty, is_now)
        for approval in given
    ]
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
    withdrawn: Sequence[Approval],
    hands: tuple[list[str], list[str]],
    earliest: int,
    latest: int,
    is_now: bool,
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
    if is_now:
        late = False, False
    early = since is not None and latest < since, since is not None and earliest < since
    expired = until is not None and earliest >= until, until is not None and latest >= until
    gone = (
        any(is_now or w + u <= earliest for w, u in taken_back),
        any(is_now or w - u <= latest for w, u in taken_back),
    )
    approver, (deployers, authors) = person(approval["approver"]), hands
    digests = {approval["artifact_digest"], deployment["artifact_digest"]} - {""}
    lacks = {
        Reason.APPROVER_UNKNOWN: not approver,
        Reason.DEPLOYER_UNKNOWN: not any(map(person, deployers)),
        Reason.SELF_APPROVAL: bool(approver) and is_among(approver, deployers),
        Reason.APPROVED_BY_COMMIT_AUTHOR: bool(approver) and is_among(approver, authors),
        Reason.APPROVER_IS_A_BOT: is_bot(approver),
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
