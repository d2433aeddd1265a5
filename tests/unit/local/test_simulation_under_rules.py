"""The rules, asked about the simulated day without any transport: they find what was planted.

Records are those of the app `lifecycle` in memory, since they also rest on other deployments of the day.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import deploytrail_local
import pytest
from deploytrail_local.simulation import GroundTruth, simulate
from deploytrail_local.simulation.world import HOUR, MINUTE
from deploytrail_processors.apps.lifecycle import Lifecycle
from deploytrail_processors.policy_files import read_files
from deploytrail_processors.rules import aliases, change_window, clock, correlation, overdue
from deploytrail_processors.rules.policies import Policies, PolicySet
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from support.apps import Handled, tick

KINDS = {"deployment": RecordType.DEPLOYMENT_EVENT, "signal": RecordType.SIGNAL}
Value = dict[str, Any]


class Judged:
    """The day after clocks were corrected and deployments derived."""

    def __init__(self, seed: int) -> None:
        lines, self.truth = simulate(seed)
        sources, _ = read_files([Path(deploytrail_local.__file__).parent / "policies"])
        self._documents = [source.value for source in sources]
        self.policies: Policies = PolicySet().with_documents(s.document for s in sources).at(self.truth.closes_at)
        clocks: dict[str, clock.ClockState] = {}
        self.canonical: dict[str, Value] = {}
        for line in lines:
            kind = KINDS.get(line["kind"])
            if kind is None or line["value"][kind.id_field] in self.canonical:
                continue
            value = decode(encode(kind, validate(kind, line["value"])[0]))[1]
            sent, received = parse_instant(line["sent_at"]), parse_instant(line["received_at"])
            echo = clock.Echo(*map(parse_instant, line["echo"])) if "echo" in line else None
            name = value["producer_id"]
            clocks[name] = clock.observe(
                clocks.get(name, clock.ClockState()), sent_at=sent, received_at=received, echo=echo
            )
            fixed = clock.correct(clocks[name], occurred_at=value["occurred_at"], sent_at=sent, received_at=received)
            names = aliases.canonical(
                aliases.Names(value["region"], value["environment"], value["service"]), self.policies
            )
            value |= {
                "region": names.region,
                "environment": names.environment,
                "service": names.service,
                "corrected_at": fixed.at,
                "uncertainty_ms": fixed.uncertainty_ms,
            }
            self.canonical[value[kind.id_field]] = value
        self.records = self._tell_lifecycle(lines)

    def _tell_lifecycle(self, lines: list[Value]) -> dict[str, Value]:
        """The records that the app writes: what deployments of one place do to each other is in them, too."""
        handled = Handled(Lifecycle, self._documents)
        time = 0
        told: set[str] = set()
        for line in lines:
            received = parse_instant(line["received_at"])
            if received - received % MINUTE > time:
                time = received - received % MINUTE
                handled.tell(tick(time))
            kind = KINDS.get(line["kind"])
            name = line["value"][kind.id_field] if kind is not None else ""
            if kind is RecordType.DEPLOYMENT_EVENT and name not in told:
                told.add(name)
                handled.handle(kind, self.canonical[name])
        handled.tell(tick(self.truth.closes_at))
        return {record["deployment_id"]: record for record in handled.written}

    def window_positions(self) -> dict[str, set[str]]:
        found = defaultdict(set)
        for name, record in self.records.items():
            service = self.policies.service(record["service"])
            subject = {**record, "team": service.team, "tier": service.tier}
            at, width = record["started_at"], record["started_at_uncertainty_ms"] * 1000
            found[change_window.judge(subject, self.policies, at=at, uncertainty=width).position.value].add(name)
        return found

    def blamed(self, signal_id: str) -> str:
        findings = correlation.correlate(self.canonical[signal_id], self.records.values(), self.policies)
        return str(findings[0]["deployment_id"])


@pytest.fixture(scope="module", params=(1, 4, 7, 42))
def judged(request: pytest.FixtureRequest) -> Judged:
    return Judged(request.param)


@pytest.fixture(scope="module")
def truth(judged: Judged) -> GroundTruth:
    return judged.truth


@pytest.mark.requirement("M8.3")
def test_true_time_lies_within_the_stated_uncertainty(judged: Judged, truth: GroundTruth) -> None:
    missed = [
        name
        for name, d in truth.deployments.items()
        if abs(judged.records[name]["started_at"] - d.started_at)
        > judged.records[name]["started_at_uncertainty_ms"] * 1000
    ]

    assert missed == []


@pytest.mark.requirement("M4.2")
def test_windows_are_judged_as_planted(judged: Judged, truth: GroundTruth) -> None:
    positions = judged.window_positions()

    assert positions["outside"] == truth.outside_window
    assert positions["uncertain"] == truth.uncertain_window


@pytest.mark.requirement("M4.2")
def test_too_long_deployments_are_found(judged: Judged, truth: GroundTruth) -> None:
    late = set()
    for name, record in judged.records.items():
        due = overdue.due(record, judged.policies)
        assert due is not None
        if due <= (record["finished_at"] or truth.closes_at) and not record["rolled_back_by"]:
            late.add(name)

    assert late == truth.overdue


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("state", ["failed", "rolled_back", "lost", "superseded", "running", "cancelled", "succeeded"])
def test_outcomes_are_derived_as_planted(judged: Judged, truth: GroundTruth, state: str) -> None:
    found = {name for name, record in judged.records.items() if record["state"] == state}

    assert found == truth.with_outcome(state)


@pytest.mark.requirement("M2.1")
def test_no_two_deployments_are_taken_for_one(judged: Judged, truth: GroundTruth) -> None:
    assert {name for name, record in judged.records.items() if record["deployment_ids"] == [name]} == {
        *truth.deployments
    }


@pytest.mark.requirement("M2.2")
def test_what_nobody_ended_is_told_apart_from_what_a_newer_one_replaced_in_time(
    judged: Judged, truth: GroundTruth
) -> None:
    (lost,), (superseded,) = truth.with_outcome("lost"), truth.with_outcome("superseded")
    gone, replaced = judged.records[lost], judged.records[superseded]

    assert gone["outcome_reason"] == "no_end_reported"
    assert gone["finished_at"] is None
    assert truth.deployments[gone["superseded_by"]].outcome == "succeeded"
    assert replaced["outcome_reason"] == "superseded_by_newer"
    assert replaced["first_ended_at"] is None
    assert replaced["finished_at"] == judged.records[replaced["superseded_by"]]["finished_at"]


@pytest.mark.requirement("M3.2", "M6.2")
def test_what_ran_at_every_hour_is_in_the_records(judged: Judged, truth: GroundTruth) -> None:
    hours = range(truth.opens_at + HOUR // 2, truth.closes_at, HOUR)
    given_up = {name: record["last_event_at"] for name, record in judged.records.items() if record["state"] == "lost"}
    ran = {
        at: {
            name
            for name, record in judged.records.items()
            # Nobody knows how long that ran which was lost: what was heard of it is certain.
            if record["started_at"] <= at < (record["finished_at"] or given_up.get(name, truth.closes_at))
        }
        for at in hours
    }

    assert [at for at in hours if not truth.running_at(at).holds(ran[at])] == []


@pytest.mark.requirement("M4.3", "M6.2")
def test_clear_causes_are_named_and_no_others(judged: Judged, truth: GroundTruth) -> None:
    blamed = {a.signal_id: judged.blamed(a.signal_id) for a in truth.alerts.values() if a.clear}

    assert blamed == {a.signal_id: a.guilty for a in truth.alerts.values() if a.clear}
