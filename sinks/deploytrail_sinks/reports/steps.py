"""Which steps of approvals speak of which deployment: by its id, or by its ticket alone, at its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Value = Mapping[str, Any]
# What a step may leave open of a place.
_UNSAID = frozenset({"", "unknown", "other"})
_PLACE = ("environment", "service", "region")
# Whoever deploys tells of these; a ticket that only they name is known to nobody else.
_OF_DEPLOYERS = frozenset({"registered", "permit_issued", "permit_used", "permit_refused"})


class Steps:
    """Steps in order of time. `names`: region and other id of a deployment → the id of its record."""

    def __init__(self, steps: Iterable[Value], names: Mapping[tuple[str, str], str] | None = None) -> None:
        self._order: dict[str, int] = {}
        self._by_id: defaultdict[str, list[Value]] = defaultdict(list)
        self._by_ticket: defaultdict[str, list[Value]] = defaultdict(list)
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        for number, given in enumerate(steps):
            known_as = (names or {}).get((given["region"], given["deployment_id"]), given["deployment_id"])
            step = {**given, "deployment_id": known_as}
            self._order[step["approval_id"]] = number
            ticket = step["change_ticket"]
            if step["deployment_id"]:
                self._by_id[step["deployment_id"]].append(step)
            elif ticket:
                self._by_ticket[ticket].append(step)
            if ticket and step["approval_type"] not in _OF_DEPLOYERS:
                self._named[ticket] |= {step["deployment_id"]} - {""}

    def about(self, deployment: Value) -> list[Value]:
        """The steps that speak of a deployment, in order of time; its tickets are its record's, and those that it was
        registered with."""
        own = [step for step in self._by_id.get(deployment["deployment_id"], ()) if _is_at(step, deployment)]
        tickets = {deployment["change_ticket"], *_registered(own)} - {""}
        others = [s for t in sorted(tickets) for s in self._by_ticket.get(t, ()) if _is_at(s, deployment)]
        return sorted(own + others, key=lambda step: self._order[step["approval_id"]])

    def named(self, deployment: Value) -> set[str] | None:
        """The deployments that the ticket system ties a deployment's ticket to; None where it never spoke of it."""
        own = self._by_id.get(deployment["deployment_id"], ())
        ticket = deployment["change_ticket"] or next(reversed(_registered(own)), "")
        return self._named.get(ticket)


def _registered(steps: Iterable[Value]) -> list[str]:
    return [s["change_ticket"] for s in steps if s["approval_type"] == "registered" and s["change_ticket"]]


def _is_at(step: Value, deployment: Value) -> bool:
    return all(step[name] in _UNSAID or step[name] == deployment[name] for name in _PLACE)
