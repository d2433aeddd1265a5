"""Was a deployment begun without registration, approval or permit? Judged by its own start, after the fact.

In: a record's content, the steps that the trail has of it, the policies. Out: of each rule what speaks against the
deployment, and the finding, which supersedes the one that stood. What arrives later and lay before the start takes a
finding back; what was only done later changes its reason to a late one.

Of a success whose start nobody reports the end is judged: a source that tells no more evades nothing. What had ended by
then may still have held at the start, and leaves it open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.permits import LEEWAY_SECONDS
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import approval
from deploytrail_processors.rules.approval import PoliciesAt
from deploytrail_processors.rules.approval_required import required
from deploytrail_processors.rules.approval_steps import Asked, Moment, Problem, Step, deployment_of, side_of, width_of
from deploytrail_processors.rules.deployment_times import began
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies import Policies

UNREGISTERED, UNAPPROVED, MISUSE = "unregistered_deployment", "missing_approval", "permit_misuse"
# Registration, approval and start come by different ways: so long after the start nothing is said, by partition time.
GRACE = 30_000_000
SECOND = 1_000_000
_OF_REGISTRATION = frozenset(
    {
        Reason.UNREGISTERED,
        Reason.LATE_REGISTRATION,
        Reason.REGISTERED_FOR_OTHER_ARTIFACT,
        Reason.REGISTERED_FOR_OTHER_PLACE,
        Reason.REGISTERED_FOR_OTHER_TIME,
        Reason.NO_ARTIFACT_DIGEST,
    }
)
# What held before and does so no longer.
_ENDS_MEANWHILE = frozenset(
    {
        *(Reason.APPROVAL_EXPIRED, Reason.APPROVAL_REVOKED, Reason.REJECTED),
        *(Reason.REGISTERED_FOR_OTHER_TIME, Reason.APPROVED_OTHER_TIME),
    }
)
# The rule `change_window` says these.
_OF_WINDOW = frozenset(
    {Reason.OUTSIDE_ALLOWED_WINDOWS, Reason.INSIDE_DENIED_WINDOW, Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY}
)
_WORDS = {
    UNREGISTERED: ("started without a registration that fits", "was registered in time after all"),
    UNAPPROVED: ("started without the approvals that it needs", "was approved in time after all"),
    MISUSE: ("and its permits do not fit together", "has permits that fit after all"),
}
_GOOD = {
    UNREGISTERED: Reason.REGISTERED,
    UNAPPROVED: Reason.APPROVED,
    MISUSE: Reason.PERMIT_IN_ORDER,
}


def due(content: Mapping[str, Any]) -> int | None:
    """When a deployment that has started is judged, by partition time."""
    begun = _begun(content)
    return None if begun is None else begun[0] + GRACE


def _begun(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """When it began for sure, ±. What failed before anybody saw it start may never have begun."""
    return began(content) if content["started_at"] is not None or content["state"] == "succeeded" else None


def asked_of(content: Mapping[str, Any], policies: Policies) -> Asked:
    """What a deployment was, as approvals are judged."""
    service = policies.service(content["service"])
    same = ("deployment_id", "service", "environment", "region", "artifact_digest", "kind", "deployer")
    team, tier = service.team or content["team"], service.tier or content["tier"]
    return Asked(**{name: content[name] for name in same}, team=team, tier=tier)


def against_start(
    content: Mapping[str, Any], steps: Sequence[Step], policies_at: PoliciesAt
) -> tuple[dict[str, list[Problem]], tuple[str, ...]]:
    """What speaks against a start that was due to be judged, by rule; and the documents that say so."""
    found: dict[str, list[Problem]] = {UNREGISTERED: [], UNAPPROVED: [], MISUSE: []}
    begun = _begun(content)
    if content["state"] == "voided" or begun is None:
        return found, ()
    moment = Moment(*begun)
    policies = policies_at(moment.at)
    asked = asked_of(content, policies)
    judgement = approval.judge(asked, steps, policies_at, moment)
    # It may have begun while what has ended by then still held.
    left_open = content["started_at"] is None and any(p.reason in _ENDS_MEANWHILE for p in judgement.problems)
    for problem in judgement.problems:
        if left_open and problem.reason in _ENDS_MEANWHILE | {Reason.NOT_ENOUGH_APPROVALS}:
            problem = replace(problem, certain=False)
        if problem.reason not in _OF_WINDOW:
            found[UNREGISTERED if problem.reason in _OF_REGISTRATION else UNAPPROVED].append(problem)
    requirement, _ = required(asked, policies)
    if requirement is not None and requirement.permit:
        issued = [s for s in _permits(steps, "permit_issued") if deployment_of(s) == asked.deployment_id]
        if not any(side_of(step, moment) < 1 for step in issued):
            late = "; one was issued after it had begun" if issued else ""
            found[MISUSE].append(Problem(Reason.NO_PERMIT, f"it had no permit of the gate{late}"))
    return found, judgement.documents


def is_approved(asked: Asked, steps: Sequence[Step], policies_at: PoliciesAt, moment: Moment) -> bool:
    """Whether what begins at a moment has the approvals that it needs, and at least one. Where nobody can tell, because
    of clocks, it is taken to have them: `missing_approval` says that nobody can."""
    judgement = approval.judge(asked, steps, policies_at, moment, least=1)
    return all(p.reason in _OF_WINDOW | _OF_REGISTRATION or not p.certain for p in judgement.problems)


def against_permits(deployment_id: str, steps: Iterable[Step], shown: Iterable[str]) -> list[Problem]:
    """What speaks against the use of a deployment's permits. `shown`: permit ids that its own events name."""
    steps = list(steps)
    issued = {_permit_id(s): s for s in _permits(steps, "permit_issued")}
    used = sorted(_permits(steps, "permit_used"), key=lambda s: (s["corrected_at"], s["approval_id"]))
    found = []
    for name in sorted({*filter(None, shown), *(_permit_id(step) for step in used)} - issued.keys()):
        said = f"the permit {name!r} was not issued for the deployment {deployment_id!r}"
        found.append(Problem(Reason.PERMIT_UNKNOWN, said))
    for name, permit in sorted(issued.items()):
        found += _against_use(name, permit, [step for step in used if _permit_id(step) == name])
    return found


def to_finding(
    rule: str,
    content: Mapping[str, Any],
    problems: Sequence[Problem],
    documents: Iterable[str],
    standing: Finding | None,
    *,
    production: bool,
) -> Finding | None:
    """The finding of a rule, to be written in place of the one that stands; None where there is nothing to say."""
    if not problems and (standing is None or standing["verdict"] == "ok"):
        return standing
    hard = [problem for problem in problems if problem.certain]
    verdict = "violation" if hard else "inconclusive" if problems else "ok"
    reason = (hard or problems)[0].reason if problems else _GOOD[rule]
    started = content["started_at"]
    evidence = {
        "started_at": from_micros(started).isoformat() if started is not None else "",
        "uncertainty_ms": str(content["started_at_uncertainty_ms"] or 0),
        "reasons": ",".join(dict.fromkeys(problem.reason.value for problem in problems)),
        "details": "; ".join(problem.detail for problem in problems)[:4000],
    }
    bad, good = _WORDS[rule]
    if started is None:
        bad = bad.replace("started", "was deployed", 1)
    words = f"{bad}: {'; '.join(p.detail for p in problems)}"[:1000] if problems else good
    return finding(
        rule,
        verdict,
        reason,
        subject=content["deployment_id"],
        place=dict(content),
        occurred_at=started if started is not None else content["last_event_at"],
        severity=("error" if production else "warning") if verdict == "violation" else "info",
        explanation=f"{content['service']} {content['version']} {words}".replace("  ", " "),
        evidence={name: text for name, text in evidence.items() if text},
        deployment_id=content["deployment_id"],
        policy_version=", ".join(documents),
    )


def _against_use(name: str, permit: Step, uses: Sequence[Step]) -> list[Problem]:
    found = []
    targets: dict[tuple[str, ...], str] = {}
    clusters = set()
    for use in uses:
        tags = use.get("tags", {})
        place = (use.get("region", ""), use.get("environment", ""))
        target = (*place, *(tags.get(part, "") for part in ("cluster", "namespace", "workload")))
        at = from_micros(use["corrected_at"]).isoformat()
        if targets.setdefault(target, use["approval_id"]) != use["approval_id"]:
            where = " ".join(filter(None, target[2:])) or " ".join(place)
            found.append(Problem(Reason.PERMIT_USED_TWICE, f"the permit {name!r} was used again for {where} at {at}"))
        clusters.add(target[:3])
        issued_for = (permit.get("region", ""), permit.get("environment", ""))
        if place != issued_for:
            said = f"the permit {name!r} is for {' '.join(issued_for)}; it was used in {' '.join(place)}"
            found.append(Problem(Reason.PERMIT_USED_ELSEWHERE, said))
        digest, wanted = use.get("artifact_digest", ""), permit.get("artifact_digest", "")
        if digest and wanted and digest != wanted:
            said = f"the permit {name!r} is for {wanted}; it was used for {digest}"
            found.append(Problem(Reason.PERMIT_USED_FOR_OTHER_ARTIFACT, said))
        ends = permit.get("valid_until")
        if ends and use["corrected_at"] - width_of(use) > ends + LEEWAY_SECONDS * SECOND:
            found.append(Problem(Reason.PERMIT_USED_LATE, f"the permit {name!r} had expired when it was used at {at}"))
    if len(clusters) > 1 and not any(p.reason is Reason.PERMIT_USED_ELSEWHERE for p in found):
        said = f"the permit {name!r} was used in {len(clusters)} clusters: {', '.join(c[2] for c in sorted(clusters))}"
        found.append(Problem(Reason.PERMIT_USED_ELSEWHERE, said))
    return found


def _permits(steps: Iterable[Step], kind: str) -> list[Step]:
    return [step for step in steps if step["approval_type"] == kind and _permit_id(step)]


def _permit_id(step: Step) -> str:
    return str(step.get("tags", {}).get("permit_id", ""))
