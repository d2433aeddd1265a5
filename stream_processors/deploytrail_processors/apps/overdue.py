"""Which deployments run longer than they should?"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import lifecycle, overdue
from deploytrail_processors.safe_app import SafeApp


class Overdue:
    """Row: facts, and the standing `finding` once it was overdue."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, self._due)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return
        row = self._deployments.get(partition, value["deployment_id"])
        row["facts"] = lifecycle.add(row["facts"], value)
        self._judge(partition, row)

    def on_tick(self, partition: int, now: int) -> None:
        for _, row in self._deployments.agenda.pop_all(partition, now):
            self._judge(partition, dict(row))
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()

    def _judge(self, partition: int, row: Row) -> None:
        content = self._deployments.derive(partition, row["facts"])
        policies = self._deployments.policies(row["facts"])
        standing = row.get("finding")
        if standing is None:
            now = self._context.partition_time(partition)
            standing = overdue.find_overdue(content, policies, now=now)
        elif standing["verdict"] == "violation":
            standing = overdue.find_in_time(content, policies, overdue=standing) or standing
        if standing is not None:
            row["finding"] = standing
            self._context.forward(Topic.FINDINGS, partition, standing["finding_id"], RecordType.FINDING, standing)
        self._deployments.put(partition, row)

    def _due(self, row: Row) -> int | None:
        if "finding" in row or not lifecycle.is_open(row["facts"]):
            return None
        policies = self._deployments.policies(row["facts"])
        # Not yet lost, whatever the time is: being overdue comes first.
        return overdue.due(lifecycle.derive(row["facts"], 0, None), policies)


def make(settings: Settings) -> SafeApp:
    """The overdue app."""
    return over_trail("overdue", settings, Overdue)
