"""Which deployment may have caused each alert? Answered at once, and again when more becomes known.

An answer rests on the deployments around, on how often the alert fires by itself, and on the answers to the alerts
before it. So what comes late is answered anew from its own time on, alert by alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key, rows_of
from deploytrail_processors.apps.deployments import DAY, Changed, Deployments
from deploytrail_processors.rules import causes, correlation, lifecycle
from deploytrail_processors.rules.causes import Habit
from deploytrail_processors.rules.policies import Policies
from deploytrail_processors.safe_app import SafeApp

# How long an answer may still change, since deployments are reported late.
REOPEN = 6 * 3_600_000_000
# Answers are kept for as long as later alerts may rest on them.
KEEP = max(REOPEN, causes.LOOKS_BACK_FOR_ITSELF)
# Deployments that are looked at for a signal: those of which something was heard so long before it, or after it.
RECENT = correlation.OLDEST + REOPEN
# A habit that has not been seen for so long is no habit.
KEEP_HABITS = 90 * DAY
# The habit of all alerts of a region and environment together.
EVERYONE = "everyone"
_COUNTED = 16
# What is kept of a deployment beside its facts, whatever name it was told of.
CARRIED = (correlation.LINES_CHANGED,)
_SIGNAL_FIELDS = (
    *("signal_id", "signal_type", "region", "environment", "service", "source", "severity", "title", "fingerprint"),
    *("corrected_at", "uncertainty_ms"),
)


# Told of a signal's row whenever it was answered, and of the findings of it that are new.
Tell = Callable[[int, Row, list[dict[str, Any]]], None]


class Correlation:
    """Rows of deployments: facts, and how many lines were changed. Rows of signals: the signal and its standing
    findings. Rows of habits: how often an alert fired, by hour of the day, and which signals were counted last."""

    def __init__(self, context: Context, deployments: Deployments | None = None, tell: Tell | None = None) -> None:
        """Another app that needs the answers runs this over its own `deployments`, and is told (`tell`) of each answer;
        then nothing is written."""
        self._context = context
        self._deployments = deployments or Deployments(context, lambda _: None, carries=CARRIED)
        self.changed: Changed | None = None  # what the last event changed, for that other app
        self._tell = tell or self._forward
        self._signals = context.table("signals")
        self._habits = context.table("habits")
        self._expiry = Agenda(self._signals, lambda row: row["signal"]["corrected_at"] + KEEP)
        self._old_habits = Agenda(self._habits, lambda row: row["last"] + KEEP_HABITS)
        # By partition: recent deployments and when something was last heard of each. Most of a table is older.
        self._recent: dict[int, dict[str, int]] = {}
        # Contents of deployments while alerts are answered one after the other: half of the work is deriving them.
        self._derived: dict[str, dict[str, Any]] = {}
        # Where recent deployments are, by row: asked of all of them for every alert, and seldom changed.
        self._places: dict[str, dict[str, str]] = {}

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._deployment(partition, value)
        elif kind is RecordType.SIGNAL and correlation.concerns(value):
            self._signal(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, _ in list(self._expiry.pop(partition, now)):
            self._signals.pop(key, None)
        for key, _ in list(self._old_habits.pop(partition, now)):
            self._habits.pop(key, None)
        self._deployments.forget_old(partition, now)
        recent = self._recent_of(partition)
        for name in [name for name, last in recent.items() if last < now - RECENT]:
            del recent[name]
            self._places.pop(row_key(partition, name), None)

    def on_recovered(self) -> None:
        self._recent.clear()
        self._places.clear()
        self._deployments.on_recovered()
        self._expiry.forget()
        self._old_habits.forget()

    def _signal(self, partition: int, signal: dict[str, Any]) -> None:
        key = row_key(partition, signal["signal_id"])
        row = self._signals.get(key)
        if row is None:
            row = {"signal": {name: signal[name] for name in _SIGNAL_FIELDS}, "findings": {}}
        elif row["findings"]:  # a redelivery: the output may not have outlived the crash
            self._tell(partition, row, list(row["findings"].values()))
        row["habit"] = row.get("habit") or self._count(partition, row["signal"])
        self._signals[key] = row
        self._expiry.put(partition, key, row)
        self._answer_from(partition, row["signal"]["corrected_at"])

    def _deployment(self, partition: int, event: dict[str, Any]) -> None:
        before = lifecycle.place(self._deployments.get(partition, event["deployment_id"])["facts"])
        self.changed = changed = self._deployments.add(partition, event)
        if lines := event["tags"].get(correlation.LINES_CHANGED, ""):
            changed.own[correlation.LINES_CHANGED] = lines
        recent = self._recent_of(partition)
        for row in (*changed.merged, *changed.rows):
            self._places.pop(row_key(partition, row["facts"]["id"]), None)
        for row in changed.merged:
            recent.pop(row["facts"]["id"], None)
        for row in changed.rows:
            self._deployments.put(partition, row)
            recent[row["facts"]["id"]] = row["facts"]["last"]
        related = [
            signal["corrected_at"]
            for signal in (answered["signal"] for _, answered in rows_of(self._signals, partition))
            if abs(signal["corrected_at"] - event["corrected_at"]) < REOPEN
            and (self._is_related(signal, event) or self._is_related(signal, before))
        ]
        if related:
            self._answer_from(partition, min(related))

    def _answer_from(self, partition: int, at: int) -> None:
        """Answer each signal of a partition from a time on, in their order: each answer rests on those before it."""
        rows = sorted(
            rows_of(self._signals, partition),
            key=lambda item: (item[1]["signal"]["corrected_at"], item[1]["signal"]["signal_id"]),
        )
        known = [(row["signal"], _causes(row)) for _, row in rows]
        self._derived.clear()
        for index, (key, row) in enumerate(rows):
            if row["signal"]["corrected_at"] >= at:
                row = self._answer(partition, key, row, known[:index])
                known[index] = (row["signal"], _causes(row))

    def _answer(self, partition: int, key: str, row: Row, before: list[tuple[dict[str, Any], dict[str, float]]]) -> Row:
        signal = row["signal"]
        policies = self._context.policies_at(signal["corrected_at"])
        own, everyone = (_habit(given) for given in row["habit"])
        past = correlation.past_of(signal, before, own, everyone, policies)
        found = correlation.correlate(signal, self._near(partition, signal, past, policies), policies, past)
        changed = correlation.supersede(row["findings"], found)
        if changed:
            row = {**row, "findings": {**row["findings"], **{f["deployment_id"]: f for f in changed}}}
            self._signals[key] = row
        self._tell(partition, row, changed)
        return row

    def _near(
        self, partition: int, signal: dict[str, Any], past: correlation.Past, policies: Policies
    ) -> list[dict[str, Any]]:
        """What may have caused the signal: changes around it, and whatever caused an alert before it."""
        inherited = {cause for earlier in past.earlier for cause in earlier.causes} - {causes.NONE}
        at = signal["corrected_at"]
        wanted = {self._deployments.stands_for(partition, name) for name in inherited}
        near = [name for name, last in self._recent_of(partition).items() if -REOPEN < at - last < correlation.OLDEST]
        found = []
        for name in sorted({self._deployments.stands_for(partition, name) for name in (*near, *inherited)}):
            if name in wanted or correlation.is_related(signal, self._place(partition, name), policies):
                if name not in self._derived:
                    row = self._deployments.get(partition, name)
                    lines = {correlation.LINES_CHANGED: _number(row.get(correlation.LINES_CHANGED))}
                    self._derived[name] = self._deployments.derive(partition, row["facts"]) | lines
                found.append(self._derived[name])
        return found

    def _place(self, partition: int, name: str) -> dict[str, str]:
        key = row_key(partition, name)
        found = self._places.get(key)
        if found is None:
            found = lifecycle.place(self._deployments.get(partition, name)["facts"])
            if name in self._recent_of(partition):  # others are not forgotten here
                self._places[key] = found
        return found

    def _recent_of(self, partition: int) -> dict[str, int]:
        if partition not in self._recent:
            rows = self._deployments.rows(partition)
            newest = max((row["facts"]["last"] for row in rows), default=0)
            found = {row["facts"]["id"]: row["facts"]["last"] for row in rows}
            self._recent[partition] = {name: last for name, last in found.items() if last > newest - RECENT}
        return self._recent[partition]

    def _count(self, partition: int, signal: dict[str, Any]) -> list[Any]:
        """What the habits were before this signal; it is counted once, however often it is delivered."""
        place = "/".join((signal["region"], signal["environment"]))
        return [
            self._count_one(partition, name, signal) for name in (correlation.alert_key(signal), f"{EVERYONE}/{place}")
        ]

    def _count_one(self, partition: int, name: str, signal: dict[str, Any]) -> list[Any]:
        key, at = row_key(partition, name), signal["corrected_at"]
        row = self._habits.get(key)
        if row is None:
            row = {"hours": [0] * 24, "since": self._since(partition, at), "last": at, "counted": []}
        before = [row["hours"], row["since"]]
        if signal["signal_id"] not in row["counted"]:
            hours = list(_habit(before).with_one(at).hours)
            counted = [*row["counted"], signal["signal_id"]][-_COUNTED:]
            row = {**row, "hours": hours, "last": max(row["last"], at), "counted": counted}
            self._habits[key] = row
            self._old_habits.put(partition, key, row)
        return before

    def _since(self, partition: int, at: int) -> int:
        """From when on this partition's alerts are known."""
        key = row_key(partition, "since")
        row = self._habits.get(key)
        if row is None:
            row = {"since": at, "last": 1 << 60, "hours": [], "counted": []}
            self._habits[key] = row
        return int(row["since"])

    def _is_related(self, signal: dict[str, Any], place: Mapping[str, Any]) -> bool:
        policies = self._context.policies_at(signal["corrected_at"])
        return correlation.is_related(signal, place, policies)

    def _forward(self, partition: int, _: Row, findings: list[dict[str, Any]]) -> None:
        for found in findings:
            self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def _causes(row: Row) -> dict[str, float]:
    """The probabilities of the answer that stands; empty before the first."""
    return {name: f["probability"] for name, f in row["findings"].items() if f["probability"]}


def _habit(given: list[Any]) -> Habit:
    hours, since = given
    return Habit(tuple(hours), since)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def make(settings: Settings) -> SafeApp:
    """The correlation app."""
    return over_trail("correlation", settings, Correlation)
