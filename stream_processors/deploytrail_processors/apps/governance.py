"""Rules about how deployments are reported: unmapped names, grain, required fields, regimes, velocity.

They share an app since each is small: one event is decoded once, and one state of a deployment
answers for required fields and regimes. What each of them decides is in `rules/`.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors import metrics
from deploytrail_processors.apps.approvals import Approvals
from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import findings, names_and_grain, requirements, unapproved, velocity
from deploytrail_processors.rules.approval_steps import is_refusal
from deploytrail_processors.rules.findings import Finding
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Velocity
from deploytrail_processors.safe_app import SafeApp

DAY = names_and_grain.DAY
# Of names that nobody declared, and of services with another grain, so many findings a partition and day.
MOST_A_DAY = 200
# So many deployments wait for what other records of a ticket tell; those before are healed by their own events only.
MOST_WAITING = 1000


class Governance:
    """Tables: `deployments` (what is known, standing findings), `tickets` (what is told, who waits), `services`
    (starts, standing findings, `since` when some are new, the spans of time that were `said` to have too many, what was
    found `late` last, whether it is to be told `again`), `daily` (what was said today, each with the event that it was
    said on); and steps of approvals."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._regions = frozenset(RegionMap.from_settings(context.settings).numbers)
        keep = context.settings.remember_days * DAY
        self._deployments = context.table("deployments")
        self._names = Deployments(context, lambda _: None, table="names")
        self._tickets = context.table("tickets")
        self._approvals = Approvals(context, names=("approvals", "approved_tickets"))
        self._services = context.table("services")
        self._daily = context.table("daily")
        self._expiries = [
            (self._deployments, Agenda(self._deployments, lambda row: int(row["last"]) + keep)),
            (self._tickets, Agenda(self._tickets, lambda row: int(row["last"]) + keep)),
        ]
        self._due = Agenda(self._services, lambda row: int(row["due"]))

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._say_once_a_day(partition, value)
            changed = self._names.add(partition, value)
            for row in changed.rows:
                self._names.put(partition, row)
            self._know(partition, value["deployment_id"], value, requirements.with_event)
            for row in changed.merged:
                self._take_back(partition, row)
            self._hear_of_tickets(partition, value)
            self._count(partition, value, is_merged=bool(changed.merged))
        elif kind is RecordType.APPROVAL and not is_refusal(value):
            concerned = self._approvals.add(partition, value)
            if value["deployment_id"]:
                self._know(partition, value["deployment_id"], value, requirements.with_approval)
            else:  # of a ticket: those that were registered with it may be approved now
                for key in (row_key(partition, name) for name in concerned):
                    if key in self._deployments:
                        self._judge_requirements(partition, key, self._deployments[key])
            self._hear_of_tickets(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, row in self._due.pop_all(partition, now):
            self._judge_velocity(partition, key, row, now)
        for table, agenda in self._expiries:
            for key, _ in list(agenda.pop(partition, now)):
                table.pop(key, None)
        self._approvals.forget_old(partition, now)
        self._names.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._due.forget()
        self._approvals.on_recovered()
        self._names.on_recovered()
        for _, agenda in self._expiries:
            agenda.forget()

    def _say_once_a_day(self, partition: int, event: Row) -> None:
        policies = self._context.policies_at(event["corrected_at"])
        day = (self._context.partition_time(partition) or event["corrected_at"]) // DAY
        found = names_and_grain.find_unmapped(event, policies, self._regions, day=day)
        for one in found:
            metrics.UNMAPPED_NAMES.labels(one["reason"]).inc()
        other_grain = names_and_grain.find_other_grain(event, policies, day=day)
        found += [other_grain] if other_grain else []
        if not found:
            return
        key = row_key(partition, "")
        row = self._daily.get(key)
        said: dict[str, str] = dict(row["said"]) if row is not None and row["day"] == day else {}
        for one in found:
            # On the event that it was said on, it is said again: a redelivery after a crash.
            if said.get(one["finding_id"], event["event_id"]) == event["event_id"]:
                if one["finding_id"] not in said:
                    if len(said) >= MOST_A_DAY:
                        continue
                    said[one["finding_id"]] = event["event_id"]
                    self._daily[key] = {"day": day, "said": said}
                self._forward(partition, one)

    def _know(self, partition: int, deployment_id: str, value: Row, learn: Any) -> None:
        key = row_key(partition, deployment_id)
        row = self._deployments.get(key)
        state = learn(row["state"] if row else requirements.new_state(deployment_id), value)
        last = max(row["last"] if row else 0, value["corrected_at"])
        self._deployments[key] = {**(row or {"standing": {}}), "state": state, "last": last}
        self._judge_requirements(partition, key, self._deployments[key])

    def _take_back(self, partition: int, other: Row) -> None:
        """What was found of a deployment under another of its names."""
        key = row_key(partition, other["facts"]["id"])
        row = self._deployments.get(key)
        if row is None:
            return
        if row["standing"]:
            times = other.get("_again", 0)
            gone = [findings.taken_back(one, other["_into"], times) for one in row["standing"].values()]
            row = self._deployments[key] = {**row, "standing": {}, "gone": gone}
        for one in row.get("gone", ()):
            self._forward(partition, one)

    def _judge_requirements(self, partition: int, key: str, row: Row) -> None:
        known_as = self._names.stands_for(partition, row["state"]["id"])
        key = row_key(partition, known_as)
        row = self._deployments.get(key) or row
        state, standing = self._together(partition, known_as, row), dict(row["standing"])
        if state["since"] is not None:  # an approval alone is no deployment yet
            policies = self._context.policies_at(state["since"])
            known = {
                (name, ticket): self._ticket(partition, name, ticket)["told"]
                for name, tickets in state["tickets"].items()
                for ticket in tickets
            }
            for asked in requirements.asked_of(state, policies):
                name = f"{asked.rule}/{asked.name}"
                approved = self._is_approved(partition, state, asked)
                found = requirements.judge(state, asked, known, standing.get(name), approved=approved)
                if found is None:
                    continue
                if found != standing.get(name):
                    metrics.GAPS.labels(asked.rule, found["reason"]).inc()
                standing[name] = found
                self._forward(partition, found)  # again, too, when nothing changed: a crash may have lost it
                if found["verdict"] == "violation" and asked.requirement and asked.requirement.heal:
                    self._wait(partition, state, row["last"])
        self._deployments[key] = row | {"standing": standing}
        self._expiries[0][1].put(partition, key, self._deployments[key])

    def _together(self, partition: int, known_as: str, row: Row) -> Row:
        """What is known of a deployment under all its names."""
        names = self._names.get(partition, known_as)["facts"].get("names", ())
        rows = [self._deployments.get(row_key(partition, name)) for name in names]
        states = [one["state"] for one in rows if one is not None]
        return requirements.together(states, known_as) if len(states) > 1 else row["state"]

    def _is_approved(self, partition: int, state: Row, asked: requirements.Asked) -> bool:
        if asked.requirement is None or "approved" not in asked.requirement.controls:
            return False
        deployment, moment = requirements.approval_asked(state, self._context.policies_at(state["since"]))
        names = self._names.get(partition, state["id"])["facts"].get("names", [state["id"]])
        steps = self._approvals.of_names(partition, state["id"], names)
        return unapproved.is_approved(deployment, steps, self._context.policies_at, moment)

    def _hear_of_tickets(self, partition: int, record: Row) -> None:
        policies = self._context.policies_at(record["corrected_at"])
        said_by = record.get("event_id") or record["approval_id"]
        for name, ticket, told in requirements.told_of_tickets(record, policies):
            row = dict(self._ticket(partition, name, ticket))
            news = {field: max(value, row["told"].get(field, "")) for field, value in told.items()}
            if not news.items() <= row["told"].items():
                # Whoever was healed by what was told before waits no longer.
                waiting = [one for one in row["waiting"] if self._is_waiting(partition, one)]
                row |= {"told": row["told"] | news, "waiting": waiting, "by": said_by}
                self._put_ticket(partition, name, ticket, row, record["corrected_at"])
            elif row.get("by") != said_by:
                continue
            for deployment_id in row["waiting"]:  # again at a redelivery: a crash may have lost what was said
                key = row_key(partition, deployment_id)
                if key in self._deployments:
                    self._judge_requirements(partition, key, self._deployments[key])

    def _is_waiting(self, partition: int, deployment_id: str) -> bool:
        row = self._deployments.get(row_key(partition, deployment_id))
        return row is not None and any(found["verdict"] == "violation" for found in row["standing"].values())

    def _wait(self, partition: int, state: Row, last: int) -> None:
        for name, tickets in state["tickets"].items():
            for ticket in tickets:
                row = self._ticket(partition, name, ticket)
                if state["id"] not in row["waiting"]:
                    waiting = [*row["waiting"], state["id"]][-MOST_WAITING:]
                    self._put_ticket(partition, name, ticket, row | {"waiting": waiting}, last)

    def _ticket(self, partition: int, name: str, ticket: str) -> Row:
        row: Row | None = self._tickets.get(row_key(partition, f"{name}/{ticket}"))
        return row if row is not None else {"told": {}, "waiting": [], "last": 0}

    def _put_ticket(self, partition: int, name: str, ticket: str, row: Row, last: int) -> None:
        key = row_key(partition, f"{name}/{ticket}")
        self._tickets[key] = row | {"last": max(row["last"], last)}
        self._expiries[1][1].put(partition, key, self._tickets[key])

    def _count(self, partition: int, event: Row, *, is_merged: bool) -> None:
        key = row_key(partition, joined(event["environment"], event["service"]))
        row = self._services.get(key) or {"starts": {}, "standing": {}}
        starts = velocity.with_event(row["starts"], event)
        if starts == row["starts"]:
            for found in (*row.get("late", ()), *row["standing"].values()):
                self._forward(partition, found)  # perhaps a redelivery: a crash may have lost it
            if not is_merged or not starts:
                return
        place = {name: event[name] for name in ("region", "environment", "service", "team", "tier")}
        # Judged at the next tick: by partition time, whatever the event's own time is.
        now = self._context.partition_time(partition)
        new = [row.get("since"), starts.get(event["deployment_id"], [None])[0]]
        since = min((at for at in new if at is not None), default=None)
        self._services[key] = row | {"starts": starts, "place": place, "due": now, "since": since}
        self._due.put(partition, key, self._services[key])

    def _judge_velocity(self, partition: int, key: str, row: Row, now: int) -> None:
        starts, standing = velocity.without_old(row["starts"], now), dict(row["standing"])
        if not starts:
            self._services.pop(key, None)
            return
        policies = self._context.policies_at(now)
        service = policies.service(row["place"]["service"])
        place = row["place"] | {
            "team": service.team or row["place"]["team"],
            "tier": service.tier or row["place"]["tier"],
        }
        document = velocity.policy_for(place, policies)
        counted = velocity.once(starts, lambda name: self._names.stands_for(partition, name))
        said, due, found = dict(row.get("said", {})), None, dict[str, Finding]()
        if document is not None and isinstance(document.spec, Velocity):
            for limit in velocity.limits_of(document.spec):
                one = velocity.judge(counted, document, standing.get(limit.rule), limit, place, now=now)
                found |= {limit.rule: one} if one is not None else {}
                spans = velocity.current(counted, document, limit, now)
                said[limit.rule] = velocity.spans_said(said.get(limit.rule, []), spans, now)
            due = velocity.next_change(counted, document, standing | found, now)
        late = self._hear_late(row, counted, said, place, now)
        # A tick does not come again: the next one says once more what this one's crash might have lost.
        again = [*row.get("late", ()), *standing.values()] if row.get("again") else []
        for told in (*again, *late, *found.values()):
            self._forward(partition, told)
        is_new = bool(late or found)
        newest = max(map(velocity.last_of, starts.values()))
        self._services[key] = row | {
            "starts": starts,
            "standing": standing | found,
            "said": said,
            "late": late or row.get("late", []),
            "again": is_new,
            "since": min((at for at, *_ in starts.values() if (at or 0) > now), default=None),
            "due": now + 1 if is_new else max(now + 1, due if due is not None else newest + velocity.KEEP),
        }
        self._due.put(partition, key, self._services[key])

    def _hear_late(
        self, row: Row, starts: velocity.Starts, said: dict[str, list[velocity.Span]], place: dict[str, str], now: int
    ) -> list[Finding]:
        """What was too many in a time that had passed when it was reported, by the policy of that time; of which times
        it speaks is added to what was `said`."""
        since, found = row.get("since"), list[Finding]()
        if since is None or since > now:
            return found
        for rule in velocity.RULES:
            more, spans = velocity.heard_of_late(
                starts,
                rule,
                lambda at: velocity.policy_for(place, self._context.policies_at(at)),
                place,
                said.get(rule, []),
                since=since,
                now=now,
            )
            if spans:
                said[rule] = velocity.spans_said(said.get(rule, []), spans, now)
            found += more
        return found

    def _forward(self, partition: int, found: Finding) -> None:
        self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def make(settings: Settings) -> SafeApp:
    """The governance app."""
    return over_trail("governance", settings, Governance)
