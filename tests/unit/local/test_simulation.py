"""The simulated day: the same for a seed, sound line by line, and true to what it says it planted."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import deploytrail_local
import pytest
from deploytrail_local.simulation import REGIONS, SERVICES, GroundTruth, Line, simulate, write_lines
from deploytrail_local.simulation.plan import QUIET_BEFORE
from deploytrail_local.simulation.world import (
    FREEZE_MINUTES,
    FREEZE_START,
    FREEZE_ZONE,
    FROZEN_SERVICES,
    LOST_AFTER_MINUTES,
    MINUTE,
    PRODUCERS,
    SECOND,
    SLOW_BY,
    SLOW_PRODUCER,
)
from deploytrail_processors.policy_files import read_files
from deploytrail_processors.rules.policies import ChangeWindow, Service, Thresholds
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.json_values import parse_json, validate
from deploytrail_schemas.records import RecordType

SEEDS = (1, 2, 3, 7, 42)
KINDS = {
    "deployment": RecordType.DEPLOYMENT_EVENT,
    "signal": RecordType.SIGNAL,
    "approval": RecordType.APPROVAL,
    "observation": RecordType.OBSERVATION,
}


@pytest.fixture(scope="module", params=SEEDS)
def day(request: pytest.FixtureRequest) -> tuple[list[Line], GroundTruth]:
    return simulate(request.param)


@pytest.fixture(scope="module")
def lines(day: tuple[list[Line], GroundTruth]) -> list[Line]:
    return day[0]


@pytest.fixture(scope="module")
def truth(day: tuple[list[Line], GroundTruth]) -> GroundTruth:
    return day[1]


def test_a_seed_gives_the_same_day_and_another_seed_another_one() -> None:
    assert simulate(5) == simulate(5)
    assert simulate(5)[0] != simulate(6)[0]


def test_written_lines_are_the_same_lines(tmp_path: Path) -> None:
    day, _ = simulate(1)
    write_lines(tmp_path / "day.jsonl", day)

    assert [json.loads(text) for text in (tmp_path / "day.jsonl").read_text().splitlines()] == day


def test_every_line_is_sound(lines: list[Line]) -> None:
    for line in lines:
        value = parse_json(json.dumps(line["value"]).encode())

        assert validate(KINDS[line["kind"]], value)[1] == []
        assert set(line) <= {"kind", "sent_at", "received_at", "echo", "value"}
        for text in (line["sent_at"], line["received_at"], *line.get("echo", ())):
            parse_instant(text)


def test_day_is_as_large_as_promised(truth: GroundTruth) -> None:
    places = {(d.service, d.region) for d in truth.deployments.values()}

    assert len(truth.deployments) >= 300
    assert len({service for service, _ in places}) >= 12
    assert {region for _, region in places} == set(REGIONS)
    assert {d.environment for d in truth.deployments.values()} == {"production", "staging"}


def test_every_case_is_planted(truth: GroundTruth) -> None:
    answers = Counter((bool(a.guilty), a.clear) for a in truth.alerts.values())

    assert len(truth.outside_window) == 4
    assert len(truth.uncertain_window) == 1
    assert len(truth.overdue) == 3
    assert len(truth.overdue_taken_back) == 1
    assert len(truth.with_outcome("lost")) == 1
    assert len(truth.with_outcome("superseded")) == 1
    assert len(truth.with_outcome("rolled_back")) == 2
    assert len(truth.with_outcome("running")) == 5
    assert len(truth.canaries) == 4 + 3 * 3
    assert len(truth.with_outcome("failed")) >= 3
    assert answers == {(True, True): 9, (False, True): 5, (True, False): 1, (False, False): 1}
    assert truth.duplicates >= 20
    assert len(truth.disordered) >= 5


def test_lines_stand_in_order_of_receipt_and_the_last_at_the_close(lines: list[Line], truth: GroundTruth) -> None:
    received = [parse_instant(line["received_at"]) for line in lines]

    assert received == sorted(received)
    assert received[-1] == truth.closes_at
    assert received[0] >= truth.opens_at


def test_nothing_is_received_before_it_was_sent(lines: list[Line]) -> None:
    offsets = {p.id: p.offset for p in PRODUCERS.values()}
    for line in lines:
        offset = offsets.get(line["value"]["producer_id"])
        if offset is None:
            continue
        sent = parse_instant(line["sent_at"]) - offset

        assert sent < parse_instant(line["received_at"])
        assert parse_instant(line["value"]["occurred_at"]) - offset < sent
        if "echo" in line:
            heard_sent, heard, acknowledged = map(parse_instant, line["echo"])
            assert heard_sent - offset < heard < acknowledged - offset < sent


def test_slow_producer_is_seven_minutes_slow_and_sometimes_echoes(lines: list[Line], truth: GroundTruth) -> None:
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        value = line["value"]
        if value["producer_id"] == SLOW_PRODUCER:
            first.setdefault((value["deployment_id"], value["event_type"]), line)
    started = {ids[0]: line for ids, line in first.items() if ids[1] == "started"}

    assert set(started) == truth.slow
    assert any("echo" in line for line in started.values())
    assert not all("echo" in line for line in started.values())
    for deployment_id, line in started.items():
        truly = truth.deployments[deployment_id].started_at
        assert parse_instant(line["value"]["occurred_at"]) == truly - SLOW_BY


def test_slow_clock_would_mislead_about_windows(truth: GroundTruth) -> None:
    opens, closes = REGIONS["eu-west-1"].window()
    inside, outside = truth.deployments[truth.looks_outside], truth.deployments[truth.looks_inside]

    assert inside.started_at - SLOW_BY < opens <= inside.started_at < closes
    assert outside.started_at - SLOW_BY < closes <= outside.started_at
    assert outside.id in truth.outside_window
    assert inside.id not in truth.outside_window


def test_only_planted_deployments_lie_outside_their_windows(truth: GroundTruth) -> None:
    outside = set()
    for d in truth.deployments.values():
        opens, closes = REGIONS[d.region].window()
        frozen = truth.opens_at + FREEZE_START.hour * 60 * MINUTE
        in_freeze = d.service in FROZEN_SERVICES and frozen <= d.started_at < frozen + FREEZE_MINUTES * MINUTE
        if d.environment == "production" and (in_freeze or not opens <= d.started_at < closes):
            outside.add(d.id)

    assert outside == truth.outside_window | truth.uncertain_window


def test_only_planted_deployments_take_too_long(truth: GroundTruth) -> None:
    late = {
        d.id
        for d in truth.deployments.values()
        if (d.finished_at or truth.closes_at) - d.started_at > SERVICES[d.service].expected_minutes * MINUTE
    }

    assert late == truth.overdue


def test_clear_alerts_have_one_related_deployment_near_them_or_none(truth: GroundTruth) -> None:
    for alert in (a for a in truth.alerts.values() if a.clear):
        near = {
            d.id
            for d in truth.deployments.values()
            if (d.region, d.environment) == (alert.region, alert.environment)
            and d.service in SERVICES[alert.service].related
            and d.started_at <= alert.at + MINUTE
            and (d.finished_at or truth.closes_at) >= alert.at - QUIET_BEFORE
        }

        assert near == ({alert.guilty} if alert.guilty else set())


def test_repeated_records_are_the_same_records_received_later(lines: list[Line], truth: GroundTruth) -> None:
    first: dict[str, Line] = {}
    repeated = 0
    for line in lines:
        key = next(
            v for k, v in line["value"].items() if k in ("event_id", "signal_id", "approval_id", "observation_id")
        )
        if key in first:
            repeated += 1
            assert line["value"] == first[key]["value"]
            assert line["received_at"] > first[key]["received_at"]
        first.setdefault(key, line)

    assert repeated == truth.duplicates
    assert len(first) == sum(map(len, truth.ids.values()))


def test_disordered_deployments_end_before_they_begin_for_the_receiver(lines: list[Line], truth: GroundTruth) -> None:
    seen: dict[str, list[str]] = {}
    for line in lines:
        if line["kind"] == "deployment":
            seen.setdefault(line["value"]["deployment_id"], []).append(line["value"]["event_type"])

    for deployment_id in truth.disordered:
        assert seen[deployment_id][0] != "started"
        assert "started" in seen[deployment_id]


def test_each_producer_counts_without_a_gap(lines: list[Line]) -> None:
    counted: dict[str, set[int]] = {}
    for line in lines:
        if line["kind"] == "deployment":
            counted.setdefault(line["value"]["producer_id"], set()).add(line["value"]["producer_seq"])

    for numbers in counted.values():
        assert numbers == set(range(1, max(numbers) + 1))


def test_answers_about_time_leave_out_what_lies_on_a_boundary() -> None:
    _, truth = simulate(1)
    running = min(truth.with_outcome("running"))
    begun = truth.deployments[running].started_at

    assert running in truth.running_at(begun + MINUTE).certain
    assert running not in truth.running_at(begun + SECOND).certain
    assert running in truth.running_at(begun + SECOND).possible
    assert running not in truth.running_at(begun - MINUTE).possible


def test_nobody_knows_how_long_a_lost_one_ran_but_not_for_ever() -> None:
    _, truth = simulate(1)
    (lost,) = truth.with_outcome("lost")
    begun = truth.deployments[lost].started_at

    assert lost not in truth.running_at(begun + 10 * MINUTE).certain
    assert lost in truth.running_at(begun + 10 * MINUTE).possible
    assert lost not in truth.running_at(truth.closes_at).possible


def test_what_changed_before_an_alert_holds_its_cause() -> None:
    _, truth = simulate(1)

    for alert in truth.alerts.values():
        assert not alert.guilty or alert.guilty in truth.changed_before(alert.signal_id).certain


def test_policy_files_say_what_the_simulation_assumes() -> None:
    sources, problems = read_files([Path(deploytrail_local.__file__).parent / "policies"])
    specs = {(s.document.kind, s.document.name): s.document.spec for s in sources}
    services = {name: spec for (kind, name), spec in specs.items() if kind == "service" and isinstance(spec, Service)}
    windows = [spec for spec in specs.values() if isinstance(spec, ChangeWindow)]
    allowed = {spec.scope.regions[0]: spec for spec in windows if spec.allow}
    (freeze,) = (spec for spec in windows if not spec.allow)
    thresholds = specs["thresholds", "default"]

    assert problems == []
    assert isinstance(thresholds, Thresholds)
    assert thresholds.lost_after_minutes == LOST_AFTER_MINUTES
    assert set(services) == set(SERVICES)
    for name, spec in services.items():
        said = SERVICES[name]
        assert (spec.team, spec.tier, spec.depends_on, spec.aliases) == (
            said.team,
            said.tier,
            said.depends_on,
            said.aliases,
        )
        assert spec.expected_duration_minutes == said.expected_minutes
    for name, region in REGIONS.items():
        window = allowed[name]
        (times,) = window.times.timetables
        assert (window.zone.key, times.start.time()) == (region.zone, region.opens)
        assert times.exact == timedelta(minutes=region.open_minutes)
        assert window.scope.environments == ("production",)
    (times,) = freeze.times.timetables
    assert (freeze.zone.key, times.start.time(), freeze.scope.services) == (FREEZE_ZONE, FREEZE_START, FROZEN_SERVICES)
