"""Which alerts keep quiet while a deployment runs? Each suppression is a finding, and so is each release.

An alert is judged when it comes, and again with every event of a deployment around it while none has suppressed it.
One that a deployment has suppressed stays bound to it: what comes of that deployment, the alert's own end and the
ticks release it.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key, rows_of
from deploytrail_processors.apps.deployments import DAY, Deployments
from deploytrail_processors.apps.relations import PartitionRelations
from deploytrail_processors.rules import findings, lifecycle, suppression
from deploytrail_processors.rules.correlation import alert_key
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.rules.suppression import Known
from deploytrail_processors.safe_app import SafeApp

# Longer than any suppression, a day, and its late corrections.
KEEP = DAY + 6 * 3_600_000_000
# What has not fired for so long was never seen.
KEEP_ALERTS = 90 * DAY
# Resolutions of one alert that are remembered.
_RESOLVED = 64
_SIGNAL_FIELDS = (
    *("signal_id", "region", "environment", "service", "severity", "title", "fingerprint"),
    *("corrected_at", "uncertainty_ms", "started_at", "source", "labels"),
)


class Suppress:
    """Rows of deployments: facts, and `notes`. Rows of signals: the signal, the standing `finding`, the deployment that
    it is `bound` to, when it would be `released`. Rows of alerts by their key: `first` and `last` seen, `resolved`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None, carries=("notes",))
        self._relations = PartitionRelations(self._deployments)
        self._signals = context.table("signals")
        self._alerts = context.table("alerts")
        self._due = Agenda(self._signals, lambda row: row["due"])
        self._expiry = Agenda(self._signals, lambda row: row["signal"]["corrected_at"] + KEEP)
        self._old_alerts = Agenda(self._alerts, lambda row: row["last"] + KEEP_ALERTS)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._deployment(partition, value)
        elif kind is RecordType.SIGNAL and suppression.concerns(value):
            self._firing(partition, value)
        elif kind is RecordType.SIGNAL and value["signal_type"] == "alert_resolved":
            self._resolved(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, row in self._due.pop_all(partition, now):
            self._judge(partition, key, row, by_tick=True)
        for key, _ in list(self._expiry.pop(partition, now)):
            self._signals.pop(key, None)
        for key, _ in list(self._old_alerts.pop(partition, now)):
            self._alerts.pop(key, None)
        self._relations.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._relations.clear()
        self._deployments.on_recovered()
        for agenda in (self._due, self._expiry, self._old_alerts):
            agenda.forget()

    def _firing(self, partition: int, signal: dict[str, Any]) -> None:
        at, width = signal["corrected_at"], (signal["uncertainty_ms"] or 0) * 1000
        alert = self._alert(partition, signal)
        alert["first"] = min(alert["first"] or at + width, at + width)
        self._put_alert(partition, signal, alert)
        key = row_key(partition, signal["signal_id"])
        row = self._signals.get(key)
        if row is None:
            kept = {name: signal[name] for name in _SIGNAL_FIELDS} | {"cohort": signal["labels"].get("cohort", "")}
            row = {"signal": kept, "finding": None, "bound": "", "due": None}
        self._judge(partition, key, row)

    def _resolved(self, partition: int, signal: dict[str, Any]) -> None:
        alert = self._alert(partition, signal)
        end = [signal["corrected_at"], signal["started_at"]]
        if end not in alert["resolved"]:
            alert["resolved"] = sorted([*alert["resolved"], end], key=lambda e: (e[0], e[1] or 0))[-_RESOLVED:]
        self._put_alert(partition, signal, alert)
        name = alert_key(signal)
        for key, row in rows_of(self._signals, partition):
            if row["bound"] and alert_key(row["signal"]) == name:
                self._judge(partition, key, row)

    def _deployment(self, partition: int, event: dict[str, Any]) -> None:
        relations = self._relations.of(partition)  # as they were before
        changed = self._deployments.add(partition, event)
        for row in changed.rows:
            self._deployments.put(partition, row)
        gone = [row["facts"]["id"] for row in changed.merged]
        relations.change(gone, [self._relations.life(partition, row) for row in changed.rows])
        for other in changed.merged:
            self._bind_anew(partition, other)
        undone = [self._undone(partition, row) for row in changed.rows]
        for row in (*changed.rows, *filter(None, undone)):
            self._judge_around(partition, row)

    def _undone(self, partition: int, row: Row) -> Row | None:
        """The row of the deployment that one has undone, which ended with that."""
        content = self._deployments.derive(partition, row["facts"])
        name = self._deployments.stands_for(partition, lifecycle.undoes(content) or "")
        if not name or name == content["deployment_id"]:
            return None
        other = self._deployments.get(partition, name)
        other["notes"] = suppression.note_end(other.get("notes") or suppression.new_notes(), "", content["finished_at"])
        self._deployments.put(partition, other)
        return other

    def _bind_anew(self, partition: int, other: Row) -> None:
        """What another name of a deployment keeps quiet, the deployment does. What was released stays so."""
        name, known_as = other["facts"]["id"], other["_into"]
        for key, row in rows_of(self._signals, partition):
            standing = row["finding"]
            if row["bound"] == name and standing["reason"] not in suppression.RELEASES:
                gone = findings.taken_back(standing, known_as, other.get("_again", 0))
                gone |= {"signal_id": standing["signal_id"]}
                row = {**row, "bound": known_as, "finding": findings.renamed(standing, gone, known_as), "gone": gone}
                self._signals[key] = row
            if row["bound"] == known_as and (row.get("gone") or {}).get("deployment_id") == name:
                gone = row["gone"]
                self._context.forward(Topic.FINDINGS, partition, gone["finding_id"], RecordType.FINDING, gone)

    def _judge_around(self, partition: int, row: Row) -> None:
        """Judge anew what a deployment suppresses, and what it might."""
        facts = row["facts"]
        place = lifecycle.place(facts)
        for key, known in rows_of(self._signals, partition):
            names = facts.get("names", [facts["id"]])
            standing = known["finding"] or {}
            newer = standing.get("evidence", {}).get("superseded_by", "")
            about_it = known["bound"] in names or standing.get("deployment_id") in names or newer in names
            # What another one keeps quiet as well: its place may be taken by this one.
            if about_it or self._is_near(known["signal"], facts, place):
                self._judge(partition, key, known, again=about_it)

    def _judge(self, partition: int, key: str, row: Row, *, again: bool = True, by_tick: bool = False) -> None:
        """Judge an alert. `again`: say also what stands, since its output may not have outlived a crash."""
        signal, standing, now = row["signal"], row["finding"], self._context.partition_time(partition)
        policies = self._context.policies_at(signal["corrected_at"])
        found = self._found(partition, row, policies, now)
        fresh = found is not None and suppression.replaces(found, standing)
        if found is not None and fresh:
            standing = found | ({"supersedes": standing["finding_id"]} if standing is not None else {})
        after = {**row, "finding": standing, "due": None}
        if standing is not None and standing["reason"] in suppression.BOUND:
            after["bound"] = standing["deployment_id"]
            if standing["reason"] not in suppression.RELEASES:
                after["due"] = self._released_at(partition, after, policies, now)
            elif by_tick and fresh:
                after["due"] = now + 1  # a tick does not come again: the next one says it once more
        if after != row or key not in self._signals:
            self._signals[key] = after
            self._due.put(partition, key, after)
            self._expiry.put(partition, key, after)
        if standing is not None and (fresh or again):
            self._context.forward(Topic.FINDINGS, partition, standing["finding_id"], RecordType.FINDING, standing)

    def _found(self, partition: int, row: Row, policies: Policies, now: int) -> dict[str, Any] | None:
        signal = row["signal"]
        alert = self._alert(partition, signal)
        known = Known(alert["first"], suppression.resolves(signal, alert["resolved"]))
        if row["bound"]:
            deployment = self._known(partition, self._deployments.get(partition, row["bound"]))
            return suppression.release(signal, known, deployment, policies, now=now)
        if known.resolved_at is not None:
            return None
        near = [
            self._known(partition, one)
            for one in self._deployments.near(
                partition,
                lambda place: suppression.is_near(signal, place, policies),
                signal["corrected_at"] - KEEP,
                signal["corrected_at"] + KEEP,
            )
            if self._is_near(signal, one["facts"], lifecycle.place(one["facts"]))
        ]
        return suppression.decide(signal, known, near, policies, now=now)

    def _is_near(self, signal: dict[str, Any], facts: dict[str, Any], place: dict[str, str]) -> bool:
        if abs(signal["corrected_at"] - facts["last"]) >= KEEP:
            return False
        policies = self._context.policies_at(signal["corrected_at"])
        return suppression.is_near(signal, place, policies)

    def _released_at(self, partition: int, row: Row, policies: Policies, now: int) -> int | None:
        """When a tick releases a suppressed alert, unless something else does before."""
        deployment = self._known(partition, self._deployments.get(partition, row["bound"]))
        cover = suppression.cover_of(row["signal"], deployment, policies)
        ends = (cover.until, deployment.lost_at) if cover is not None else ()
        return min((end for end in ends if end > now), default=None)

    def _known(self, partition: int, row: Row) -> suppression.Deployment:
        content = self._deployments.derive(partition, row["facts"])
        limit = self._deployments.policies(row["facts"]).thresholds.lost_after_minutes
        overtaken = self._relations.of(partition).overtaken(row["facts"]["id"])
        return suppression.Deployment(content, _notes(row), lifecycle.due(row["facts"], limit), overtaken)

    def _alert(self, partition: int, signal: dict[str, Any]) -> Row:
        row: Row | None = self._alerts.get(row_key(partition, alert_key(signal)))
        return dict(row) if row is not None else {"first": None, "last": 0, "resolved": []}

    def _put_alert(self, partition: int, signal: dict[str, Any], alert: Row) -> None:
        key = row_key(partition, alert_key(signal))
        alert["last"] = max(alert["last"], signal["corrected_at"])
        self._alerts[key] = alert
        self._old_alerts.put(partition, key, alert)


def _notes(row: Row) -> suppression.Notes:
    """What matters of a deployment's reports, and of rollbacks of it."""
    notes = suppression.notes_of(row["facts"])
    for cohort, at in (row.get("notes") or suppression.new_notes())["ended"].items():
        notes = suppression.note_end(notes, cohort, at)
    return notes


def make(settings: Settings) -> SafeApp:
    """The suppression app."""
    return over_trail("suppression", settings, Suppress)
