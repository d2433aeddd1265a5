"""Deployments' records: one revision for each content that the trail gives a deployment."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import DAY, Changed, Deployments
from deploytrail_processors.apps.relations import PartitionRelations
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.approval_steps import is_refusal
from deploytrail_processors.rules.succession import life_of
from deploytrail_processors.safe_app import SafeApp


class Lifecycle:
    """Row: facts, `content` and `revision` last written, when that was (`recorded_at`), and the partition time at which
    something else than an event of its own was the reason (`told_at`)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, self._lost_at)
        self._relations = PartitionRelations(self._deployments)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        self._tell_again(partition)
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._relations.of(partition)  # as they were before
            self._take(partition, self._deployments.add(partition, value))
        elif kind is RecordType.APPROVAL and value["deployment_id"] and not is_refusal(value):
            self._relations.of(partition)
            changed = self._deployments.learn(
                partition,
                value["deployment_id"],
                lambda facts: lifecycle.add_approval(facts, value),
                value["approval_id"],
            )
            self._take(partition, changed)

    def on_tick(self, partition: int, now: int) -> None:
        self._tell_again(partition)
        for row in self._deployments.due(partition, now):
            self._write(partition, row, of_its_own=False)
        self._relations.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._relations.clear()
        self._deployments.on_recovered()

    def _take(self, partition: int, changed: Changed) -> None:
        merged = [row["facts"]["id"] for row in changed.merged]
        contents = {row["facts"]["id"]: self._deployments.derive(partition, row["facts"]) for row in changed.rows}
        reported = [row for row in changed.rows if lifecycle.is_reported(row["facts"])]
        lives = [life_of(row["facts"], contents[row["facts"]["id"]]) for row in reported]
        others = self._relations.of(partition).change(merged, lives)
        for row in changed.rows:
            if lifecycle.is_reported(row["facts"]):
                self._write(partition, row, by_itself=contents[row["facts"]["id"]])
            else:  # an approval came before anything of what it is about; its record begins when that comes
                self._deployments.put(partition, row)
        for row in changed.merged:
            self._write(partition, row)
        for name in sorted(others):
            self._write(partition, self._deployments.get(partition, name), of_its_own=False)

    def _write(self, partition: int, row: Row, *, of_its_own: bool = True, by_itself: Row | None = None) -> None:
        """Write a record. `by_itself`: the content without what follows from other deployments, where it is known."""
        facts = row["facts"]
        if "_into" not in row:
            facts = self._relations.of(partition).applied(facts)
        if by_itself is not None and facts is row["facts"]:
            content = by_itself
        else:
            content = self._deployments.derive(partition, facts)
        if content != row.get("content"):
            row["content"] = content
            row["revision"] = row.get("revision", self._context.first_revision - 1) + 1
            row["recorded_at"] = self._context.partition_time(partition) or row["facts"]["last"]
            row["told_at"] = None if of_its_own else row["recorded_at"]
        self._deployments.put(partition, row)
        self._forward(partition, row)

    def _forward(self, partition: int, row: Row) -> None:
        # Written again also when nothing changed: the state may have outlived the output of a crash.
        record = row["content"] | {"revision": row["revision"], "recorded_at": row["recorded_at"]}
        self._context.forward(Topic.RECORDS, partition, record["deployment_id"], RecordType.RECORD, record)

    def _tell_again(self, partition: int) -> None:
        """After a restart, write again what a tick or another deployment's event had decided within a day.

        The row may have outlived the output of a crash. A tick that decided it is old when it comes again, and what
        another deployment's event changed is not seen to be changed by its redelivery.
        """
        if partition in self._relations:
            return
        self._relations.of(partition)
        since = self._context.partition_time(partition) - DAY
        for row in self._deployments.rows(partition):
            if (row.get("told_at") or 0) > max(since, 0):
                self._forward(partition, row)

    def _lost_at(self, row: Row) -> int | None:
        content = row.get("content")
        if content is None or content["state"] not in lifecycle.OPEN:
            return None
        limit = self._deployments.policies(row["facts"]).thresholds.lost_after_minutes
        return lifecycle.due(row["facts"], limit)


def make(settings: Settings) -> SafeApp:
    """The lifecycle app."""
    return over_trail("lifecycle", settings, Lifecycle)
