"""What could each production deployment hurt? One standing finding a deployment, again when facts change."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import impact, lifecycle
from deploytrail_processors.rules.findings import next_link
from deploytrail_processors.safe_app import SafeApp


class Impact:
    """Row: facts, and the chain of `answers` so far. What other names of a deployment were answered is taken back."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return
        changed = self._deployments.add(partition, value)
        for row in (*changed.rows, *changed.merged):
            self._judge(partition, row)

    def _judge(self, partition: int, row: Row) -> None:
        content = self._deployments.derive(partition, row["facts"])
        answers = row.get("answers")
        policies = self._context.policies_at(impact.time_of(content))
        standing = answers["finding"] if answers else None
        found = impact.find_impact(content, _weights(row["facts"]), policies, standing)
        if found is not None:
            row["answers"] = answers = next_link(answers, found)
            # Written again also when nothing changed: the state may have outlived the output of a crash.
            said = answers["finding"]
            self._context.forward(Topic.FINDINGS, partition, said["finding_id"], RecordType.FINDING, said)
        self._deployments.put(partition, row)

    def on_tick(self, partition: int, now: int) -> None:
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()


def _weights(facts: lifecycle.Facts) -> dict[str, float]:
    return {cohort: float(weight) for cohort, (_, weight) in facts["weights"].items()}


def make(settings: Settings) -> SafeApp:
    """The impact app."""
    return over_trail("impact", settings, Impact)
