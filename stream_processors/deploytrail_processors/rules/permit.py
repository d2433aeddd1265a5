"""What a permit says, once a deployment is allowed: its claims, and the Approval that tells of its issue.

The claims are those of `deploytrail_schemas.permits`. A permit ends with what it rests on: the change window,
the approvals. Its id follows from deployment, artifact and second, so that the same question has the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.permits import LONGEST_SECONDS

from deploytrail_processors.rules.approval import Judgement
from deploytrail_processors.rules.approval_steps import Asked

SOURCE = "gate"
NO_TICKET = "none"  # where none is required; the claim must not be empty
SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Issuer:
    """In whose name permits are issued, for whom, and for how long at most."""

    issuer: str
    audience: str
    seconds: int = LONGEST_SECONDS


def claims_of(asked: Asked, judgement: Judgement, issuer: Issuer, now: int) -> dict[str, Any]:
    """The claims of a permit for an allowed deployment. `now`: the gate's clock, in µs."""
    issued = now // SECOND
    ends = issued + min(issuer.seconds, LONGEST_SECONDS)
    if judgement.until is not None:
        ends = min(ends, judgement.until // SECOND)
    return {
        "iss": issuer.issuer,
        "aud": issuer.audience,
        "sub": asked.deployment_id,
        "jti": name_based_id(SOURCE, asked.deployment_id, asked.artifact_digest, str(issued)),
        "iat": issued,
        "nbf": issued,
        "exp": max(ends, issued + 1),
        "service": asked.service,
        "environment": asked.environment,
        "region": asked.region,
        "artifact_digest": asked.artifact_digest,
        "change_ticket": (judgement.registration or {}).get("change_ticket") or NO_TICKET,
    }


def issued(
    claims: dict[str, Any], judgement: Judgement, *, kid: str, caller: str, tzdata: str, now: int
) -> dict[str, Any]:
    """The Approval `permit_issued` as it is written to the trail. `tzdata`: the version of the time zone database by
    which windows were judged."""
    ticket = claims["change_ticket"]
    tags = {
        "permit_id": claims["jti"],
        "kid": kid,
        "asked_by": caller,
        "approvers": ", ".join(judgement.approvers),
        "policies": ", ".join(judgement.documents),
        "tzdata": tzdata,
    }
    return {
        "approval_id": name_based_id(SOURCE, "permit_issued", claims["jti"]),
        "approval_type": "permit_issued",
        "occurred_at": now,
        "deployment_id": claims["sub"],
        **{name: claims[name] for name in ("region", "environment", "service", "artifact_digest")},
        "change_ticket": ticket if ticket != NO_TICKET else "",
        "justification": judgement.reason.value,
        "valid_from": claims["nbf"] * SECOND,
        "valid_until": claims["exp"] * SECOND,
        "producer_id": SOURCE,
        "source": SOURCE,
        "tags": {name: text for name, text in tags.items() if text},
        "received_at": now,
        "corrected_at": now,
        "uncertainty_ms": 0,
        "reporter": SOURCE,
    }
