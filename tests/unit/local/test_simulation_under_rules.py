"""The pure rules, asked about the simulated day without any transport: they find what was planted."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import deploytrail_local
import pytest
from deploytrail_local.simulation import GroundTruth, simulate
from deploytrail_local.simulation.world import LOST_AFTER_MINUTES
from deploytrail_processors.policy_files import read_files
from deploytrail_processors.rules import aliases, change_window, clock, correlation, lifecycle, overdue
from deploytrail_processors.rules.policies import Policies, PolicySet
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType

KINDS = {"deployment": RecordType.DEPLOYMENT_EVENT, "signal": RecordType.SIGNAL}
Value = dict[str, Any]


class Judged:
    """The day after clocks were corrected and deployments derived."""

    def __init__(self, seed: int) -> None:
        lines, self.truth = simulate(seed)
        sources, _ = read_files([Path(deploytrail_local.__file__).parent / "policies"])
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
        self.records = self._derive()

    def _derive(self) -> dict[str, Value]:
        facts: dict[str, Value] = {}
        for value in self.canonical.values():
            if "event_id" in value:
                name = value["deployment_id"]
                facts[name] = lifecycle.add(facts.get(name) or lifecycle.new_facts(name), value)
        records = {name: lifecycle.derive(f, self.truth.closes_at, LOST_AFTER_MINUTES) for name, f in facts.items()}
        for record in list(records.values()):
            undone = lifecycle.undoes(record)
            if undone:
                end, width = record["finished_at"], record["finished_at_uncertainty_ms"]
                facts[undone] = lifecycle.undo(facts[undone], record["deployment_id"], end, width)
                records[undone] = lifecycle.derive(facts[undone], self.truth.closes_at, LOST_AFTER_MINUTES)
        return records

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


@pytest.fixture(scope="module", params=(1, 7, 42))
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
@pytest.mark.parametrize("state", ["failed", "rolled_back", "lost", "running", "cancelled", "succeeded"])
def test_outcomes_are_derived_as_planted(judged: Judged, truth: GroundTruth, state: str) -> None:
    found = {name for name, record in judged.records.items() if record["state"] == state}

    assert found == truth.with_outcome(state)


@pytest.mark.requirement("M4.3", "M6.2")
def test_clear_causes_are_named_and_no_others(judged: Judged, truth: GroundTruth) -> None:
    blamed = {a.signal_id: judged.blamed(a.signal_id) for a in truth.alerts.values() if a.clear}

    assert blamed == {a.signal_id: a.guilty for a in truth.alerts.values() if a.clear}
