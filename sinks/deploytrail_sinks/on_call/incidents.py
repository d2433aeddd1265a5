"""Whom does a record or a finding page, and what does it clear?

In: a decoded Record or Finding. Out: changes of incidents. Pages come from verdicts, never from
raw signals, and only about production. What `alert_suppression` says of an alert holds its page back
or lets it go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.records import RecordType

FAILED = "deployment_failed"
_ENDED = frozenset({"succeeded", "failed", "cancelled", "rolled_back", "superseded", "voided", "merged"})
_URGENT = frozenset({"critical", "error"})


class Action(StrEnum):
    """What happens to an incident."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"
    HOLD = "hold"
    LET_GO = "let_go"


# Any other reason shows the alert.
_SAID_OF_AN_ALERT = {"suppressed_during_deployment": Action.HOLD, "resolved_while_suppressed": Action.RESOLVE}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one incident. `at` is what it speaks of, microseconds; only a trigger needs more than its key.

    `may_wait`: a page that may yet be held back.
    """

    key: str
    action: Action
    at: int
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)
    may_wait: bool = False


def changes(kind: RecordType, value: Mapping[str, Any]) -> list[Change]:
    """The changes that a Record or a Finding makes; none for other kinds and other environments."""
    if value.get("environment") != "production":
        return []
    if kind is RecordType.RECORD:
        return _of_record(value)
    if kind is RecordType.FINDING:
        return _of_finding(value)
    return []


def _of_record(record: Mapping[str, Any]) -> list[Change]:
    deployment_id, at = record["deployment_id"], record["finished_at"] or record["recorded_at"]
    if record["state"] == "failed":
        title = f"Deployment of {_what(record)} to {record['region']} failed"
        failed = Change(f"{FAILED}/{deployment_id}", Action.TRIGGER, at, "error", title, _details(record))
    else:
        failed = Change(f"{FAILED}/{deployment_id}", Action.RESOLVE, at)
    # What was lost and followed by a newer one needs nobody any more, though it never told of its end.
    if record["state"] in _ENDED or record["superseded_by"]:
        return [failed, Change(f"overdue/{deployment_id}", Action.RESOLVE, at)]
    return [failed]


def _of_finding(finding: Mapping[str, Any]) -> list[Change]:
    rule, at = finding["rule"], finding["occurred_at"]
    if rule == "alert_suppression" and finding["reason"] == "same_deployment":
        return []  # the deployment goes by another name, under which the same is said of the alert
    if rule == "alert_suppression":
        action = _SAID_OF_AN_ALERT.get(finding["reason"], Action.LET_GO)
        return [Change(f"incident_correlation/{finding['signal_id']}", action, at)]
    if rule in ("change_window", "change_window_overrun", "overdue"):
        key = f"{rule}/{finding['deployment_id']}"
        raised = finding["verdict"] == "violation"
    elif rule == "incident_correlation" and finding["rank"] == 1:
        # Whose cause is no known deployment, monitoring pages about by itself.
        key = f"{rule}/{finding['signal_id']}"
        raised = finding["verdict"] == "violation" and finding["severity"] in _URGENT
    else:
        return []
    if not raised:
        return [Change(key, Action.RESOLVE, at)]
    details = _details(finding) | {"rule": rule, "reason": finding["reason"], "finding_id": finding["finding_id"]}
    # What is critical is never suppressed, so it waits for nothing.
    may_wait = rule == "incident_correlation" and finding["severity"] != "critical"
    return [Change(key, Action.TRIGGER, at, finding["severity"], finding["explanation"], details, may_wait)]


def _what(record: Mapping[str, Any]) -> str:
    return f"{record['service']} {record['version']}".strip()


def _details(value: Mapping[str, Any]) -> dict[str, str]:
    names = ("deployment_id", "signal_id", "service", "environment", "region", "version", "deployer", "team", "error")
    found = {name: str(value[name]) for name in names if value.get(name)}
    at = value.get("finished_at") or value.get("occurred_at")
    return found | ({"at": format_instant(at)} if at else {})
