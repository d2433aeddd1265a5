"""What became of a deployment: one record from all that was reported of it.

In: its events in any order, any number of times, some perhaps missing. Out: the same content for
every order and every repetition. What is kept of the events (`Facts`) only ever takes the maximum
or minimum of what arrives, field by field, so order cannot matter; what follows from it
(`derive`) is a function of the facts and of partition time.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from deploytrail_schemas.reasons import Outcome

Facts = dict[str, Any]
Content = dict[str, Any]
Event = Mapping[str, Any]

MINUTE = 60_000_000

# Which state an event leads to, from which. What is not listed leaves the state as it is: an end
# is not undone by a report that belongs before it.
TRANSITIONS: dict[str, dict[str, str]] = {
    "unknown": {
        "registered": "registered",
        "queued": "queued",
        "started": "running",
        "progressed": "running",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "rolled_back": "rolled_back",
    },
    "registered": {
        "queued": "queued",
        "started": "running",
        "progressed": "running",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "rolled_back": "rolled_back",
    },
    "queued": {
        "started": "running",
        "progressed": "running",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "rolled_back": "rolled_back",
    },
    "running": {
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "rolled_back": "rolled_back",
    },
    # A later end corrects an earlier one: a retry under the same id, or a second source.
    "succeeded": {"failed": "failed", "cancelled": "cancelled", "rolled_back": "rolled_back"},
    "failed": {"succeeded": "succeeded", "cancelled": "cancelled", "rolled_back": "rolled_back"},
    "cancelled": {"succeeded": "succeeded", "failed": "failed", "rolled_back": "rolled_back"},
    "rolled_back": {},
}
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "rolled_back"})
OPEN = frozenset({"queued", "running", "degraded"})
# Of events at one time, the earlier in life comes first; of two ends the worse comes last and stays.
_ORDER = ("registered", "queued", "started", "progressed", "succeeded", "cancelled", "failed", "rolled_back")
# The first report of a beginning counts, the last report of everything else.
_FIRST = frozenset({"registered", "queued", "started"})

PLACE = ("region", "environment", "service")
DESCRIPTION = (
    *PLACE,
    "tier",
    "team",
    "kind",
    "strategy",
    "parent_deployment_id",
    "rollback_of",
    "version",
    "previous_version",
    "artifact_digest",
    "commit_sha",
    "repository",
    "build_system",
    "build_id",
    "build_url",
    "deployer",
    "change_ticket",
    "feature_ticket",
)
_EMPTY = frozenset({"", "unknown", None})
# Two sources that differ on one of these do not describe the same thing: it is shown.
COMPARED = (*PLACE, "version", "artifact_digest", "commit_sha")


def new_facts(deployment_id: str) -> Facts:
    """Facts of a deployment of which nothing is known yet."""
    return {
        "v": 1,
        "id": deployment_id,
        "marks": {},  # cohort → event type → [at, uncertainty_ms, event_id, monotonic_ns, boot_id, exit_code, error]
        "claims": {},  # field → source → [rank, value]
        "weights": {},  # cohort → [rank, weight]
        "ids": [],  # ids of the events, progress left out
        "last": 0,  # latest corrected time
        "emergency": False,
        "inferred": False,
        "confidence": 1.0,
        "voided": False,
        "undone": {},  # id of the rollback → [at, uncertainty_ms]
    }


def add(facts: Facts, event: Event) -> Facts:
    """The facts with one more event. Equal for every order, and for the same event again."""
    facts = deepcopy(facts)
    at, kind = event["corrected_at"], event["event_type"]
    if kind != "progressed" and event["event_id"] not in facts["ids"]:
        facts["ids"] = sorted([*facts["ids"], event["event_id"]])
    facts["last"] = max(facts["last"], at)
    facts["emergency"] = facts["emergency"] or event["emergency"]
    facts["inferred"] = facts["inferred"] or event["provenance"] == "inferred"
    facts["confidence"] = min(facts["confidence"], event["confidence"])
    facts["voided"] = facts["voided"] or kind == "voided"
    _claim(facts, event)
    if event["cohort"] and event["cohort_weight"] is not None:
        _keep_latest(facts["weights"], event["cohort"], [[at, event["event_id"]], event["cohort_weight"]])
    if kind in _ORDER:
        mark = [at, event["uncertainty_ms"] or 0, event["event_id"], event["monotonic_ns"], event["boot_id"],
                event["exit_code"], event["error"]]  # fmt: skip
        marks = facts["marks"].setdefault(event["cohort"], {})
        old = marks.get(kind)
        if old is None or (_rank(mark) < _rank(old)) == (kind in _FIRST):
            marks[kind] = mark
    return facts


def undo(facts: Facts, rollback_id: str, at: int, uncertainty_ms: int) -> Facts:
    """The facts once a rollback of this deployment has succeeded at `at`."""
    facts = deepcopy(facts)
    old = facts["undone"].get(rollback_id)
    facts["undone"][rollback_id] = min(filter(None, (old, [at, uncertainty_ms])))
    return facts


def derive(facts: Facts, partition_time: int, lost_after_minutes: float | None) -> Content:
    """The record's content, as fields of the Avro Record without `revision` and `recorded_at`.

    `lost_after_minutes` None: nothing is ever lost.
    """
    state, outcome, end = _outcome(facts)
    if state in OPEN and lost_after_minutes is not None and partition_time >= due(facts, lost_after_minutes):
        state, outcome = "lost", Outcome.NO_END_REPORTED
    started, end, duration = _in_order(_first(facts, "started"), end)
    content: Content = {name: _best(facts, name) for name in DESCRIPTION}
    content |= {
        "kind": content["kind"] or "unknown",
        "strategy": content["strategy"] or "unknown",
        "deployment_id": facts["id"],
        "state": state,
        "outcome_reason": outcome.value,
        "rolled_back_by": min(facts["undone"], key=lambda r: (facts["undone"][r], r), default=""),
        "emergency": facts["emergency"],
        "registered_at": _at(_first(facts, "registered")),
        "queued_at": _at(_first(facts, "queued")),
        "started_at": _at(started),
        "started_at_uncertainty_ms": started[1] if started else None,
        "finished_at": _at(end),
        "finished_at_uncertainty_ms": end[1] if end else None,
        **duration,
        "last_event_at": facts["last"] or None,
        "error": (end[6] if end else "") or "",
        "exit_code": end[5] if end else None,
        "event_count": len(facts["ids"]),
        "cohorts": {c: _fold(marks)[0] for c, marks in sorted(facts["marks"].items()) if c},
        "sources": sorted({source for by_source in facts["claims"].values() for source in by_source if source}),
        "provenance": "inferred" if facts["inferred"] else "reported",
        "confidence": facts["confidence"],
        "conflicts": _conflicts(facts),
    }
    return content


def due(facts: Facts, lost_after_minutes: float) -> int:
    """Partition time at which the deployment counts as lost if nothing more is heard of it."""
    return int(facts["last"] + lost_after_minutes * MINUTE)


def place(facts: Facts) -> dict[str, str]:
    """Region, environment and service as they are claimed so far."""
    return {name: _best(facts, name) for name in PLACE}


def is_open(facts: Facts) -> bool:
    """Whether an end is still awaited."""
    return _outcome(facts)[0] in OPEN


def undoes(content: Content) -> str | None:
    """The deployment that this one has undone, if it is a rollback that succeeded."""
    return content["rollback_of"] or None if content["state"] == "succeeded" else None


def _outcome(facts: Facts) -> tuple[str, Outcome, list[Any] | None]:
    """State, why, and the mark of the end."""
    if facts["voided"]:
        return "voided", Outcome.REPORTED, None
    if facts["undone"]:
        at, uncertainty = min(facts["undone"].values())
        return "rolled_back", Outcome.UNDONE_BY_ROLLBACK, [at, uncertainty, "", None, "", None, ""]
    state, end = _fold(facts["marks"].get("", {}))
    cohorts = {c: _fold(marks) for c, marks in facts["marks"].items() if c}
    if state in TERMINAL or not cohorts:
        return state, Outcome.REPORTED, end
    if len(cohorts) == 1 and _best(facts, "parent_deployment_id"):
        # A deployment of its own for one cohort: there is no whole here but that cohort.
        [(state, end)] = cohorts.values()
        return state, Outcome.REPORTED, end
    states = {s for s, _ in cohorts.values()}
    latest = max((m for _, m in cohorts.values() if m), key=_rank, default=None)
    if states & {"running", "queued"}:
        failed = bool(states & {"failed", "rolled_back"})
        return ("degraded", Outcome.COHORT_FAILED, None) if failed else ("running", Outcome.REPORTED, None)
    if states & {"failed", "rolled_back"}:
        return "failed", Outcome.COHORT_FAILED, latest
    weight = sum(w for _, w in facts["weights"].values())
    if states == {"succeeded"} and weight >= 0.999:
        return "succeeded", Outcome.EVERY_COHORT_SUCCEEDED, latest
    # More cohorts are to come, or the whole says itself how it ended.
    return "running" if state == "unknown" else state, Outcome.REPORTED, None


def _fold(marks: dict[str, list[Any]]) -> tuple[str, list[Any] | None]:
    """The state that a cohort's marks lead to in order of time, and the mark of its end."""
    state, end = "unknown", None
    for kind, mark in sorted(marks.items(), key=lambda item: (item[1][0], _ORDER.index(item[0]), item[1][2])):
        after = TRANSITIONS[state].get(kind)
        if after is not None:
            state = after
            if state in TERMINAL:
                end = mark
    return state, end


def _claim(facts: Facts, event: Event) -> None:
    # An amendment is a correction: it outranks everything said before it, whenever that arrives.
    rank = [event["event_type"] == "amended", event["corrected_at"], event["event_id"]]
    for name in DESCRIPTION:
        if event[name] not in _EMPTY:
            _keep_latest(facts["claims"].setdefault(name, {}), event["source"], [rank, event[name]])


def _keep_latest(kept: dict[str, list[Any]], key: str, ranked: list[Any]) -> None:
    if key not in kept or ranked > kept[key]:
        kept[key] = ranked


def _best(facts: Facts, name: str) -> str:
    claims = facts["claims"].get(name)
    return str(max(claims.values())[1]) if claims else ""


def _conflicts(facts: Facts) -> dict[str, str]:
    found = {}
    for name in COMPARED:
        best = _best(facts, name)
        lost = {f"{source}={value}" for source, (_, value) in facts["claims"].get(name, {}).items() if value != best}
        if lost:
            found[name] = ", ".join(sorted(lost))
    return found


def _first(facts: Facts, kind: str) -> list[Any] | None:
    marks = [by_kind[kind] for by_kind in facts["marks"].values() if kind in by_kind]
    return min(marks, key=_rank, default=None)


def _rank(mark: list[Any]) -> tuple[Any, ...]:
    # Two deliveries of one event may differ in their correction alone: the rank is total.
    return (mark[0], mark[2], mark[1], mark[3] or 0, mark[4], mark[5] or 0, mark[6])


def _at(mark: list[Any] | None) -> int | None:
    return mark[0] if mark else None


def _in_order(
    started: list[Any] | None, end: list[Any] | None
) -> tuple[list[Any] | None, list[Any] | None, dict[str, int | None]]:
    """Both marks with the end no earlier than its start, and how long it took.

    By one boot's monotonic clock where both sides have it, else by the corrected times. What began ended later,
    whoever reported it: where the corrected times say otherwise, both intervals are cut to what this allows. Where
    nothing is left of them, two clocks contradict each other: the less certain time gives way, its ± still reaches
    all that it did, and the duration stays unknown.
    """
    if not started or not end:
        return started, end, {"duration_ms": None, "duration_uncertainty_ms": None}
    lasted = _monotonic(started, end)
    duration = {
        "duration_ms": lasted // 1000 if lasted is not None else (end[0] - started[0]) // 1000,
        "duration_uncertainty_ms": 0 if lasted is not None else started[1] + end[1],
    }
    if end[0] >= started[0]:
        return started, end, duration
    took = lasted or 0
    from_, until = started[0] - started[1] * 1000, started[0] + started[1] * 1000
    end_from, end_until = end[0] - end[1] * 1000 - took, end[0] + end[1] * 1000 - took
    if from_ <= end_until and (lasted is None or end_from <= until):
        narrow = _mark(started, max(from_, end_from) if lasted is not None else from_, min(until, end_until))
        if lasted is not None:
            return narrow, [narrow[0] + took, narrow[1], *end[2:]], duration
        late = _mark(end, max(from_, end_from), end_until)
        return narrow, late, {
            "duration_ms": (late[0] - narrow[0]) // 1000,
            "duration_uncertainty_ms": narrow[1] + late[1],
        }  # fmt: skip
    if lasted is None:
        duration = {"duration_ms": None, "duration_uncertainty_ms": None}
    if started[1] > end[1]:
        return _moved(started, end[0] - took), end, duration
    return started, _moved(end, started[0] + took), duration


def _monotonic(started: list[Any], end: list[Any]) -> int | None:
    """Microseconds by the monotonic clock of one boot; None where they were not read from one."""
    if started[4] and started[4] == end[4] and None not in (started[3], end[3]) and end[3] >= started[3]:
        return int(end[3] - started[3]) // 1000
    return None


def _mark(mark: list[Any], earliest: int, latest: int) -> list[Any]:
    """The mark with the middle of an interval as its time."""
    middle = (earliest + latest) // 2
    return [middle, -(-(latest - middle) // 1000), *mark[2:]]


def _moved(mark: list[Any], to: int) -> list[Any]:
    """The mark at another time, its ± wide enough for all that it had reached."""
    return [to, mark[1] - (-abs(to - mark[0]) // 1000), *mark[2:]]
