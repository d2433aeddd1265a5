"""Deployments' records: one revision for each content that the trail gives a deployment."""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.safe_app import SafeApp


class Lifecycle:
    """Row: facts, `content` and `revision` last written, and when that was (`recorded_at`)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, self._lost_at)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return
        row = self._deployments.get(partition, value["deployment_id"])
        row["facts"] = lifecycle.add(row["facts"], value)
        content = self._write(partition, row)
        undone = lifecycle.undoes(content)
        if undone and undone != content["deployment_id"]:
            self._undo(partition, undone, content)

    def on_tick(self, partition: int, now: int) -> None:
        for _, row in self._deployments.agenda.pop_all(partition, now):
            self._write(partition, dict(row))
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()

    def _undo(self, partition: int, deployment_id: str, rollback: dict[str, Any]) -> None:
        row = self._deployments.get(partition, deployment_id)
        row["facts"] = lifecycle.undo(
            row["facts"],
            rollback["deployment_id"],
            rollback["finished_at"],
            rollback["finished_at_uncertainty_ms"] or 0,
        )
        if row["facts"]["ids"]:
            self._write(partition, row)
        else:  # the rollback came before anything of what it undoes; its record begins when that comes
            self._deployments.put(partition, row)

    def _write(self, partition: int, row: Row) -> dict[str, Any]:
        content = self._deployments.derive(partition, row["facts"])
        if content != row.get("content"):
            row["content"] = content
            row["revision"] = row.get("revision", self._context.first_revision - 1) + 1
            row["recorded_at"] = self._context.partition_time(partition) or row["facts"]["last"]
        self._deployments.put(partition, row)
        # Written again also when nothing changed: the state may have outlived the output of a crash.
        record = content | {"revision": row["revision"], "recorded_at": row["recorded_at"]}
        self._context.forward(Topic.RECORDS, partition, content["deployment_id"], RecordType.RECORD, record)
        return content

    def _lost_at(self, row: Row) -> int | None:
        content = row.get("content")
        if content is None or content["state"] not in lifecycle.OPEN:
            return None
        limit = self._deployments.policies(row["facts"]).thresholds.lost_after_minutes
        return lifecycle.due(row["facts"], limit)


def make(settings: Settings) -> SafeApp:
    """The lifecycle app."""
    return over_trail("lifecycle", settings, Lifecycle)
