"""Was each deployment a success? One standing verdict a deployment, given at a tick once it was observed for long
enough, and again when what becomes known later changes it.

Which incidents a deployment has caused is the answer of correlation. The order of `findings` against the trail is
nowhere recorded; so the same handler runs here over the same trail, told instead of written, and a replay judges by the
same answers: the finding ids that a verdict cites are those on the topic.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key
from deploytrail_processors.apps.correlation import CARRIED, Correlation
from deploytrail_processors.apps.deployments import DAY, Deployments
from deploytrail_processors.apps.health_checks import KEEP_HEALTH, HealthChecks, seen_of
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules import success_criteria as success
from deploytrail_processors.rules.findings import next_link
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Policies, SuccessCriteria, success_criteria_for
from deploytrail_processors.rules.policies.success import SEVERITIES
from deploytrail_processors.safe_app import SafeApp

# Of a service in an environment so many ends are remembered, the latest; of a deployment so many incidents, the
# gravest.
MOST_ENDS, MOST_INCIDENTS = 500, 50


class Success:
    """Rows of deployments: facts, when it was `undone` by which rollbacks, `incidents` by signal, when a verdict is
    `due`, the standing `answer` and when it was told (`told_at`). Rows of ends, by place:
    [when, id, when undone or None, whether it counts as a change]. Of health checks see `HealthChecks`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(
            context, lambda row: row.get("due"), says=("answer",), carries=(*CARRIED, "undone")
        )
        self._correlation = Correlation(context, self._deployments, self._answered)
        self._ends, self._health = context.table("ends"), HealthChecks(context)
        self._old_ends = Agenda(self._ends, lambda row: row["last"] + context.settings.remember_days * DAY)
        self._told_again: set[int] = set()
        self._touched: set[str] = set()  # deployments whose incidents have changed

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        self._tell_again(partition)
        self._touched.clear()
        self._correlation.on_record(partition, kind, value)  # adds an event to the facts, too
        if kind is RecordType.DEPLOYMENT_EVENT:
            changed = self._correlation.changed
            for row in changed.merged if changed else ():
                if "ended_in" in row:
                    self._put_ends(partition, row["ended_in"], row["facts"]["id"], None)
            for row in changed.rows if changed else ():
                self._touched |= self._deployment(partition, row["facts"]["id"])
        elif kind is RecordType.SIGNAL and value["signal_type"] == "health_check":
            self._touched |= self._seen(partition, value)
        for deployment_id in sorted(self._touched):
            self._judge(partition, deployment_id)

    def on_tick(self, partition: int, now: int) -> None:
        self._tell_again(partition)
        self._correlation.on_tick(partition, now)
        for row in self._deployments.due(partition, now):
            self._judge(partition, row["facts"]["id"], by_tick=True)
        for key, _ in list(self._old_ends.pop(partition, now)):
            self._ends.pop(key, None)
        self._health.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._told_again.clear()
        self._correlation.on_recovered()  # and the deployments with it
        self._old_ends.forget()
        self._health.on_recovered()

    def _tell_again(self, partition: int) -> None:
        """After a restart, write the verdicts of the last day again: a row may have outlived the output of a crash, and
        the tick that decided it is old when it comes again."""
        if partition in self._told_again:
            return
        self._told_again.add(partition)
        since = self._context.partition_time(partition) - DAY
        for row in self._deployments.rows(partition):
            if (finding := _standing(row)) is not None and row["told_at"] >= since:
                self._write(partition, finding)

    def _answered(self, partition: int, answer: Row, _: list[dict[str, Any]]) -> None:
        """Correlation has answered a signal: note it with each deployment that it speaks of."""
        signal = answer["signal"]
        for deployment_id, found in answer["findings"].items():
            row = self._deployments.get(partition, deployment_id)
            if not lifecycle.is_reported(row["facts"]) or row["facts"]["id"] != deployment_id:
                continue  # of another name nothing is noted: the answer names the one that stands for it, too
            incidents = dict(row.get("incidents", {}))
            if found["probability"] < success.POSSIBLE:
                incidents.pop(signal["signal_id"], None)
            else:
                incidents[signal["signal_id"]] = [
                    *(found["finding_id"], signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000),
                    *(signal["severity"], found["probability"], signal["title"] or signal["fingerprint"]),
                ]
            if incidents != row.get("incidents", {}):
                row["incidents"] = dict(sorted(incidents.items(), key=_gravest)[:MOST_INCIDENTS])
                self._deployments.put(partition, row)
                self._touched.add(deployment_id)

    def _deployment(self, partition: int, deployment_id: str) -> set[str]:
        """Note what an event has changed; the deployments whose verdicts that may change."""
        content = self._content(partition, deployment_id)
        touched = {deployment_id} | self._note_end(partition, deployment_id)
        undone = self._deployments.stands_for(partition, lifecycle.undoes(content) or "")
        if undone and undone != deployment_id:
            row = self._deployments.get(partition, undone)
            row["undone"] = {**row.get("undone", {}), deployment_id: content["finished_at"]}
            self._deployments.put(partition, row)
            touched |= {undone} | self._note_end(partition, undone)
        return touched

    def _note_end(self, partition: int, deployment_id: str) -> set[str]:
        """Note a deployment's end among those of its place; the deployments behind it, whose rate it is part of."""
        row = self._deployments.get(partition, deployment_id)
        if not lifecycle.is_reported(row["facts"]):
            return set()
        content = self._content(partition, deployment_id)
        place = _place_key(partition, content)
        if row.get("ended_in", place) != place:  # corrected: it belongs elsewhere
            self._put_ends(partition, row["ended_in"], deployment_id, None)
        if row.get("ended_in") != place:
            self._deployments.put(partition, {**row, "ended_in": place})
        if not success.is_finished(content):
            self._put_ends(partition, place, deployment_id, None)
            return set()
        counts = success.counts_as_change(content)
        end = [content["finished_at"], deployment_id, _undone_at(row, content), counts]
        self._put_ends(partition, place, deployment_id, end)
        return {other for at, other, *_ in self._ends[place]["ends"] if counts and at >= end[0]}

    def _put_ends(self, partition: int, key: str, deployment_id: str, end: list[Any] | None) -> None:
        known = self._ends.get(key) or {"ends": [], "last": 0}
        ends = [one for one in known["ends"] if one[1] != deployment_id]
        ends = sorted([*ends, end] if end else ends, key=lambda one: one[:2])[-MOST_ENDS:]
        if ends != known["ends"]:
            row = {"ends": ends, "last": max((one[0] for one in ends), default=0)}
            self._ends[key] = row
            self._old_ends.put(partition, key, row)

    def _seen(self, partition: int, check: dict[str, Any]) -> set[str]:
        """Keep a health check where a policy asks for health; the deployments that it may speak of."""
        at = check["corrected_at"]
        if not _asks_for_health(self._context.policies_at(at)):
            return set()
        place = _place_key(partition, check)
        self._health.add(partition, place, seen_of(check))
        standing = {
            name: _standing(self._deployments.get(partition, name))
            for ended, name, *_ in self._ends.get(place, {"ends": []})["ends"]
            if at - KEEP_HEALTH <= ended
        }
        return {name for name, finding in standing.items() if finding and at <= finding["occurred_at"]}

    def _judge(self, partition: int, deployment_id: str, *, by_tick: bool = False) -> None:
        row = self._deployments.get(partition, deployment_id)
        if not lifecycle.is_reported(row["facts"]):
            return
        content, standing = self._content(partition, deployment_id), _standing(row)
        row["due"], found = None, None
        if content["state"] == "voided":
            found = success.voided(content, standing) if standing else None
        elif success.is_finished(content):
            documents, criteria = self._policy(content)
            now = self._context.partition_time(partition)
            row["due"] = success.due(content, criteria)
            # The first verdict is a tick's, so that what is reported late together is judged together.
            if by_tick or standing:
                known = self._known(partition, row, content, criteria)
                found = success.judge(content, known, criteria, documents, now=now, stands=standing is not None)
            if found is not None and row["due"] <= now:
                row["due"] = None
        if found is not None and (link := next_link(row.get("answer"), self._deployments.anew(row, found))) != row.get(
            "answer"
        ):
            row["answer"], row["told_at"] = link, self._context.partition_time(partition)
            self._write(partition, link["finding"])
        self._deployments.put(partition, row)

    def _known(
        self, partition: int, row: Row, content: dict[str, Any], criteria: SuccessCriteria | None
    ) -> success.Known:
        place = _place_key(partition, content)
        ends = self._ends.get(place, {"ends": []})["ends"]
        health: list[Row] = []
        if criteria is not None and criteria.health is not None:
            begin, until = success.health_span(content, criteria.health)
            health = self._health.between(partition, place, begin, until)
        return success.Known(
            undone_at=_undone_at(row, content),
            changes=[success.Change(at, name, undone) for at, name, undone, counts in ends if counts],
            incidents=[success.Incident(*incident) for incident in row.get("incidents", {}).values()],
            health=health,
        )

    def _content(self, partition: int, deployment_id: str) -> dict[str, Any]:
        return self._deployments.derive(partition, self._deployments.get(partition, deployment_id)["facts"])

    def _policy(self, content: dict[str, Any]) -> tuple[tuple[str, ...], SuccessCriteria | None]:
        policies = self._context.policies_at(content["finished_at"])
        service = policies.service(content["service"])
        subject = {
            **{name: content[name] for name in ("service", "environment", "region", "kind")},
            "team": service.team or content["team"],
            "tier": service.tier or content["tier"],
        }
        documents, criteria = success_criteria_for(subject, policies)
        return tuple(document.key for document in documents), criteria

    def _write(self, partition: int, found: Row) -> None:
        self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def _place_key(partition: int, value: dict[str, Any]) -> str:
    return row_key(partition, joined(*(value[name] for name in lifecycle.PLACE)))


def _standing(row: Row) -> Row | None:
    return row["answer"]["finding"] if "answer" in row else None


def _undone_at(row: Row, content: dict[str, Any]) -> int | None:
    """When a deployment was undone: by a rollback, or as it says itself."""
    own = [content["finished_at"]] if content["state"] == "rolled_back" else []
    return min((*row.get("undone", {}).values(), *own), default=None)


def _gravest(incident: tuple[str, list[Any]]) -> tuple[int, float, str]:
    severity, probability = incident[1][3], incident[1][4]
    return -SEVERITIES.index(severity) if severity in SEVERITIES else 1, -probability, incident[0]


def _asks_for_health(policies: Policies) -> bool:
    specs = (document.spec for document in policies.of_kind("success_criteria"))
    return any(isinstance(spec, SuccessCriteria) and spec.health is not None for spec in specs)


def make(settings: Settings) -> SafeApp:
    """The success_criteria app."""
    return over_trail("success_criteria", settings, Success)
