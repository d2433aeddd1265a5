"""Which deployments run longer than they should?

How long that is, is learnt from those that have succeeded. What a deployment is held against is settled when its start
first becomes known, by those that had ended before: what is learnt later does not move it, and a replay of the trail
settles the same. What another deployment brought to an end, a newer one that took its place or a rollback of it, runs
no longer.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key
from deploytrail_processors.apps.deployments import DAY, Deployments
from deploytrail_processors.apps.relations import PartitionRelations
from deploytrail_processors.rules import expected_duration, lifecycle, overdue
from deploytrail_processors.rules.expected_duration import Usual
from deploytrail_processors.rules.findings import next_link
from deploytrail_processors.rules.succession import life_of
from deploytrail_processors.safe_app import SafeApp

# What has not been deployed for so long is learnt anew.
KEEP = 365 * DAY


class Overdue:
    """Rows of deployments: facts; `usual`, what it is held against, and of which `group`; once it was overdue the
    chain of answers (`answer`), and the partition time when the last was `told_at`; whether it is `over` by another
    one. Rows of durations, by group: the `samples`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, self._due, says=("answer",))
        self._durations = context.table("durations")
        self._old_durations = Agenda(self._durations, lambda row: row["last"] + KEEP)
        self._told_again: set[int] = set()
        self._relations = PartitionRelations(self._deployments)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        self._tell_again(partition)
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return
        relations = self._relations.of(partition)  # as they were before
        changed = self._deployments.add(partition, value)
        for other in changed.merged:  # what it taught is taught once
            if "taught" in other:
                self._teach(partition, other["taught"], other["facts"]["id"], None)
        contents = [self._deployments.derive(partition, row["facts"]) for row in changed.rows]
        lives = [life_of(row["facts"], content) for row, content in zip(changed.rows, contents, strict=True)]
        others = relations.change([row["facts"]["id"] for row in changed.merged], lives)
        for row, content in zip(changed.rows, contents, strict=True):
            self._learn(partition, row, content)
            self._judge(partition, row, content)
        for name in sorted(others):
            other = self._deployments.get(partition, name)
            if "answer" in other or lifecycle.is_open(other["facts"]):
                self._judge(partition, other)

    def on_tick(self, partition: int, now: int) -> None:
        self._tell_again(partition)
        for row in self._deployments.due(partition, now):
            self._judge(partition, row)
        self._relations.forget_old(partition, now)
        for key, _ in list(self._old_durations.pop(partition, now)):
            self._durations.pop(key, None)

    def on_recovered(self) -> None:
        self._told_again.clear()
        self._relations.clear()
        self._deployments.on_recovered()
        self._old_durations.forget()

    def _tell_again(self, partition: int) -> None:
        """After a restart, write what was found in the last day again: a row may have outlived the output of a crash,
        and the tick that decided it is old when it comes again."""
        if partition in self._told_again:
            return
        self._told_again.add(partition)
        since = self._context.partition_time(partition) - DAY
        for row in self._deployments.rows(partition):
            if "answer" in row and row.get("told_at", 0) >= since:
                self._write(partition, row["answer"]["finding"])

    def _learn(self, partition: int, row: Row, content: Row) -> None:
        """Take up what a deployment teaches, and settle what it is held against."""
        group = expected_duration.group_of(content)
        if "taught" in row and row["taught"] != group:  # corrected: it belongs elsewhere
            self._teach(partition, row["taught"], content["deployment_id"], None)
        sample = expected_duration.sample_of(content, self._deployments.policies(row["facts"])) if group else None
        if sample or "taught" in row:
            self._teach(partition, group, content["deployment_id"], sample)
            row["taught"] = group
        if content["started_at"] is not None and row.get("group") != group:
            samples = self._durations.get(row_key(partition, group), {"samples": []})["samples"] if group else []
            usual = expected_duration.usual_before(samples, content["started_at"])
            row["group"], row["usual"] = group, [usual.minutes, usual.samples]

    def _teach(self, partition: int, group: str, deployment_id: str, sample: expected_duration.Sample | None) -> None:
        key = row_key(partition, group)
        known = self._durations.get(key) or {"samples": [], "last": 0}
        samples = expected_duration.with_sample(known["samples"], deployment_id, sample)
        if samples != known["samples"]:
            last = max((one[0] for one in samples), default=known["last"])
            self._durations[key] = {"samples": samples, "last": last}
            self._old_durations.put(partition, key, self._durations[key])

    def _judge(self, partition: int, row: Row, by_itself: Row | None = None) -> None:
        facts = self._relations.of(partition).applied(row["facts"])
        if by_itself is not None and facts is row["facts"]:
            content = by_itself
        else:
            content = self._deployments.derive(partition, facts)
        policies, usual = self._deployments.policies(row["facts"]), _usual(row)
        now, answer = self._context.partition_time(partition), row.get("answer")
        found = overdue.judge(content, policies, usual, answer["finding"] if answer else None, now=now)
        row["over"] = overdue.is_over(content, policies, usual)
        if found is not None:
            link = next_link(answer, self._deployments.anew(row, found))
            if link != answer:
                row["answer"], row["told_at"] = link, now
        if "answer" in row:
            self._write(partition, row["answer"]["finding"])
        self._deployments.put(partition, row)

    def _due(self, row: Row) -> int | None:
        if "answer" in row or row.get("over") or not lifecycle.is_open(row["facts"]):
            return None
        policies = self._deployments.policies(row["facts"])
        # Not yet lost, whatever the time is: being overdue comes first.
        return overdue.due(lifecycle.derive(row["facts"], 0, None), policies, _usual(row))

    def _write(self, partition: int, found: Row) -> None:
        self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def _usual(row: Row) -> Usual:
    minutes, samples = row.get("usual", (0.0, 0))
    return Usual(minutes, samples)


def make(settings: Settings) -> SafeApp:
    """The overdue app."""
    return over_trail("overdue", settings, Overdue)
