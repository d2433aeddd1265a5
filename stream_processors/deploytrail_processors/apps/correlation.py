"""Which deployment may have caused each alert? Answered at once, and again when more becomes known.

An answer rests on the deployments around, on how often the alert fires by itself, and on the answers to the alerts
before it. So what comes late is answered anew from its own time on, alert by alert.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key
from deploytrail_processors.apps.deployments import DAY, NEVER, Changed, Deployments
from deploytrail_processors.apps.timeline import Timeline
from deploytrail_processors.rules import candidates, causes, correlation, lifecycle, past, storms
from deploytrail_processors.rules.causes import Habit
from deploytrail_processors.rules.deployment_times import began
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.past import Past
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.safe_app import SafeApp

# How long an answer may still change, since deployments are reported late.
REOPEN = 6 * 3_600_000_000
# Answers are kept for as long as later alerts may rest on them.
KEEP = max(REOPEN, causes.LOOKS_BACK_FOR_ITSELF)
# A habit that has not been seen for so long is no habit.
KEEP_HABITS = 90 * DAY
# The habit of all alerts of a region and environment together.
EVERYONE = "everyone"
_COUNTED = 16
# What is kept of a deployment beside its facts, whatever name it was told of.
WEIGHTS = "weights"
CARRIED = (correlation.LINES_CHANGED, WEIGHTS)
_SIGNAL_FIELDS = (
    *("signal_id", "signal_type", "region", "environment", "service", "source", "severity", "title", "fingerprint"),
    *("corrected_at", "uncertainty_ms"),
)


# Told of a signal's row whenever it was answered, and of the findings of it that are new.
Tell = Callable[[int, Row, list[dict[str, Any]]], None]


class Correlation:
    """Rows of deployments: facts, how many lines were changed, and the weights that its cohorts had; the same of what
    was deployed in all regions and stands in another partition (`elsewhere`). Rows of signals:
    the signal, its standing findings, the `incident` that it belongs to, the `storm` where that is one, the services
    `beside` where others of its `incident_id` are, and the id of the record that gave the answer (`by`). Rows of
    habits: how often an alert fired, by hour of the day, and which signals were counted last, with their times."""

    def __init__(self, context: Context, deployments: Deployments | None = None, tell: Tell | None = None) -> None:
        """Another app that needs the answers runs this over its own `deployments`, and is told (`tell`) of each answer;
        then nothing is written."""
        self._context = context
        self._deployments = deployments or Deployments(context, lambda _: None, carries=CARRIED)
        self._elsewhere = Deployments(context, lambda _: None, carries=CARRIED, table="elsewhere")
        self.changed: Changed | None = None  # what the last event changed, for that other app
        self._tell = tell or self._forward
        self._signals = context.table("signals")
        self._habits = context.table("habits")
        self._expiry = Agenda(self._signals, lambda row: row["signal"]["corrected_at"] + KEEP)
        self._old_habits = Agenda(self._habits, lambda row: row["last"] + KEEP_HABITS)
        self._in_order = Timeline(self._signals, lambda row: row["signal"]["corrected_at"])

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self.changed = self._deployment(partition, value, self._deployments)
        elif kind is RecordType.GLOBAL_CHANGE:
            self._deployment(partition, value, self._elsewhere)
        elif kind is RecordType.SIGNAL and correlation.concerns(value):
            self._signal(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, row in list(self._expiry.pop(partition, now)):
            self._in_order.remove(partition, key, row)
            self._signals.pop(key, None)
        for key, _ in list(self._old_habits.pop(partition, now)):
            self._habits.pop(key, None)
        for known in (self._deployments, self._elsewhere):
            known.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._in_order.forget()
        self._deployments.on_recovered()
        self._elsewhere.on_recovered()
        self._expiry.forget()
        self._old_habits.forget()

    def _signal(self, partition: int, signal: dict[str, Any]) -> None:
        key = row_key(partition, signal["signal_id"])
        row = self._signals.get(key)
        if row is None:
            kept = {name: signal[name] for name in _SIGNAL_FIELDS} | candidates.said_by(signal)
            row = {"signal": kept, "findings": {}}
        elif row["findings"] and row.get("by") != signal["signal_id"]:
            # A redelivery: the output may not have outlived the crash.
            self._tell(partition, row, list(row["findings"].values()))
        row["habit"] = row.get("habit") or self._count(partition, row["signal"])
        self._signals[key] = row
        self._expiry.put(partition, key, row)
        self._in_order.put(partition, key, row)
        self._answer_from(partition, self._first_of_incident(partition, row["signal"]), signal["signal_id"])

    def _first_of_incident(self, partition: int, signal: dict[str, Any]) -> int:
        """From when on a signal changes answers: from the first of its incident that did not know of its service yet,
        or was answered by it."""
        at, by = int(signal["corrected_at"]), signal["signal_id"]
        if not signal["incident_id"]:
            return at
        before = self._in_order.between(partition, at - causes.LOOKS_BACK_FOR_ITSELF, at)
        for _, row in before:
            one, beside = row["signal"], tuple(row.get("beside", ()))
            if past.share_an_incident(one, signal) and (
                past.with_service(beside, one, signal["service"]) != beside or row.get("by") == by
            ):
                return int(one["corrected_at"])
        return at

    def _deployment(self, partition: int, event: dict[str, Any], among: Deployments) -> Changed:
        known = among.get(partition, event["deployment_id"])["facts"]
        begins, places = [self._begin(partition, known)], [event, *lifecycle.places(known)]
        changed = among.add(partition, event)
        if lines := event["tags"].get(correlation.LINES_CHANGED, ""):
            changed.own[correlation.LINES_CHANGED] = lines
        if lifecycle.share_in(event) is not None:
            changed.own[WEIGHTS] = candidates.weights_with(changed.own.get(WEIGHTS, ()), event)
        for row in changed.rows:
            among.put(partition, row)
        begins += [self._begin(partition, row["facts"]) for row in (*changed.rows, *changed.merged)]
        # What began behind an alert is none of its causes: only alerts since the begin can have another answer now.
        begin = min(begins)
        related = [
            signal["corrected_at"]
            for signal, beside in (
                (answered["signal"], answered.get("beside", ()))
                for _, answered in self._around(partition, event["corrected_at"])
            )
            if correlation.latest(signal) >= begin and any(self._is_related(signal, place, beside) for place in places)
        ]
        if related:
            self._answer_from(partition, min(related), event["event_id"])
        return changed

    def _begin(self, partition: int, facts: lifecycle.Facts) -> int:
        """When a deployment began at the earliest; NEVER where it is not known to have."""
        begun = began(self._deployments.derive(partition, facts)) if lifecycle.is_reported(facts) else None
        return begun[0] - begun[1] if begun is not None else NEVER

    def _around(self, partition: int, at: int) -> list[tuple[str, Row]]:
        """The signals whose answers may still change by what happened at a time."""
        return self._in_order.between(partition, at - REOPEN + 1, at + REOPEN)

    def _answer_from(self, partition: int, at: int, by: str) -> None:
        """Answer each signal of a partition from a time on, in their order: each answer rests on those before it.

        `by`: the id of the record for which they are answered. At its redelivery what it changed is told again.
        """
        # One more alert makes a storm of those before it, too.
        since = at - int(self._context.policies_at(at).thresholds.storm_minutes * correlation.MINUTE)
        rows = self._in_order.between(partition, since - causes.LOOKS_BACK_FOR_ITSELF)
        known = [(row["signal"], _causes(row)) for _, row in rows]
        signals = [signal for signal, _ in known]
        stand = [row.get("incident", signal["signal_id"]) for signal, (_, row) in zip(signals, rows, strict=True)
                 if signal["corrected_at"] < at]  # fmt: skip
        belongs = storms.incidents(signals, stand, self._context.policies_at)
        beside = past.beside(signals)
        for index, storm in enumerate(storms.storms(signals, belongs, self._context.policies_at)):
            key, row = rows[index]
            when = row["signal"]["corrected_at"]
            joins = (storm and storm != row.get("storm", "")) or row.get("by") == by
            if when >= at or (when >= since and joins):
                row = {**row, "incident": belongs[index], "storm": storm, "beside": beside[index]}
                row = self._answer(partition, key, row, known[:index], by)
                known[index] = (row["signal"], _causes(row))

    def _answer(
        self, partition: int, key: str, row: Row, before: list[tuple[dict[str, Any], dict[str, float]]], by: str
    ) -> Row:
        signal = row["signal"]
        policies = self._context.policies_at(signal["corrected_at"])
        own, everyone = (_habit(given) for given in row["habit"])
        known = past.past_of(signal, before, own, everyone, policies, row["storm"], row["beside"])
        found = correlation.correlate(signal, self._near(partition, signal, known, policies), policies, known)
        changed = correlation.supersede(row["findings"], found)
        if changed:
            row = {**row, "findings": {**row["findings"], **{f["deployment_id"]: f for f in changed}}, "by": by}
        elif row.get("by") == by:
            changed = list(row["findings"].values())
        if row != self._signals[key]:
            self._signals[key] = row
        self._tell(partition, row, changed)
        return row

    def _near(self, partition: int, signal: dict[str, Any], known: Past, policies: Policies) -> list[dict[str, Any]]:
        """What may have caused the signal: changes around it, and whatever caused an alert before it."""
        inherited = {cause for earlier in known.earlier for cause in earlier.causes} - {causes.NONE}
        at, rows = signal["corrected_at"], dict[str, Row]()

        def is_related(place: Mapping[str, Any]) -> bool:
            return correlation.is_related(signal, place, policies, known.beside)

        for among in (self._elsewhere, self._deployments):  # of one id the region's own word counts
            near = among.near(partition, is_related, at - correlation.OLDEST + 1, at + REOPEN - 1)
            wanted = {among.stands_for(partition, name) for name in inherited}
            rows |= {
                row["facts"]["id"]: row
                for row in near
                if row["facts"]["id"] in wanted or any(map(is_related, lifecycle.places(row["facts"])))
            }
            rows |= {
                name: row for name in wanted if lifecycle.is_reported((row := among.get(partition, name))["facts"])
            }
        return [self._content(partition, row, correlation.latest(signal)) for _, row in sorted(rows.items())]

    def _content(self, partition: int, row: Row, at: int) -> dict[str, Any]:
        """A deployment's content, with its size, and its cohorts as they were at a time."""
        content = self._deployments.derive(partition, row["facts"])
        if content["cohorts"]:
            content[correlation.COHORTS] = candidates.cohorts_at(row["facts"], row.get(WEIGHTS, ()), at)
        return content | {correlation.LINES_CHANGED: candidates.size_of(row.get(correlation.LINES_CHANGED))}

    def _count(self, partition: int, signal: dict[str, Any]) -> list[Any]:
        """What the habits were before this signal; it is counted once, however often it is delivered."""
        place = joined(signal["region"], signal["environment"])
        return [
            self._count_one(partition, name, signal) for name in (correlation.alert_key(signal), f"{EVERYONE}/{place}")
        ]

    def _count_one(self, partition: int, name: str, signal: dict[str, Any]) -> list[Any]:
        key, at = row_key(partition, name), signal["corrected_at"]
        row = self._habits.get(key)
        if row is None:
            row = {"hours": [0] * 24, "since": self._since(partition, at), "last": at, "counted": []}
        known = [signal_id for signal_id, _ in row["counted"]]
        if signal["signal_id"] in known:
            # The signal's own row has not outlived a crash: what was counted since is not before it.
            return _before(row, known.index(signal["signal_id"]))
        hours = list(_habit([row["hours"], row["since"]]).with_one(at).hours)
        counted = [*row["counted"], [signal["signal_id"], at]][-_COUNTED:]
        self._habits[key] = new = {**row, "hours": hours, "last": max(row["last"], at), "counted": counted}
        self._old_habits.put(partition, key, new)
        return [row["hours"], row["since"]]

    def _since(self, partition: int, at: int) -> int:
        """From when on this partition's alerts are known."""
        key = row_key(partition, "since")
        row = self._habits.get(key)
        if row is None:
            row = {"since": at, "last": 1 << 60, "hours": [], "counted": []}
            self._habits[key] = row
        return int(row["since"])

    def _is_related(self, signal: dict[str, Any], place: Mapping[str, Any], beside: Collection[str]) -> bool:
        policies = self._context.policies_at(signal["corrected_at"])
        return correlation.is_related(signal, place, policies, beside)

    def _forward(self, partition: int, _: Row, findings: list[dict[str, Any]]) -> None:
        for found in findings:
            self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def _causes(row: Row) -> dict[str, float]:
    """The probabilities of the answer that stands; empty before the first."""
    return {name: f["probability"] for name, f in row["findings"].items() if f["probability"]}


def _before(row: Row, index: int) -> list[Any]:
    """What a habit was before one of the signals that were counted last."""
    habit = _habit([row["hours"], row["since"]])
    for _, at in row["counted"][index:]:
        habit = habit.with_one(at, -1)
    return [list(habit.hours), habit.since]


def _habit(given: list[Any]) -> Habit:
    hours, since = given
    return Habit(tuple(hours), since)


def make(settings: Settings) -> SafeApp:
    """The correlation app."""
    return over_trail("correlation", settings, Correlation)
