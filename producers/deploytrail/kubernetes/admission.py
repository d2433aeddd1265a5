"""Whether a change of a Kubernetes object may come in. Pure: the request, the policy and the time in, a verdict out.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/

A new image in a regulated namespace needs a permit for its digest, shown in the annotation
`deploytrail.dev/permit` of the workload. Scaling, status and whatever brings no new image pass, and
so do pods that Kubernetes' own controllers make of workloads that were let in: rescheduling never
needs a permit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.permits import Authority, Permit, PermitProblem, Subject, verify_permit
from deploytrail_schemas.reasons import AdmissionReason, PermitRefusal
from deploytrail_schemas.scopes import matches

from deploytrail._images import Image, is_exempt
from deploytrail.adapters.base import OTHER_REGION, first, items, text, texts
from deploytrail.kubernetes.workloads import (
    DEPLOYMENT_ID,
    SYSTEM_NAMESPACES,
    Workload,
    environment_of,
    read_workload,
)

SOURCE = "kubernetes_admission"
REVIEW = "admission.k8s.io/v1"
_MIRROR = "kubernetes.io/config.mirror"
_WARNING_LIMIT = 250  # Kubernetes cuts longer ones
_OWN_CONTROLLERS = ("system:serviceaccount:kube-system:*-controller", "system:kube-controller-manager")
# permit id and workload → generation of the object before the change that the permit was used for
Uses = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What the settings say. `authority`: None while the keys cannot be had: nothing regulated comes in then."""

    authority: Authority | None
    region: str
    environment: str = ""
    cluster: str = ""
    environments: Mapping[str, str] = field(default_factory=dict)
    regulated_namespaces: frozenset[str] = frozenset()
    exempt_images: tuple[str, ...] = ()
    controllers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdmissionVerdict:
    """The answer to a request, and what to remember and to record of it."""

    allowed: bool
    reason: AdmissionReason
    problems: tuple[PermitProblem, ...] = ()
    permit: Permit | None = None
    use: tuple[tuple[str, str], int] | None = None
    is_recorded: bool = False
    workload: Workload | None = None
    digest: str = ""


def decide(
    request: Mapping[str, Any], policy: AdmissionPolicy, *, regulated: bool, now: float, used: Uses
) -> AdmissionVerdict:
    """The verdict over the `request` of an AdmissionReview, at `now` in seconds.

    `regulated`: whether the webhook that was called is the one of regulated namespaces; those that the
    policy names are regulated too. `used`: what permits were used for before.
    """
    workload = read_workload(request.get("object"))
    namespace = first(text(request, "namespace"), workload.namespace)
    passed = _passes(request, namespace, workload, policy)
    if passed is not None:
        return AdmissionVerdict(True, passed)
    new = _new_images(request, workload)
    if not new:
        return AdmissionVerdict(True, AdmissionReason.NO_NEW_IMAGE)
    bound = [image for image in new if not is_exempt(image, policy.exempt_images)]
    if not bound:
        return AdmissionVerdict(True, AdmissionReason.EXEMPT_IMAGES)
    regulated = regulated or namespace in policy.regulated_namespaces
    if not regulated and not workload.permit:
        return AdmissionVerdict(True, AdmissionReason.NOT_REGULATED)
    problems, permit = _judge(workload, namespace, bound, policy, now)
    key = (permit.id if permit else "", f"{namespace}/{workload.kind}/{workload.name}")
    before = read_workload(request.get("oldObject")).generation
    # The API server asks again when it tries a change again: the same change is no second use.
    if permit and used.get(key, before) != before:
        said = f"the permit {permit.id!r} was used for {workload.name} before"
        problems = (*problems, PermitProblem(PermitRefusal.ALREADY_USED, said))
    real = request.get("dryRun") is not True
    holds = not problems
    return AdmissionVerdict(
        allowed=holds or not regulated,
        reason=AdmissionReason.PERMIT_HOLDS
        if holds
        else AdmissionReason.PERMIT_REFUSED
        if regulated
        else AdmissionReason.NOT_REGULATED,
        problems=problems,
        permit=permit,
        use=(key, before) if holds and real else None,
        is_recorded=real and (holds or regulated),
        workload=workload,
        digest=bound[0].digest,
    )


def answer(request: Mapping[str, Any], verdict: AdmissionVerdict) -> dict[str, Any]:
    """The AdmissionReview that is sent back: every reason in the message, which kubectl shows."""
    response: dict[str, Any] = {"uid": text(request, "uid"), "allowed": verdict.allowed}
    said = {"reason": verdict.reason.value, "permit": verdict.permit.id if verdict.permit else ""}
    response["auditAnnotations"] = texts(**said)
    reasons = [f"{problem.reason}: {problem.detail}" for problem in verdict.problems]
    if not verdict.allowed:
        message = f"deploytrail: the permit in deploytrail.dev/permit does not allow this. {'; '.join(reasons)}"
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    elif reasons:
        response["warnings"] = [f"deploytrail: {reason}"[:_WARNING_LIMIT] for reason in reasons]
    return {"apiVersion": REVIEW, "kind": "AdmissionReview", "response": response}


def record_of(
    request: Mapping[str, Any], verdict: AdmissionVerdict, policy: AdmissionPolicy, at: int
) -> dict[str, Any] | None:
    """The Approval that tells of a verdict, `permit_used` or `rejected`; None for one that is not told. `at`: in µs.

    A request has one id, so that one that is told twice is one record.
    """
    workload, permit = verdict.workload, verdict.permit
    if not verdict.is_recorded or workload is None:
        return None
    namespace = first(text(request, "namespace"), workload.namespace)
    value = {
        "approval_id": name_based_id(SOURCE, policy.cluster, text(request, "uid")),
        "approval_type": "permit_used" if verdict.allowed else "rejected",
        "occurred_at": at,
        "region": policy.region or OTHER_REGION,
        "environment": environment_of(namespace, policy.environments, policy.environment),
        "service": workload.service,
        "producer_id": f"{SOURCE}:{policy.cluster}" if policy.cluster else SOURCE,
        "source": SOURCE,
        "deployment_id": permit.deployment_id if permit else text(workload.annotations, DEPLOYMENT_ID),
        "artifact_digest": verdict.digest,
        "change_ticket": permit.change_ticket if permit else "",
        "valid_from": permit.not_before * 1_000_000 if permit else None,
        "valid_until": permit.expires_at * 1_000_000 if permit else None,
        "justification": "; ".join(f"{p.reason}: {p.detail}" for p in verdict.problems),
        "tags": texts(
            permit_id=permit.id if permit else "",
            reasons=",".join(dict.fromkeys(problem.reason for problem in verdict.problems)),
            cluster=policy.cluster,
            namespace=namespace,
            workload=f"{workload.kind}/{workload.name}",
            operation=text(request, "operation"),
            user=text(request, "userInfo", "username"),
        ),
    }
    return {name: item for name, item in value.items() if item not in (None, "")}


def _passes(
    request: Mapping[str, Any], namespace: str, workload: Workload, policy: AdmissionPolicy
) -> AdmissionReason | None:
    """Why a request is none of a permit's business; None where it may be."""
    if namespace in SYSTEM_NAMESPACES:
        return AdmissionReason.SYSTEM_NAMESPACE
    if text(request, "subResource") or text(request, "operation") not in ("CREATE", "UPDATE") or not workload.images:
        return AdmissionReason.NOT_A_ROLLOUT
    user = text(request, "userInfo", "username")
    # An owner alone proves nothing: whoever writes an object writes its owner too.
    made = workload.controller and any(matches(p, user) for p in (*_OWN_CONTROLLERS, *policy.controllers))
    mirror = _MIRROR in workload.annotations and "system:nodes" in items(request, "userInfo", "groups")
    return AdmissionReason.MADE_BY_CONTROLLER if made or mirror else None


def _new_images(request: Mapping[str, Any], workload: Workload) -> list[Image]:
    before = read_workload(request.get("oldObject")).images if text(request, "operation") == "UPDATE" else ()
    return [image for image in workload.images if image not in before]


def _judge(
    workload: Workload, namespace: str, images: list[Image], policy: AdmissionPolicy, now: float
) -> tuple[tuple[PermitProblem, ...], Permit | None]:
    """What stands against the permit that the workload shows, for all of its new images."""
    if policy.authority is None:
        said = "the keys of the gate cannot be had at present"
        return (PermitProblem(PermitRefusal.NO_KEYS, said),), None
    environment = environment_of(namespace, policy.environments, policy.environment)
    problems: dict[PermitProblem, None] = {}
    permits: list[Permit | None] = []
    for digest in dict.fromkeys(image.digest or image.reference for image in images):
        subject = Subject(
            digest,
            workload.service,
            environment,
            policy.region,
            text(workload.annotations, DEPLOYMENT_ID) or None,
        )
        verdict = verify_permit(workload.permit, subject, policy.authority, now=now)
        problems.update(dict.fromkeys(verdict.problems))
        permits.append(verdict.permit)
    return tuple(problems), permits[0]
