"""Steps of approvals as rules keep and compare them: what is asked for, when, and by whom it was said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.reasons import Reason

Step = Mapping[str, Any]
# What is kept of an Approval, of which a deployment may have many.
KEPT = (
    "approval_id",
    "approval_type",
    "corrected_at",
    "uncertainty_ms",
    "region",
    "environment",
    "service",
    "deployment_id",
    "artifact_digest",
    "change_ticket",
    "approver",
    "approver_role",
    "justification",
    "valid_from",
    "valid_until",
    "emergency",
    "source",
)
_PLACE = ("service", "environment", "region")
# They check permits where something is about to run, and tell of one that does not hold as `rejected`.
_CHECKS_PERMITS = frozenset({"kubernetes_admission", "aws_hook"})
UNSAID = frozenset({"", "unknown", "other"})
KEPT_TAGS = ("deployer", "commit_authors", "author", "kind", "version", "permit_id", "cluster", "namespace", "workload")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be deployed, or was."""

    deployment_id: str
    service: str
    environment: str
    region: str
    artifact_digest: str
    kind: str = ""
    team: str = ""
    tier: str = ""
    deployer: str = ""

    def subject(self) -> dict[str, str]:
        """What scopes of policies look at."""
        names = ("service", "team", "environment", "region", "tier", "kind")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Moment:
    """The instant that is judged, ± `uncertainty` (µs). `is_now`: every step that is known lies before it."""

    at: int
    uncertainty: int = 0
    is_now: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason against it, in words too. Not `certain`: a clock decides whether it holds."""

    reason: Reason
    detail: str
    certain: bool = True


def keep(value: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an Approval of the trail."""
    tags = {name: value["tags"][name] for name in KEPT_TAGS if name in value["tags"]}
    kept = {name: value[name] for name in KEPT if value[name] not in ("", None, False)}
    return kept | ({"tags": tags} if tags else {})


def is_refusal(step: Step) -> bool:
    """Whether a step tells that a machine refused a permit, or one that did not hold: nobody's decision about what is
    to be deployed."""
    kind = step["approval_type"]
    return kind == "permit_refused" or (kind == "rejected" and step.get("source", "") in _CHECKS_PERMITS)


def order(step: Step) -> tuple[int, str]:
    """By time; total."""
    return step["corrected_at"], step["approval_id"]


def deployment_of(step: Step) -> str:
    """The deployment that a step names; empty where it names none."""
    return str(step.get("deployment_id", ""))


def width_of(step: Step) -> int:
    """Half the width of the interval in which it happened, in µs."""
    return int(step.get("uncertainty_ms", 0)) * 1000


def side_of(step: Step, moment: Moment) -> int:
    """-1 before the moment, 1 after it, 0 where the clocks cannot tell."""
    if moment.is_now:
        return -1
    width = width_of(step) + moment.uncertainty
    if step["corrected_at"] + width <= moment.at:
        return -1
    return 1 if step["corrected_at"] - width > moment.at else 0


def is_at(step: Step, place: Mapping[str, Any]) -> bool:
    """Whether a step is about a place; what it does not say fits everywhere."""
    return all(step.get(name, "") in UNSAID or step[name] == place[name] for name in _PLACE)


def hands_of(steps: Iterable[Step], deployment_id: str, deployer: str) -> tuple[list[str], list[str]]:
    """Who deploys, and who wrote the commits, as far as a deployment's registrations and its own word tell. Whoever
    registered it once as its deployer or author stays one: a later registration takes nobody's hands off."""
    own = [s for s in steps if s["approval_type"] == "registered" and deployment_of(s) == deployment_id]
    tags = [step.get("tags", {}) for step in own]
    deployers = [name for name in (deployer, *(t.get("deployer", "") for t in tags)) if name]
    return deployers, [name for t in tags for name in (*t.get("commit_authors", "").split(","), t.get("author", ""))]
