"""Facts of deployments in a table: what each app that judges deployments keeps of the trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploytrail_processors.apps.base import Agenda, Context, Row, row_key
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.policies import Policies

DAY = 86_400_000_000


class Deployments:
    """A table of rows `{"facts": …}` by deployment, with what is due and what may be forgotten.

    `next_due` says when a row wants attention besides being forgotten; None: never.
    """

    def __init__(self, context: Context, next_due: Callable[[Row], int | None]) -> None:
        self._context = context
        self._table = context.table("deployments")
        self._keep = context.settings.remember_days * DAY
        self.agenda = Agenda(self._table, next_due)
        self._expiry = Agenda(self._table, self._forget_at)

    def on_recovered(self) -> None:
        """The table was read anew."""
        self.agenda.forget()
        self._expiry.forget()

    def get(self, partition: int, deployment_id: str) -> Row:
        """The row of a deployment; a new one where nothing is known of it."""
        row: Row | None = self._table.get(row_key(partition, deployment_id))
        return dict(row) if row is not None else {"facts": lifecycle.new_facts(deployment_id)}

    def put(self, partition: int, row: Row) -> None:
        """Write a deployment's row."""
        key = row_key(partition, row["facts"]["id"])
        self._table[key] = row
        self.agenda.put(partition, key, row)
        self._expiry.put(partition, key, row)

    def rows(self, partition: int) -> list[Row]:
        """Every row of a partition."""
        prefix = f"{partition}/"
        return [row for key, row in list(self._table.items()) if key.startswith(prefix)]

    def derive(self, partition: int, facts: lifecycle.Facts) -> dict[str, Any]:
        """The record's content at partition time."""
        now = self._context.partition_time(partition)
        return lifecycle.derive(facts, now, self.policies(facts).thresholds.lost_after_minutes)

    def policies(self, facts: lifecycle.Facts) -> Policies:
        """The policies of the time that a deployment's facts speak of."""
        return self._context.policies_at(facts["last"])

    def forget_old(self, partition: int, now: int) -> None:
        """Drop what has been quiet for as long as the settings say."""
        for key, _ in list(self._expiry.pop(partition, now)):
            self._table.pop(key, None)

    def _forget_at(self, row: Row) -> int | None:
        last: int = row["facts"]["last"]
        return last + self._keep
