"""Whole record values for tests: all fields, of which a test says only those that matter to it."""

from __future__ import annotations

import uuid
from typing import Any

from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType

NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z, a Monday
SECOND = 1_000_000
MINUTE = 60 * SECOND


def stable_id(name: str) -> str:
    """A UUID that is the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def event(event_type: str, at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A deployment event as it stands on the trail: corrected, with every field."""
    name = (
        f"{fields.get('deployment_id', 'shop-1')}/{event_type}/{at}/{fields.get('cohort', '')}/{fields.get('source')}"
    )
    return _whole(
        RecordType.DEPLOYMENT_EVENT,
        {
            "event_id": stable_id(name),
            "event_type": event_type,
            "deployment_id": "shop-1",
            "occurred_at": at,
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "producer_id": "runner-7",
            "source": "library",
            "received_at": at,
            "corrected_at": at,
            "uncertainty_ms": 0,
        }
        | fields,
    )


def signal(signal_type: str = "alert_firing", at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A signal as it stands on the trail."""
    return _whole(
        RecordType.SIGNAL,
        {
            "signal_id": stable_id(f"{signal_type}/{at}/{fields.get('service')}/{fields.get('fingerprint')}"),
            "signal_type": signal_type,
            "occurred_at": at,
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "source": "alertmanager",
            "fingerprint": "f1",
            "severity": "critical",
            "title": "HighErrorRate",
            "received_at": at,
            "corrected_at": at,
            "uncertainty_ms": 0,
        }
        | fields,
    )


def approval(approval_type: str = "approved", at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A step of an approval as it stands on the trail."""
    return _whole(
        RecordType.APPROVAL,
        {
            "approval_id": stable_id(f"{approval_type}/{at}/{fields.get('approver')}/{fields.get('deployment_id')}"),
            "approval_type": approval_type,
            "occurred_at": at,
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "deployment_id": "shop-1",
            "source": "jira",
            "received_at": at,
            "corrected_at": at,
            "uncertainty_ms": 0,
        }
        | fields,
    )


def observation(at: int = NOON, **fields: Any) -> dict[str, Any]:
    """An observation of what runs, as it stands on the trail."""
    return _whole(
        RecordType.OBSERVATION,
        {
            "observation_id": stable_id(f"{at}/{fields}"),
            "observation_type": "running",
            "occurred_at": at,
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "source": "kubernetes",
            "received_at": at,
            "corrected_at": at,
            "uncertainty_ms": 0,
        }
        | fields,
    )


def record(state: str = "running", at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A deployment's record at some revision, as the lifecycle app writes it."""
    return _whole(
        RecordType.RECORD,
        {
            "deployment_id": "shop-1",
            "revision": 1,
            "state": state,
            "recorded_at": at,
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "sources": ["library"],
            "deployment_ids": [fields.get("deployment_id", "shop-1")],
        }
        | fields,
    )


def _whole(kind: RecordType, value: dict[str, Any]) -> dict[str, Any]:
    return decode(encode(kind, value))[1]
