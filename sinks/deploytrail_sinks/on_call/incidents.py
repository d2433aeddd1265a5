"""Whom does a record or a finding page, and what does it clear?

In: a decoded Record or Finding. Out: changes of incidents, and what is said of an alert, of which `alerts` makes one.
Pages come from verdicts, never from raw signals, and only about production. What `alert_suppression` says of an alert
holds it back or lets it go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.policies.in_force import InForce, is_production
from deploytrail_schemas.reasons import Outcome
from deploytrail_schemas.records import RecordType

FAILED = "deployment_failed"
_ENDED = frozenset({"succeeded", "failed", "cancelled", "rolled_back", "superseded", "voided", "merged"})
_URGENT = frozenset({"critical", "error"})


CORRELATION = "incident_correlation"


class Action(StrEnum):
    """What happens to an incident. `withdraw` drops a page that nobody has seen yet, and takes none back."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"
    WITHDRAW = "withdraw"


class Word(StrEnum):
    """What a finding says of one alert: that it needs somebody or does not, that it keeps quiet or is shown."""

    RAISE = "raise"
    TAKE_BACK = "take_back"
    HOLD = "hold"
    LET_GO = "let_go"


# Any other reason shows the alert.
_SAID_OF_AN_ALERT = {"suppressed_during_deployment": Word.HOLD, "resolved_while_suppressed": Word.TAKE_BACK}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one incident. `at` is what it speaks of, microseconds; only a trigger needs more than its key.

    `may_wait`: a page that may yet be held back. `cause`: the deployment that it names; where a page about that one is
    open already, it may wait as well.
    """

    key: str
    action: Action
    at: int
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)
    may_wait: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a finding says of an alert. `incident`: the alert that began the storm which it belongs to; empty for none
    that is known."""

    signal_id: str
    word: Word
    at: int
    incident: str = ""
    severity: str = ""
    title: str = ""
    details: dict[str, str] = field(default_factory=dict)


def changes(kind: RecordType, value: Mapping[str, Any], policies: InForce) -> Sequence[Change | Said]:
    """The changes that a Record or a Finding makes; none for other kinds, nor where nothing is production by policy."""
    if not is_production(value.get("environment", ""), policies):
        return []
    if kind is RecordType.RECORD:
        return _of_record(value)
    if kind is RecordType.FINDING:
        return _of_finding(value)
    return []


def moment(value: Mapping[str, Any]) -> int:
    """What a Record or a Finding speaks of, microseconds: the policies of then hold for it."""
    return int(value.get("occurred_at") or value.get("finished_at") or value.get("recorded_at") or 0)


def _of_record(record: Mapping[str, Any]) -> list[Change]:
    deployment_id, at = record["deployment_id"], moment(record)
    # What failed by its child is paged once, about the child.
    if record["state"] == "failed" and record["outcome_reason"] != Outcome.CHILD_FAILED:
        title = f"Deployment of {_what(record)} to {record['region']} failed"
        failed = Change(f"{FAILED}/{deployment_id}", Action.TRIGGER, at, "error", title, _details(record))
    else:
        failed = Change(f"{FAILED}/{deployment_id}", Action.RESOLVE, at)
    # What was lost and followed by a newer one needs nobody any more, though it never told of its end.
    if record["state"] in _ENDED or record["superseded_by"]:
        return [failed, Change(f"overdue/{deployment_id}", Action.RESOLVE, at)]
    return [failed]


def _of_finding(finding: Mapping[str, Any]) -> Sequence[Change | Said]:
    rule, at = finding["rule"], finding["occurred_at"]
    if rule == "alert_suppression":
        if finding["reason"] == "same_deployment":
            return []  # the deployment goes by another name, under which the same is said of the alert
        return [Said(finding["signal_id"], _SAID_OF_AN_ALERT.get(finding["reason"], Word.LET_GO), at)]
    if rule == CORRELATION and finding["rank"] == 1:
        return [_of_alert(finding)]
    if rule not in ("change_window", "change_window_overrun", "overdue"):
        return []
    key = f"{rule}/{finding['deployment_id']}"
    if finding["verdict"] != "violation":
        return [Change(key, Action.RESOLVE, at)]
    return [Change(key, Action.TRIGGER, at, finding["severity"], finding["explanation"], _details(finding))]


def _of_alert(finding: Mapping[str, Any]) -> Said:
    # Whose cause is no known deployment, monitoring pages about by itself.
    raised = finding["verdict"] == "violation" and finding["severity"] in _URGENT
    return Said(
        finding["signal_id"],
        Word.RAISE if raised else Word.TAKE_BACK,
        finding["occurred_at"],
        finding["evidence"].get("incident", ""),
        finding["severity"],
        finding["explanation"],
        _details(finding),
    )


def _what(record: Mapping[str, Any]) -> str:
    return f"{record['service']} {record['version']}".strip()


def _details(value: Mapping[str, Any]) -> dict[str, str]:
    names = (
        *("deployment_id", "signal_id", "service", "environment", "region", "version", "deployer", "team", "error"),
        *("rule", "reason", "finding_id"),
    )
    found = {name: str(value[name]) for name in names if value.get(name)}
    at = value.get("finished_at") or value.get("occurred_at")
    return found | ({"at": format_instant(at)} if at else {})
