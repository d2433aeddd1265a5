"""Was each deployment started inside a change window? One standing finding a deployment."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Context, over_trail
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import change_window, lifecycle
from deploytrail_processors.safe_app import SafeApp


class ChangeWindow:
    """Row: facts, and the standing `finding`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return
        row = self._deployments.get(partition, value["deployment_id"])
        row["facts"] = lifecycle.add(row["facts"], value)
        content = self._deployments.derive(partition, row["facts"])
        if content["started_at"] is not None and content["state"] != "voided":
            found = self._judge(content)
            standing = row.get("finding")
            if standing and standing["finding_id"] != found["finding_id"]:
                found["supersedes"] = standing["finding_id"]
            elif standing:
                found = standing
            row["finding"] = found
            self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)
        self._deployments.put(partition, row)

    def on_tick(self, partition: int, now: int) -> None:
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()

    def _judge(self, content: dict[str, Any]) -> dict[str, Any]:
        policies = self._context.policies_at(content["started_at"])
        service = policies.service(content["service"])
        subject = {
            **{name: content[name] for name in ("service", "environment", "region", "kind")},
            "team": service.team or content["team"],
            "tier": service.tier or content["tier"],
        }
        width = content["started_at_uncertainty_ms"] or 0
        judgement = change_window.judge(subject, policies, at=content["started_at"], uncertainty=width * 1000)
        return change_window.to_finding(
            {**content, "corrected_at": content["started_at"], "uncertainty_ms": width}, subject, judgement
        )


def make(settings: Settings) -> SafeApp:
    """The change_window app."""
    return over_trail("change_window", settings, ChangeWindow)
