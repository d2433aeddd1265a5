"""Which deployment may have caused each alert? Answered at once, and again when more becomes known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key, rows_of
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import correlation, lifecycle
from deploytrail_processors.safe_app import SafeApp

# How long an answer may still change, since deployments are reported late.
REOPEN = 6 * 3_600_000_000
_SIGNAL_FIELDS = (
    *("signal_id", "signal_type", "region", "environment", "service", "source", "severity", "title", "fingerprint"),
    *("corrected_at", "uncertainty_ms"),
)


class Correlation:
    """Rows of deployments: facts. Rows of signals: the signal and its standing findings."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None)
        self._signals = context.table("signals")
        self._expiry = Agenda(self._signals, lambda row: row["signal"]["corrected_at"] + REOPEN)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._deployment(partition, value)
        elif kind is RecordType.SIGNAL and correlation.concerns(value):
            self._signal(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, _ in list(self._expiry.pop(partition, now)):
            self._signals.pop(key, None)
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()
        self._expiry.forget()

    def _signal(self, partition: int, signal: dict[str, Any]) -> None:
        key = row_key(partition, signal["signal_id"])
        row = self._signals.get(key)
        if row is None:
            row = {"signal": {name: signal[name] for name in _SIGNAL_FIELDS}, "findings": {}}
        elif row["findings"]:  # a redelivery: the output may not have outlived the crash
            self._forward(partition, list(row["findings"].values()))
        self._answer(partition, key, row)

    def _deployment(self, partition: int, event: dict[str, Any]) -> None:
        row = self._deployments.get(partition, event["deployment_id"])
        row["facts"] = lifecycle.add(row["facts"], event)
        self._deployments.put(partition, row)
        for key, answered in rows_of(self._signals, partition):
            signal = answered["signal"]
            if abs(signal["corrected_at"] - event["corrected_at"]) < REOPEN and self._related(signal, event):
                self._answer(partition, key, answered)

    def _answer(self, partition: int, key: str, row: Row) -> None:
        signal = row["signal"]
        policies = self._context.policies_at(signal["corrected_at"])
        near = [
            self._deployments.derive(partition, deployment["facts"])
            for deployment in self._deployments.rows(partition)
            if abs(deployment["facts"]["last"] - signal["corrected_at"]) < REOPEN
            and self._related(signal, lifecycle.place(deployment["facts"]))
        ]
        changed = correlation.supersede(row["findings"], correlation.correlate(signal, near, policies))
        if not changed:
            return
        row = {**row, "findings": {**row["findings"], **{f["deployment_id"]: f for f in changed}}}
        self._signals[key] = row
        self._expiry.put(partition, key, row)
        self._forward(partition, changed)

    def _related(self, signal: dict[str, Any], place: Mapping[str, Any]) -> bool:
        policies = self._context.policies_at(signal["corrected_at"])
        return correlation.is_related(signal, place, policies)

    def _forward(self, partition: int, findings: list[dict[str, Any]]) -> None:
        for found in findings:
            self._context.forward(Topic.FINDINGS, partition, found["finding_id"], RecordType.FINDING, found)


def make(settings: Settings) -> SafeApp:
    """The correlation app."""
    return over_trail("correlation", settings, Correlation)
