"""Which deployments began without registration, approval or permit? What the gate cannot prevent, this finds."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.approvals import Approvals
from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import lifecycle, unapproved
from deploytrail_processors.rules.findings import in_place_of
from deploytrail_processors.safe_app import SafeApp


class Approval:
    """Row: facts, whether it was `judged`, and the standing `findings` by rule."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, self._due, says=("findings",))
        self._known = Approvals(context)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            for row in self._deployments.add(partition, value).rows:
                self._judge(partition, row)
        elif kind is RecordType.APPROVAL:
            for deployment_id in self._known.add(partition, value):
                row = self._deployments.get(partition, deployment_id)
                # Of what never starts there is nothing to say, but for the use of its permits.
                if lifecycle.has_begun(row["facts"]) or value["approval_type"] == "permit_used":
                    self._judge(partition, row, place=value)

    def on_tick(self, partition: int, now: int) -> None:
        for row in self._deployments.due(partition, now):
            self._judge(partition, row)
        self._deployments.forget_old(partition, now)
        self._known.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()
        self._known.on_recovered()

    def _judge(self, partition: int, row: Row, place: dict[str, Any] | None = None) -> None:
        content = self._deployments.derive(partition, row["facts"])
        if place is not None and not lifecycle.has_begun(row["facts"]):
            # A permit was used for a deployment that nobody has reported yet.
            content |= {name: place[name] for name in ("service", "environment", "region")}
            row["facts"] = row["facts"] | {"last": max(row["facts"]["last"], place["corrected_at"])}
            content["last_event_at"] = row["facts"]["last"]
        steps = self._known.of_names(partition, row["facts"]["id"], content["deployment_ids"])
        due = unapproved.due(content)
        is_due = due is not None and self._context.partition_time(partition) >= due
        found: dict[str, list[Any]] = {}
        documents: tuple[str, ...] = ()
        if is_due or row.get("judged"):
            found, documents = unapproved.against_start(content, steps, self._context.policies_at)
            row["judged"] = True
        misuse = unapproved.against_permits(row["facts"]["id"], steps, row["facts"]["permits"])
        found[unapproved.MISUSE] = [*found.get(unapproved.MISUSE, ()), *misuse]
        at = content["started_at"] or content["last_event_at"] or 0
        production = is_production(content["environment"], self._context.policies_at(at))
        for rule, problems in found.items():
            standing = row.get("findings", {}).get(rule)
            made = unapproved.to_finding(rule, content, problems, documents, standing, production=production)
            if made is not None and made is not standing:
                made = in_place_of(standing, self._deployments.anew(row, made))
            if made is not None:
                row["findings"] = {**row.get("findings", {}), rule: made}
                self._context.forward(Topic.FINDINGS, partition, made["finding_id"], RecordType.FINDING, made)
        if lifecycle.is_reported(row["facts"]) or row.get("findings"):
            self._deployments.put(partition, row)

    def _due(self, row: Row) -> int | None:
        if row.get("judged"):
            return None
        return unapproved.due(lifecycle.derive(row["facts"], 0, None))


def make(settings: Settings) -> SafeApp:
    """The approval app."""
    return over_trail("approval", settings, Approval)
