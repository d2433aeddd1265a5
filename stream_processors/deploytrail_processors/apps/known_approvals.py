"""Steps of approvals in tables: what the gate, and who looks back, keep of the trail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploytrail_processors.apps.base import Agenda, Context, Row, row_key
from deploytrail_processors.rules.approval_steps import keep

DAY = 86_400_000_000
# Of one deployment or ticket, so many steps are kept, the latest.
MOST_STEPS = 200
MOST_DEPLOYMENTS = 200
_NOT_KEPT = frozenset({"requested", "unknown"})


class KnownApprovals:
    """Tables `approvals`, by deployment, and `tickets`, for steps that name no deployment.

    Row: `steps` by id, `last`, when the latest of them was; of a ticket also the `deployments` that were registered
    with it.
    """

    def __init__(self, context: Context) -> None:
        self._approvals, self._tickets = context.table("approvals"), context.table("tickets")
        keeps = context.settings.remember_days * DAY
        self._old_approvals = Agenda(self._approvals, lambda row: int(row["last"]) + keeps)
        self._old_tickets = Agenda(self._tickets, lambda row: int(row["last"]) + keeps)

    @property
    def changelog(self) -> str:
        """The topic whose partitions say who owns what."""
        name: str = self._approvals.changelog_topic.get_topic_name()  # type: ignore[attr-defined]  # a Faust table
        return name

    def add(self, partition: int, value: dict[str, Any]) -> list[str]:
        """Keep a step of the trail; the deployments that it may concern."""
        if value["approval_type"] in _NOT_KEPT:
            return []
        step, identity, ticket = keep(value), value["deployment_id"], value["change_ticket"]
        if not identity:
            if not ticket:
                return []
            row = self._row(self._tickets, partition, ticket)
            self._put_ticket(partition, ticket, _with(row, step))
            return list(row.get("deployments", ()))
        row = _with(self._row(self._approvals, partition, identity), step)
        self._approvals[row_key(partition, identity)] = row
        self._old_approvals.put(partition, row_key(partition, identity), row)
        if value["approval_type"] == "registered" and ticket:
            known = self._row(self._tickets, partition, ticket)
            named = [*(d for d in known.get("deployments", ()) if d != identity), identity][-MOST_DEPLOYMENTS:]
            last = max(known["last"], value["corrected_at"])
            self._put_ticket(partition, ticket, {**known, "deployments": named, "last": last})
        return [identity]

    def of(self, partition: int, deployment_id: str) -> list[dict[str, Any]]:
        """Every step of a deployment, and of the tickets that it was registered with."""
        own = list(self._row(self._approvals, partition, deployment_id)["steps"].values())
        named = {s["change_ticket"] for s in own if s["approval_type"] == "registered" and "change_ticket" in s}
        return own + [s for t in sorted(named) for s in self._row(self._tickets, partition, t)["steps"].values()]

    def forget_old(self, partition: int, now: int) -> None:
        """Drop what has been quiet for as long as the settings say."""
        for table, agenda in self._agendas():
            for key, _ in list(agenda.pop(partition, now)):
                table.pop(key, None)

    def on_recovered(self) -> None:
        """The tables were read anew."""
        for _, agenda in self._agendas():
            agenda.forget()

    def _agendas(self) -> Iterator[tuple[Any, Agenda]]:
        yield self._approvals, self._old_approvals
        yield self._tickets, self._old_tickets

    def _row(self, table: Any, partition: int, name: str) -> Row:
        row: Row | None = table.get(row_key(partition, name))
        return row if row is not None else {"steps": {}, "last": 0}

    def _put_ticket(self, partition: int, ticket: str, row: Row) -> None:
        key = row_key(partition, ticket)
        self._tickets[key] = row
        self._old_tickets.put(partition, key, row)


def _with(row: Row, step: dict[str, Any]) -> Row:
    steps = {**row["steps"], step["approval_id"]: step}
    if len(steps) > MOST_STEPS:
        oldest = min(steps.values(), key=lambda kept: (kept["corrected_at"], kept["approval_id"]))
        del steps[oldest["approval_id"]]
    return {**row, "steps": steps, "last": max(row["last"], step["corrected_at"])}
