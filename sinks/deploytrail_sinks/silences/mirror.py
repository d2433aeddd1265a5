"""What a finding about an alert asks of Alertmanager: pure.

In: a finding of `alert_suppression`. Out: a silence that is to be, or that of a signal is to end. A silence fits the
labels of the alert, never a critical one, and ends by itself when the suppression would at the latest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploytrail_schemas.instants import format_instant, to_micros

CREATED_BY = "deploytrail"
RULE, SUPPRESSED = "alert_suppression", "suppressed_during_deployment"
_ENDS = ("released_", "resolved_while_suppressed")
_LONGEST_COMMENT = 1000
_COUNTED_BY = "producer_seq"  # the agent's number of a signal: no label of the alert, and another each time


@dataclass(frozen=True, slots=True)
class Begin:
    """A silence that is to be. `signal_id` names it; times in µs."""

    signal_id: str
    labels: Mapping[str, str]
    begin: int
    until: int
    why: str

    def body(self, now: int) -> dict[str, Any]:
        """A postableSilence of Alertmanager's v2 API (api/v2/openapi.yaml)."""
        matchers = [
            {"name": name, "value": value, "isRegex": False, "isEqual": True}
            for name, value in sorted(self.labels.items())
        ]
        if "severity" not in self.labels:
            # Alerts with more labels than this one fit too; the critical ones among them must not.
            matchers.append({"name": "severity", "value": "critical", "isRegex": False, "isEqual": False})
        return {
            "matchers": matchers,
            "startsAt": format_instant(max(self.begin, now)),
            "endsAt": format_instant(self.until),
            "createdBy": CREATED_BY,
            "comment": f"{self.why[:_LONGEST_COMMENT]} {mark(self.signal_id)}",
        }


@dataclass(frozen=True, slots=True)
class End:
    """The silence of a signal is to end."""

    signal_id: str


def mark(signal_id: str) -> str:
    """What a silence's comment ends with: by it the silence of a signal is known again."""
    return f"[signal {signal_id}]"


def marked(comment: str) -> str:
    """The signal that a comment names; empty for a comment of somebody else."""
    _, found, rest = comment.rpartition("[signal ")
    return rest.removesuffix("]") if found and rest.endswith("]") else ""


def change_of(finding: Mapping[str, Any], sources: frozenset[str], now: int) -> Begin | End | None:
    """What a finding asks for; None for nothing.

    Only signals of `sources` are mirrored, whose feed a silence does not stop: of others we would not hear that they
    resolved. What has no name there, or is over, is passed over.
    """
    if finding["rule"] != RULE or not finding["signal_id"]:
        return None
    evidence = finding["evidence"]
    until = _micros(evidence.get("until", ""))
    if finding["reason"].startswith(_ENDS):
        return End(finding["signal_id"]) if until is None or until > now else None
    if finding["reason"] != SUPPRESSED or evidence.get("source", "") not in sources or until is None or until <= now:
        return None
    labels = _labels(evidence.get("labels", ""))
    if not labels.get("alertname"):
        return None
    begin = _micros(evidence.get("begin", ""))
    return Begin(finding["signal_id"], labels, begin if begin is not None else now, until, finding["explanation"])


def _labels(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    # A label without a value is none, and a matcher of nothing but such would fit everything.
    labels = {str(name): value for name, value in found.items() if isinstance(value, str) and value}
    labels.pop(_COUNTED_BY, None)
    return labels


def _micros(text: str) -> int | None:
    try:
        return to_micros(datetime.fromisoformat(text))
    except ValueError:
        return None
