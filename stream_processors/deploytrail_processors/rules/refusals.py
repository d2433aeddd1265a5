"""Refused permits on the trail: what an Approval `permit_refused` says, and which refusals are told.

In: the question, the verdict, what was told of this deployment last. Out: the record, or None where it would say again
what was said within the hour, or where the deployment has filled its share of the trail.

A refusal is no approver's decision and no part of a deployment: it stands on the trail for people to read, and no rule
looks at it. So its ticket is not named, which would tie the deployment to it, and nothing of it is kept as a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.redaction import redact_value

from deploytrail_processors.rules.approval import Judgement
from deploytrail_processors.rules.approval_steps import Asked
from deploytrail_processors.rules.permit import SOURCE

TYPE = "permit_refused"
HOUR = 3_600_000_000
# After so many within an hour of each other, a deployment whose reasons change to and fro is told of no more.
MOST = 20
# Characters of the words in a record.
LONGEST = 4000

Told = Mapping[str, Any]  # `at`, `said`, `id` and `count` of the refusals of a deployment that were told last


def record_of(asked: Asked, judgement: Judgement, *, caller: str, tzdata: str, now: int) -> dict[str, Any]:
    """The Approval `permit_refused` but for its id. `now`: the gate's clock, in µs. Secrets are taken out of it."""
    tags = {
        "verdict": judgement.position.value,
        "reasons": ",".join(reason.value for reason in judgement.reasons),
        "asked_by": caller,
        "deployer": asked.deployer,
        "kind": asked.kind,
        "policies": ", ".join(judgement.documents),
        "tzdata": tzdata,
    }
    record = {
        "approval_type": TYPE,
        "occurred_at": now,
        "deployment_id": asked.deployment_id,
        **{name: getattr(asked, name) for name in ("region", "environment", "service", "artifact_digest")},
        "justification": "; ".join(f"{one.reason.value}: {one.detail}" for one in judgement.problems)[:LONGEST],
        "producer_id": SOURCE,
        "source": SOURCE,
        "tags": {name: text for name, text in tags.items() if text},
        "received_at": now,
        "corrected_at": now,
        "uncertainty_ms": 0,
        "reporter": SOURCE,
    }
    return redact_value(record)


def to_tell(record: Mapping[str, Any], told: Told | None) -> dict[str, Any] | None:
    """The record with its id, where it is to be told after what was told last of its deployment.

    The same question at the same time has the same id, whoever of two workers answers it.
    """
    said, now = _said(record), record["corrected_at"]
    if told is not None and now - told["at"] < HOUR and (told["said"] == said or told["count"] >= MOST):
        return None
    after = told["id"] if told is not None else ""
    return {**record, "approval_id": name_based_id(SOURCE, TYPE, said, after, str(now // HOUR))}


def with_told(told: Told | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """What was told last, with one more refusal of the trail."""
    at = record["corrected_at"]
    count = 0 if told is None or at - told["at"] >= HOUR else told["count"]
    new = told is None or told["id"] != record["approval_id"]
    return {"at": at, "said": _said(record), "id": record["approval_id"], "count": count + new}


def _said(record: Mapping[str, Any]) -> str:
    """What is refused, to whom and why, without words that change with the time."""
    place = [record[name] for name in ("deployment_id", "region", "environment", "service", "artifact_digest")]
    tags = [record["tags"].get(name, "") for name in ("verdict", "reasons", "policies", "asked_by", "deployer", "kind")]
    return name_based_id(SOURCE, json.dumps([place, tags]))
