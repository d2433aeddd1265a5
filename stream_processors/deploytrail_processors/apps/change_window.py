"""Was each deployment started inside a change window, and had it ended when that closed?

Two standing findings a deployment at most: one about its start, which approvals of emergencies may
change however late they come, and one about an overrun, which a tick decides.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.reasons import Reason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.approvals import Approvals
from deploytrail_processors.apps.base import Context, Row, over_trail
from deploytrail_processors.apps.deployments import DAY, Deployments
from deploytrail_processors.apps.relations import PartitionRelations
from deploytrail_processors.rules import break_glass, change_window, lifecycle, overrun
from deploytrail_processors.rules.deployment_times import SWITCHES, began
from deploytrail_processors.rules.findings import in_place_of, withdrawn
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.safe_app import SafeApp

# Answers that a void leaves alone: they say nothing against the deployment. A warning's verdict is ok, too.
_NOTHING_AGAINST = frozenset(
    {
        *(Reason.INSIDE_ALLOWED_WINDOW, Reason.NO_WINDOW_APPLIES, Reason.BREAK_GLASS),
        *(Reason.ENDED_BEFORE_CLOSE, Reason.SAME_DEPLOYMENT, Reason.START_UNKNOWN),
    }
)


class ChangeWindow:
    """Row: facts, the standing `finding` about the start, `look_at`, when to look again, and of an overrun its
    standing finding (`overrun`) and the partition time at which it was first told (`told_at`)."""

    def __init__(self, context: Context) -> None:
        self._told_again: set[int] = set()
        self._context = context
        self._deployments = Deployments(context, lambda row: row.get("look_at"), says=("finding", "overrun"))
        self._approvals = Approvals(context, keeps=break_glass.matters)
        self._relations = PartitionRelations(self._deployments)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        self._tell_again(partition)
        if kind is RecordType.DEPLOYMENT_EVENT:
            relations = self._relations.of(partition)  # as they were before
            changed = self._deployments.add(partition, value)
            gone = [row["facts"]["id"] for row in changed.merged]
            others = relations.change(gone, [self._relations.life(partition, row) for row in changed.rows])
            for row in changed.rows:
                self._judge(partition, row)
            for name in sorted(others):
                other = self._deployments.get(partition, name)
                if "overrun" in other or lifecycle.is_open(other["facts"]):
                    self._judge(partition, other, start=False)
        elif kind is RecordType.APPROVAL:
            for deployment_id in self._approvals.add(partition, value):
                row = self._deployments.get(partition, deployment_id)
                # Else it is judged with the approval once something of it is known.
                if lifecycle.is_reported(row["facts"]):
                    self._judge(partition, row)

    def on_tick(self, partition: int, now: int) -> None:
        self._tell_again(partition)
        for row in self._deployments.due(partition, now):
            self._judge(partition, row)
        self._relations.forget_old(partition, now)
        self._approvals.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._told_again.clear()
        self._relations.clear()
        self._deployments.on_recovered()
        self._approvals.on_recovered()

    def _tell_again(self, partition: int) -> None:
        """After a restart, write the overruns of the last day again.

        The row may have outlived the output of a crash, and the tick that decided it is old when it comes again.
        """
        if partition in self._told_again:
            return
        self._told_again.add(partition)
        since = self._context.partition_time(partition) - DAY
        for row in self._deployments.rows(partition):
            if "overrun" in row and row["told_at"] >= since:
                self._write(partition, row["overrun"])

    def _judge(self, partition: int, row: Row, *, start: bool = True) -> None:
        """Judge a deployment; without its `start`, which no other one changes."""
        content = self._deployments.derive(partition, row["facts"])
        row["look_at"] = None
        begun = began(content) if content["started_at"] is not None or content["kind"] in SWITCHES else None
        if begun is not None and content["state"] != "voided":
            policies = self._context.policies_at(begun[0])
            subject = _subject(content, policies)
            if start:
                row["finding"] = self._start(partition, row, content, begun, subject, policies)
                self._write(partition, row["finding"])
            self._overrun(partition, row, subject, policies)
        elif content["state"] == "voided":
            self._take_back(partition, row, Reason.DEPLOYMENT_VOIDED, "was voided", _NOTHING_AGAINST)
        else:  # such as a switch, of which the end is enough, that was amended to be a release
            self._take_back(partition, row, Reason.START_UNKNOWN, "began nobody knows when", frozenset())
        self._deployments.put(partition, row)

    def _take_back(self, partition: int, row: Row, reason: Reason, why: str, stay: frozenset[Reason]) -> None:
        """Take back what stands of a deployment that there is nothing to judge of, whatever came first; but for answers
        for reasons that may `stay`."""
        for name in ("finding", "overrun"):
            standing: Row | None = row.get(name)
            if standing is None or standing["reason"] in stay:
                continue  # what was taken back is told again
            found = in_place_of(standing, self._deployments.anew(row, withdrawn(standing, reason, why)))
            if found != standing:
                row[name], row["told_at"] = found, self._context.partition_time(partition)
            self._write(partition, found)

    def _overrun(self, partition: int, row: Row, subject: dict[str, str], policies: Policies) -> None:
        content = self._deployments.derive(partition, self._relations.of(partition).applied(row["facts"]))
        now = self._context.partition_time(partition)
        standing: Row | None = row.get("overrun")
        found = overrun.find_overrun(content, subject, policies, now=now, standing=standing)
        if found is not None and found is not standing:
            found = in_place_of(standing, self._deployments.anew(row, found))
        if found is not None:
            if found != row.get("overrun"):
                row["overrun"], row["told_at"] = found, now
            self._write(partition, found)
        row["look_at"] = overrun.next_due(content, subject, policies, now=now)

    def _start(
        self,
        partition: int,
        row: Row,
        content: Row,
        begun: tuple[int, int],
        subject: dict[str, str],
        policies: Policies,
    ) -> Row:
        """The finding about the start: the standing one, or what supersedes it."""
        at, width = begun
        approvals = self._approvals.about(partition, content)
        judgement = change_window.judge(subject, policies, at=at, uncertainty=width)
        emergency = break_glass.judge(content, subject, policies, approvals, at=at, uncertainty=width)
        event = {**content, "corrected_at": at, "uncertainty_ms": width // 1000}
        production = is_production(content["environment"], policies)
        made = change_window.to_finding(event, subject, judgement, production=production, emergency=emergency)
        return in_place_of(row.get("finding"), self._deployments.anew(row, made))

    def _write(self, partition: int, found: Row) -> None:
        self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def _subject(content: Row, policies: Policies) -> dict[str, str]:
    service = policies.service(content["service"])
    return {
        **{name: content[name] for name in ("service", "environment", "region", "kind")},
        "team": service.team or content["team"],
        "tier": service.tier or content["tier"],
    }


def make(settings: Settings) -> SafeApp:
    """The change_window app."""
    return over_trail("change_window", settings, ChangeWindow)
