"""What became of a deployment: one record from all that was reported of it.

In: its events in any order, any number of times, some perhaps missing. Out: the same content for
every order and every repetition. What is kept of the events (`Facts`) only ever takes the maximum
or minimum of what arrives, field by field, so order cannot matter; what follows from it
(`derive`) is a function of the facts and of partition time.

Facts of several ids that name one deployment (`identity`) are merged in the same way. What follows
from other deployments (a rollback, a newer one, a parent, children) is not kept: `undo`, `overtake`,
`as_part_of`, `ended_by_children` and `into` say it of facts right before they are derived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.reasons import Outcome

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import fact_bounds as bounds
from deploytrail_processors.rules.deployment_times import Mark, first_of, in_order, trust_of
from deploytrail_processors.rules.states import OPEN as OPEN
from deploytrail_processors.rules.states import ORDER
from deploytrail_processors.rules.states import TERMINAL as TERMINAL
from deploytrail_processors.rules.states import TRANSITIONS as TRANSITIONS

Facts = dict[str, Any]
Content = dict[str, Any]
Event = Mapping[str, Any]

MINUTE = 60_000_000
_APPROVALS = frozenset({"requested", "approved"})

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
        "id": deployment_id,
        "marks": {},  # service → cohort → event type → mark (deployment_times); ends are not among them
        "ends": {},  # id of the event → [type, service, cohort, mark]
        "steps": {},  # step of an approval → mark
        "claims": {},  # field → source → [rank, value]; rank: [is an amendment, trust, at, event_id]
        "weights": {},  # cohort → [rank, weight]
        "instances": [],
        "permits": [],
        "ids": [],  # ids of the events, progress left out
        "more": [],  # what was left out (fact_bounds)
        "last": 0,  # latest corrected time
        "emergency": False,
        "inferred": False,
        "confidence": 1.0,
        "voided": False,
    }


def add(facts: Facts, event: Event) -> Facts:
    """The facts with one more event. Equal for every order, and for the same event again."""
    facts = dict(facts)
    at, kind = event["corrected_at"], event["event_type"]
    if kind != "progressed":
        bounds.keep_id(facts, event["event_id"])
    facts["last"] = max(facts["last"], at)
    facts["emergency"] = facts["emergency"] or event["emergency"]
    facts["inferred"] = facts["inferred"] or event["provenance"] == "inferred"
    facts["confidence"] = min(facts["confidence"], event["confidence"])
    facts["voided"] = facts["voided"] or kind == "voided"
    facts["instances"] = bounds.some(facts["instances"], [event["instance"]] if event["instance"] else [])
    facts["permits"] = bounds.some(facts["permits"], [event["permit_id"]] if event["permit_id"] else [])
    trust = trust_of(event["source"], event["provenance"])
    _claim(facts, event, trust)
    if (share := share_in(event)) is not None:
        weight = [[at, event["event_id"]], share]
        weights = _with_latest(facts["weights"], event["cohort"], weight)
        facts["weights"] = bounds.first_by_name(weights, bounds.MOST_LANES)
    if kind in ORDER:
        mark = [at, event["uncertainty_ms"] or 0, event["event_id"], event["monotonic_ns"], event["boot_id"],
                event["exit_code"], (event["error"] or "")[: bounds.LONGEST_ERROR], event["source"], trust]  # fmt: skip
        bounds.keep_mark(facts, event["service"], event["cohort"], kind, mark)
    return facts


def share_in(event: Event) -> float | None:
    """The share of the work that an event says of its cohort; None where it says none that there can be: who means 5 of
    a hundred by 5 does not mean everything."""
    share: float | None = event["cohort_weight"] if event["cohort"] else None
    return share if share is not None and 0 <= share <= 1 else None


def add_approval(facts: Facts, approval: Event) -> Facts:
    """The facts with a step of an approval: whether it waits for one."""
    kind = approval["approval_type"]
    if kind not in _APPROVALS:
        return facts
    facts = dict(facts)
    mark = [
        approval["corrected_at"],
        approval["uncertainty_ms"] or 0,
        approval["approval_id"],
        None,
        "",
        None,
        "",
        "",
        0,
    ]
    _keep_step(facts, kind, mark)
    return facts


def merge(several: Iterable[Facts], known_as: str) -> Facts:
    """The facts of several ids that name one deployment, under one of them. Equal for every order."""
    first, *others = several
    merged = first
    for other in others:
        merged = _with(merged, other)
    # Its own other name is nobody's parent.
    parents = merged["claims"].get("parent_deployment_id", {})
    parents = {source: said for source, said in parents.items() if said[1] not in merged.get("names", ())}
    claims = {name: said for name, said in merged["claims"].items() if name != "parent_deployment_id"}
    return merged | {"id": known_as, "claims": claims | ({"parent_deployment_id": parents} if parents else {})}


def undo(facts: Facts, rollback_id: str, at: int, uncertainty_ms: int) -> Facts:
    """The facts once a rollback of this deployment has succeeded at `at`."""
    return _earliest(facts, "undone", rollback_id, [at, uncertainty_ms])


def overtake(facts: Facts, newer_id: str, at: int, uncertainty_ms: int) -> Facts:
    """The facts once a newer deployment of the same place has succeeded at `at`."""
    return _earliest(facts, "overtaken", newer_id, [at, uncertainty_ms])


def as_part_of(facts: Facts, parent_id: str) -> Facts:
    """The facts of a deployment whose parent is known: it is counted as a part of that."""
    return facts | {"part_of": parent_id}


def ended_by_children(facts: Facts, states: Iterable[str], at: int, uncertainty_ms: int) -> Facts:
    """The facts of a deployment whose children have ended, the last of them at `at`, in these states."""
    return facts | {"children": [sorted(states), at, uncertainty_ms]}


def into(facts: Facts, deployment_id: str) -> Facts:
    """The facts of an id that is another name of a deployment."""
    return facts | {"into": deployment_id}


def derive(facts: Facts, partition_time: int, lost_after_minutes: float | None) -> Content:
    """The record's content, as fields of the Avro Record without `revision` and `recorded_at`.

    `lost_after_minutes` None: nothing is ever lost.
    """
    told = outcome.read(facts)
    became = _became(facts, told)
    overtaken = facts.get("overtaken", {})
    overtaken_at = min(overtaken.values())[0] if overtaken else 0
    # What was lost before a newer one succeeded stays lost: that nobody told of its end is not mended by the next
    # release, and would else be counted nowhere.
    if (
        became.state in OPEN
        and lost_after_minutes is not None
        and (overtaken_at or partition_time) >= due(facts, lost_after_minutes)
    ):
        became = outcome.Became("lost", Outcome.NO_END_REPORTED, None)
    elif overtaken and became.state not in TERMINAL | {"voided", "unknown"}:
        became = outcome.Became("superseded", Outcome.SUPERSEDED_BY_NEWER, _outside(*min(overtaken.values())))
    started, end, duration = in_order(first_of(outcome.marks_of(told, "started")), became.end)
    if became.state == "superseded":  # nobody knows when it stopped, only when it did not matter any more
        duration = {"duration_ms": None, "duration_uncertainty_ms": None}
    undone = facts.get("undone", {})
    is_part = bool(_best(facts, "parent_deployment_id"))
    where = place(facts, told)
    content: Content = {name: _best(facts, name) for name in DESCRIPTION}
    content |= {
        **where,
        "kind": content["kind"] or "unknown",
        "strategy": content["strategy"] or "unknown",
        "deployment_id": facts["id"],
        "state": became.state,
        "outcome_reason": became.reason.value,
        "rolled_back_by": min(undone, key=lambda r: (undone[r], r), default=""),
        "superseded_by": "" if undone else min(overtaken, key=lambda r: (overtaken[r], r), default=""),
        "part_of": facts.get("part_of", ""),
        "merged_into": "",
        "deployment_ids": sorted(facts.get("names", [facts["id"]])),
        "emergency": facts["emergency"],
        "registered_at": _at(first_of(outcome.marks_of(told, "registered"))),
        "queued_at": _at(first_of(outcome.marks_of(told, "queued"))),
        "started_at": _at(started),
        "started_at_uncertainty_ms": started[1] if started else None,
        "finished_at": _at(end),
        "finished_at_uncertainty_ms": end[1] if end else None,
        **duration,
        "first_ended_at": min((mark[0] for _, _, _, mark in facts["ends"].values()), default=None),
        "other_ends": _other_ends(facts, became.end),
        "last_event_at": facts["last"] or None,
        "error": (end[6] if end else "") or "",
        "exit_code": end[5] if end else None,
        "event_count": len(facts["ids"]),
        "cohorts": outcome.cohorts(told),
        "components": outcome.components(told, facts["weights"], is_part=is_part),
        "sources": sorted({source for by_source in facts["claims"].values() for source in by_source if source}),
        "provenance": "inferred" if facts["inferred"] else "reported",
        "confidence": facts["confidence"],
        "conflicts": _conflicts(facts, told, where) | bounds.said(facts),
    }
    if facts.get("into"):
        merged = {"state": "merged", "outcome_reason": Outcome.SAME_DEPLOYMENT.value, "merged_into": facts["into"]}
        content |= merged | {"parent_deployment_id": facts["into"], "part_of": facts["into"]}
    return content


def due(facts: Facts, lost_after_minutes: float) -> int:
    """Partition time at which the deployment counts as lost if nothing more is heard of it."""
    return int(facts["last"] + lost_after_minutes * MINUTE)


def place(facts: Facts, told: outcome.Told | None = None) -> dict[str, str]:
    """Region, environment and service as they are claimed so far; of several services the first."""
    told = told or outcome.read(facts)
    named = {name: _best(facts, name) for name in PLACE}
    if told.services and not _is_amended(facts, "service"):
        named["service"] = outcome.first_service(told)
    return named


def places(facts: Facts) -> list[dict[str, str]]:
    """Every place that a deployment changes, the first of `place`: of several services each one's."""
    told = outcome.read(facts)
    named = place(facts, told)
    others = () if _is_amended(facts, "service") else told.services
    return [named, *({**named, "service": service} for service in others if service != named["service"])]


def is_open(facts: Facts) -> bool:
    """Whether an end is still awaited."""
    return _became(facts, outcome.read(facts)).state in OPEN


def is_reported(facts: Facts) -> bool:
    """Whether any event of it is known, be it of its progress alone: else it is known by its approvals only."""
    return bool(facts["ids"]) or has_begun(facts)


def has_begun(facts: Facts) -> bool:
    """Whether an event of its life is known: not only of what is said about it."""
    return bool(facts["marks"] or facts["ends"])


def undoes(content: Content) -> str | None:
    """The deployment that this one has undone, if it is a rollback that succeeded."""
    return content["rollback_of"] or None if content["state"] == "succeeded" else None


def claimed(facts: Facts, name: str) -> frozenset[str]:
    """What the sources say of a field, each its latest word."""
    return frozenset(str(value) for _, value in facts["claims"].get(name, {}).values())


def _became(facts: Facts, told: outcome.Told) -> outcome.Became:
    if facts["voided"]:
        return outcome.Became("voided", Outcome.REPORTED, None)
    if facts.get("undone"):
        return outcome.Became("rolled_back", Outcome.UNDONE_BY_ROLLBACK, _outside(*min(facts["undone"].values())))
    became = outcome.outcome_of(told, facts["weights"], is_part=bool(_best(facts, "parent_deployment_id")))
    by_children = outcome.of_children(facts["children"][0]) if facts.get("children") else None
    # Whoever tells of cohorts or components of its own is more than the sum of its children.
    if by_children and became.state not in TERMINAL and not told.services and not outcome.cohorts(told):
        return outcome.Became(*by_children, _outside(*facts["children"][1:]))
    if facts["steps"] and became.state in ("unknown", "registered", "queued", "waiting_approval"):
        lane = outcome.lanes_of(told).get("", {"marks": {}, "ends": []})
        return became._replace(state=outcome.fold({"marks": facts["steps"] | lane["marks"], "ends": []})[0])
    return became


def _outside(at: int, uncertainty_ms: int) -> Mark:
    """The mark of an end that another deployment brought about."""
    return [at, uncertainty_ms, "", None, "", None, "", "", 0]


def _other_ends(facts: Facts, end: Mark | None) -> list[str]:
    others = [item for name, item in facts["ends"].items() if end is None or name != end[2]]
    return [
        " ".join(filter(None, (format_instant(mark[0]), kind, mark[7], cohort)))
        for kind, _, cohort, mark in sorted(others, key=bounds.end_rank)
    ]


def _keep_step(facts: Facts, kind: str, mark: Mark) -> None:
    old = facts["steps"].get(kind)
    facts["steps"] = {**facts["steps"], kind: mark if old is None else outcome.better(kind, old, mark)}


def _with(one: Facts, other: Facts) -> Facts:
    both = dict(one)
    for what in other.get("more", ()):
        bounds.note(both, what)
    for service, by_cohort in other["marks"].items():
        for cohort, by_kind in by_cohort.items():
            for kind, mark in by_kind.items():
                bounds.put_mark(both, service, cohort, kind, mark)
    for given in other["ends"].values():
        bounds.put_end(both, given)
    bounds.keep_lanes(both)
    claims = dict(both["claims"])
    for name, by_source in other["claims"].items():
        for source, ranked in by_source.items():
            claims[name] = bounds.keep_sources(both, _with_latest(claims.get(name, {}), source, ranked))
    for cohort, ranked in other["weights"].items():
        both["weights"] = bounds.first_by_name(_with_latest(both["weights"], cohort, ranked), bounds.MOST_LANES)
    for kind, mark in other["steps"].items():
        _keep_step(both, kind, mark)
    for event_id in other["ids"]:
        bounds.keep_id(both, event_id)
    return both | {
        "claims": claims,
        "instances": bounds.some(one["instances"], other["instances"]),
        "permits": bounds.some(one["permits"], other["permits"]),
        "names": sorted({*one.get("names", [one["id"]]), *other.get("names", [other["id"]])}),
        "last": max(one["last"], other["last"]),
        "emergency": one["emergency"] or other["emergency"],
        # What one source reported was not inferred, whatever another one inferred beside it.
        "inferred": one["inferred"] and other["inferred"],
        "confidence": max(one["confidence"], other["confidence"]),
        "voided": one["voided"] or other["voided"],
    }


def _earliest(facts: Facts, name: str, by: str, when: list[int]) -> Facts:
    known = facts.get(name, {})
    return facts | {name: known | {by: min(filter(None, (known.get(by), when)))}}


def _claim(facts: Facts, event: Event, trust: int) -> None:
    # An amendment is a correction: it outranks everything said before it, whenever that arrives.
    ranked = [event["event_type"] == "amended", trust, event["corrected_at"], event["event_id"]]
    claims, source = dict(facts["claims"]), event["source"]
    for name in DESCRIPTION:
        if event[name] not in _EMPTY:
            by_source = _with_latest(claims.get(name, {}), source, [ranked, bounds.cut(facts, event[name])])
            claims[name] = bounds.keep_sources(facts, by_source)
    facts["claims"] = claims


def _with_latest(kept: dict[str, list[Any]], key: str, ranked: list[Any]) -> dict[str, list[Any]]:
    return {**kept, key: ranked} if key not in kept or ranked > kept[key] else kept


def _best(facts: Facts, name: str) -> str:
    claims = facts["claims"].get(name)
    if not claims:
        return ""
    if len(claims) == 1:  # the usual, and asked two dozen times a record
        [(_, value)] = claims.values()
        return str(value)
    return str(max(claims.values())[1])


def _is_amended(facts: Facts, name: str) -> bool:
    claims = facts["claims"].get(name)
    return bool(claims and max(claims.values())[0][0])


def _conflicts(facts: Facts, told: outcome.Told, where: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in COMPARED:
        said = facts["claims"].get(name, {})
        if len(said) < 2:
            continue
        agreed = {where.get(name) or _best(facts, name), *(told.services if name == "service" else ())}
        lost = {f"{source}={value}" for source, (_, value) in said.items() if value not in agreed}
        if lost:
            found[name] = ", ".join(sorted(lost))
    return found


def _at(mark: Mark | None) -> int | None:
    return mark[0] if mark else None
