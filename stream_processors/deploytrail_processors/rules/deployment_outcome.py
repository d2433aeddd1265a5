"""Which state a deployment's marks add up to: by cohort, by component, as a whole.

A lane is what was reported of one cohort of one service: `{"marks": {event type: mark}, "ends": [[type, mark]]}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from deploytrail_schemas.reasons import Outcome

from deploytrail_processors.rules.deployment_times import Mark, rank
from deploytrail_processors.rules.states import ORDER, TERMINAL, TRANSITIONS

Facts = Mapping[str, Any]
Lane = dict[str, Any]
Weights = Mapping[str, Any]


class Told(NamedTuple):
    """What is known of a deployment: service, cohort, type and mark of each report, and the services that it changes,
    where these are several."""

    marks: list[tuple[str, str, str, Mark]]
    services: list[str]


class Became(NamedTuple):
    """A state, why, and the mark of the end where there is one."""

    state: str
    reason: Outcome
    end: Mark | None


def read(facts: Facts) -> Told:
    """What is known, read once.

    There are several services only where one source names several under one id: another source's other name for the
    one service is a conflict.
    """
    marks = [
        (service, cohort, kind, mark)
        for service, by_cohort in facts["marks"].items()
        for cohort, by_kind in by_cohort.items()
        for kind, mark in by_kind.items()
    ]
    marks += [(service, cohort, kind, mark) for kind, service, cohort, mark in facts["ends"].values()]
    services = {service for service, _, _, _ in marks}
    if len(services) > 1 and len({(mark[7], service) for service, _, _, mark in marks}) == len(
        {mark[7] for _, _, _, mark in marks}
    ):
        return Told(marks, [])
    return Told(marks, sorted(services) if len(services) > 1 else [])


def first_service(told: Told) -> str:
    """The service that was reported first."""
    return min(told.marks, key=lambda item: (rank(item[3]), item[0]))[0]


def marks_of(told: Told, kind: str) -> list[Mark]:
    """The marks of a type of event, of whatever service and cohort."""
    return [mark for _, _, found, mark in told.marks if found == kind]


def lanes_of(told: Told) -> dict[str, Lane]:
    """What was reported, by cohort, of whatever service."""
    lanes: dict[str, Lane] = {}
    for _, cohort, kind, mark in told.marks:
        _into_lane(lanes, cohort, kind, mark)
    return lanes


def lanes_by_service(told: Told) -> dict[str, dict[str, Lane]]:
    """What was reported, by service and cohort: of hundreds of services each mark is looked at once."""
    found: dict[str, dict[str, Lane]] = {}
    for service, cohort, kind, mark in told.marks:
        _into_lane(found.setdefault(service, {}), cohort, kind, mark)
    return found


def _into_lane(lanes: dict[str, Lane], cohort: str, kind: str, mark: Mark) -> None:
    lane = lanes.get(cohort)
    if lane is None:
        lane = lanes[cohort] = {"marks": {}, "ends": []}
    if kind in TERMINAL:
        lane["ends"].append([kind, mark])
    else:
        known = lane["marks"].get(kind)
        lane["marks"][kind] = mark if known is None else better(kind, known, mark)


def better(kind: str, one: Mark, other: Mark) -> Mark:
    """Of two marks of one type the one that counts: the first of a beginning, by the most trusted source; the last of
    all that may be said again."""
    if kind in ("registered", "queued", "started"):
        return min(one, other, key=lambda mark: (-mark[8], rank(mark)))
    return max(one, other, key=rank)


def fold(lane: Lane) -> tuple[str, Mark | None]:
    """The state that a lane's marks lead to in order of time, and the mark by which it came to its end.

    Of ends only those of the most trusted source count. One that says again how it ended does not move the end; one
    that says otherwise corrects it.
    """
    most = max((mark[8] for _, mark in lane["ends"]), default=0)
    steps = [*lane["marks"].items(), *((kind, mark) for kind, mark in lane["ends"] if mark[8] == most)]
    state, end = "unknown", None
    for kind, mark in sorted(steps, key=lambda step: (step[1][0], ORDER.index(step[0]), rank(step[1]))):
        after = TRANSITIONS[state].get(kind)
        if after is not None:
            state = after
            if state in TERMINAL:
                end = mark
    return state, end


def outcome_of(told: Told, weights: Weights, *, is_part: bool) -> Became:
    """What became of it by what was reported. `is_part`: it says that it is a part of another deployment."""
    if not told.services:
        return _of_cohorts(lanes_of(told), weights, is_part=is_part)
    return _together(
        list(_by_service(told, weights, is_part=is_part).values()),
        Outcome.COMPONENT_FAILED,
        Outcome.EVERY_COMPONENT_SUCCEEDED,
    )


def of_children(states: Iterable[str]) -> tuple[str, Outcome] | None:
    """What became of a deployment that told of no end of its own, by the states of its children, deployments with ids
    of their own; None while one of them has not ended, or nobody told of its end."""
    found = set(states)
    if not found or not found <= TERMINAL:
        return None
    if found & {"failed", "rolled_back"}:
        return "failed", Outcome.CHILD_FAILED
    if "cancelled" in found:
        return "cancelled", Outcome.CHILD_CANCELLED
    return "succeeded", Outcome.EVERY_CHILD_SUCCEEDED


def components(told: Told, weights: Weights, *, is_part: bool) -> dict[str, str]:
    """The state of each service, where one deployment changes several."""
    if not told.services:
        return {}
    return {service: part.state for service, part in _by_service(told, weights, is_part=is_part).items()}


def cohorts(told: Told) -> dict[str, str]:
    """The state of each cohort."""
    if not any(cohort for _, cohort, _, _ in told.marks):
        return {}
    return {cohort: fold(lane)[0] for cohort, lane in sorted(lanes_of(told).items()) if cohort}


def _by_service(told: Told, weights: Weights, *, is_part: bool) -> dict[str, Became]:
    lanes = lanes_by_service(told)
    return {service: _of_cohorts(lanes[service], weights, is_part=is_part) for service in told.services}


def _of_cohorts(lanes: dict[str, Lane], weights: Weights, *, is_part: bool) -> Became:
    empty: Lane = {"marks": {}, "ends": []}
    state, end = fold(lanes.get("", empty))
    parts = {cohort: fold(lane) for cohort, lane in lanes.items() if cohort}
    if state in TERMINAL or not parts:
        return Became(state, Outcome.REPORTED, end)
    if len(parts) == 1 and is_part:
        # A deployment of its own for one cohort: there is no whole here but that cohort.
        [(state, end)] = parts.values()
        return Became(state, Outcome.REPORTED, end)
    states = {s for s, _ in parts.values()}
    latest = max((m for _, m in parts.values() if m), key=rank, default=None)
    if states & {"running", "queued"}:
        if states & {"failed", "rolled_back"}:
            return Became("degraded", Outcome.COHORT_FAILED, None)
        return Became("running", Outcome.REPORTED, None)
    if states & {"failed", "rolled_back"}:
        return Became("failed", Outcome.COHORT_FAILED, latest)
    weight = sum(weights[cohort][1] for cohort in parts if cohort in weights)
    if states == {"succeeded"} and weight >= 0.999:
        return Became("succeeded", Outcome.EVERY_COHORT_SUCCEEDED, latest)
    # More cohorts are to come, or the whole says itself how it ended.
    return Became("running" if state == "unknown" else state, Outcome.REPORTED, None)


def _together(parts: list[Became], failed: Outcome, succeeded: Outcome) -> Became:
    """One outcome of several components."""
    states = {part.state for part in parts}
    bad = bool(states & {"failed", "rolled_back", "degraded"})
    if not states <= TERMINAL:
        if states & {"running", "degraded"} or states & TERMINAL:
            return Became("degraded", failed, None) if bad else Became("running", Outcome.REPORTED, None)
        return Became(max(states, key=_STAGES.index), Outcome.REPORTED, None)
    latest = max((part.end for part in parts if part.end), key=rank, default=None)
    if bad:
        return Became("failed", failed, latest)
    if "cancelled" in states:
        return Became("cancelled", Outcome.REPORTED, latest)
    return Became("succeeded", succeeded, latest)


_STAGES = ("unknown", "registered", "waiting_approval", "queued")
