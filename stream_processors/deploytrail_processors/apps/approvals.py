"""Steps of approvals in tables: what the gate, the stream and who looks back keep of the trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deploytrail_processors.apps.base import Agenda, Context, Row, row_key
from deploytrail_processors.apps.deployments import DAY
from deploytrail_processors.rules.approval_steps import Step, deployment_of, is_refusal, keep

# Of one deployment or ticket, so many steps are kept, the latest, and so many deployments of a ticket.
MOST_STEPS = 200
MOST_DEPLOYMENTS = 200
_NOT_KEPT = frozenset({"requested", "unknown"})


def _says_something(step: Step) -> bool:
    return step["approval_type"] not in _NOT_KEPT and not is_refusal(step)


class Approvals:
    """Tables `approvals`, by deployment, and `tickets`, for steps that name no deployment.

    Row: `steps` by id, `last`, when the latest of them was; of a ticket also the `deployments` that bear it: by their
    registration, or by what `about` was asked. Not kept are steps of which `keeps` says so.
    """

    def __init__(
        self,
        context: Context,
        keeps: Callable[[Step], bool] = _says_something,
        names: tuple[str, str] = ("approvals", "tickets"),
    ) -> None:
        self._keeps = keeps
        self._approvals, self._tickets = (context.table(name) for name in names)
        quiet = context.settings.remember_days * DAY
        self._old_approvals = Agenda(self._approvals, lambda row: int(row["last"]) + quiet)
        self._old_tickets = Agenda(self._tickets, lambda row: int(row["last"]) + quiet)

    @property
    def changelog(self) -> str:
        """The topic whose partitions say who owns what."""
        name: str = self._approvals.changelog_topic.get_topic_name()  # type: ignore[attr-defined]  # a Faust table
        return name

    def add(self, partition: int, value: Mapping[str, Any]) -> list[str]:
        """Keep a step of the trail; the deployments that it may concern."""
        step, identity, ticket = keep(value), value["deployment_id"], value["change_ticket"]
        if not self._keeps(step) or not (identity or ticket):
            return []
        if not identity:
            row = _with(self._row(self._tickets, partition, ticket), step)
            self._put(self._tickets, self._old_tickets, partition, ticket, row)
            return list(row.get("deployments", ()))
        row = _with(self._row(self._approvals, partition, identity), step)
        self._put(self._approvals, self._old_approvals, partition, identity, row)
        if value["approval_type"] == "registered" and ticket:
            self._note(partition, identity, ticket, value["corrected_at"])
        return [identity]

    def of(self, partition: int, deployment_id: str, tickets: Iterable[str] = ()) -> list[Row]:
        """Every step of a deployment, of the tickets that it was registered with, and of these."""
        own = list(self._row(self._approvals, partition, deployment_id)["steps"].values())
        named = {s["change_ticket"] for s in own if s["approval_type"] == "registered" and "change_ticket" in s}
        every = sorted(named | set(filter(None, tickets)))
        return own + [s for t in every for s in self._row(self._tickets, partition, t)["steps"].values()]

    def about(self, partition: int, content: Mapping[str, Any]) -> list[Row]:
        """The steps that may be about a deployment, by its record's ticket, too; that is noted, for steps that are yet
        to come."""
        ticket = content["change_ticket"]
        if ticket:
            self._note(partition, content["deployment_id"], ticket, content["last_event_at"] or 0)
        return self.of_names(partition, content["deployment_id"], content["deployment_ids"], (ticket,))

    def of_names(self, partition: int, known_as: str, names: Iterable[str], tickets: Iterable[str] = ()) -> list[Row]:
        """Every step of a deployment under any of its names, told of the one that stands for it."""
        found: dict[str, Row] = {}
        for name in sorted(names):
            for step in self.of(partition, name, tickets):
                found[step["approval_id"]] = step | {"deployment_id": known_as} if deployment_of(step) == name else step
        return list(found.values())

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

    def _note(self, partition: int, deployment_id: str, ticket: str, at: int) -> None:
        """Remember that a deployment bears a ticket."""
        known = self._row(self._tickets, partition, ticket)
        others = [one for one in known.get("deployments", ()) if one != deployment_id]
        row = {**known, "deployments": [*others, deployment_id][-MOST_DEPLOYMENTS:], "last": max(known["last"], at)}
        if row != known:
            self._put(self._tickets, self._old_tickets, partition, ticket, row)

    def _put(self, table: Any, agenda: Agenda, partition: int, name: str, row: Row) -> None:
        key = row_key(partition, name)
        table[key] = row
        agenda.put(partition, key, row)


def _with(row: Row, step: Row) -> Row:
    old = row["steps"].get(step["approval_id"])
    # Of two tellings of one step the later stays, whichever comes first.
    steps = {**row["steps"], step["approval_id"]: step if old is None else max(old, step, key=_rank)}
    if len(steps) > MOST_STEPS:
        del steps[min(steps.values(), key=_rank)["approval_id"]]
    return {**row, "steps": steps, "last": max(row["last"], step["corrected_at"])}


def _rank(step: Row) -> tuple[int, str]:
    return step["corrected_at"], json.dumps(step, sort_keys=True)
