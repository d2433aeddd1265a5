"""Approvals in a table, by the deployment or the change ticket that they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deploytrail_processors.apps.base import Agenda, Context, Row, row_key
from deploytrail_processors.apps.deployments import DAY
from deploytrail_processors.rules import break_glass

# Of one deployment or ticket, so many steps are kept, the latest, and so many deployments of a ticket.
MOST_STEPS = 200
MOST_DEPLOYMENTS = 200


class Approvals:
    """Rows `{"steps": {approval id: step}, "deployments": [ids that bear the ticket], "last": µs}`."""

    def __init__(self, context: Context) -> None:
        self._table = context.table("approvals")
        self._keep = context.settings.remember_days * DAY
        self._expiry = Agenda(self._table, lambda row: int(row["last"]) + self._keep)

    def on_recovered(self) -> None:
        """The table was read anew."""
        self._expiry.forget()

    def add(self, partition: int, approval: Mapping[str, Any]) -> list[str]:
        """Keep a step; the deployments known so far that it may be about."""
        step = {name: approval[name] for name in break_glass.FIELDS}
        key = _key(partition, step["deployment_id"], step["change_ticket"])
        if key is None or not break_glass.matters(step):
            return []
        row = self._row(key)
        old = row["steps"].get(step["approval_id"])
        # Of two tellings of one step the later stays, whichever comes first.
        steps = row["steps"] | {step["approval_id"]: step if old is None else max(old, step, key=_rank)}
        latest = sorted(steps.values(), key=_rank)[-MOST_STEPS:]
        row["steps"] = {kept["approval_id"]: kept for kept in latest}
        self._put(partition, key, row, step["corrected_at"])
        return [step["deployment_id"]] if step["deployment_id"] else list(row["deployments"])

    def about(self, partition: int, deployment: Mapping[str, Any]) -> list[Row]:
        """The steps that may be about a deployment; its ticket is noted, for steps that are yet to come."""
        found = list(self._row(row_key(partition, f"deployment/{deployment['deployment_id']}"))["steps"].values())
        if deployment["change_ticket"]:
            key = row_key(partition, f"ticket/{deployment['change_ticket']}")
            row = self._row(key)
            if deployment["deployment_id"] not in row["deployments"]:
                row["deployments"] = [*row["deployments"], deployment["deployment_id"]][-MOST_DEPLOYMENTS:]
                self._put(partition, key, row, deployment["last_event_at"] or 0)
            found += row["steps"].values()
        return found

    def forget_old(self, partition: int, now: int) -> None:
        """Drop what has been quiet for as long as the settings say."""
        for key, _ in list(self._expiry.pop(partition, now)):
            self._table.pop(key, None)

    def _row(self, key: str) -> Row:
        return dict(self._table.get(key) or {"steps": {}, "deployments": [], "last": 0})

    def _put(self, partition: int, key: str, row: Row, at: int) -> None:
        row["last"] = max(row["last"], at)
        self._table[key] = row
        self._expiry.put(partition, key, row)


def _key(partition: int, deployment_id: str, ticket: str) -> str | None:
    if deployment_id:
        return row_key(partition, f"deployment/{deployment_id}")
    return row_key(partition, f"ticket/{ticket}") if ticket else None


def _rank(step: Row) -> tuple[int, str]:
    return step["corrected_at"], json.dumps(step, sort_keys=True)
