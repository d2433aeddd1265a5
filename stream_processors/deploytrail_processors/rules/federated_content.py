"""What counts where clusters tell of one deployment, and what they disagree on, in words.

Claims about one region speak of the same thing and are weighed (`_weight`); claims about several regions speak of the
parts of one deployment, whose state follows from all (`_together`). Every claim is kept beside what counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.reasons import Outcome

Claim = dict[str, Any]  # cluster, partition, record
Content = dict[str, Any]

DESCRIPTION = (
    *("environment", "service", "tier", "team", "kind", "strategy", "parent_deployment_id", "part_of"),
    *("rollback_of", "rolled_back_by", "superseded_by", "version", "previous_version", "artifact_digest"),
    *("commit_sha", "repository", "build_system", "build_id", "build_url", "deployer", "change_ticket"),
    "feature_ticket",
)
# Clusters that differ on one of these do not describe the same thing: it is shown.
COMPARED = ("environment", "service", "kind", "version", "artifact_digest", "commit_sha", "deployer", "change_ticket")
_EMPTY = ("", "unknown", None)
# How far a state goes. Who saw an end knows more than who still waits for one, or gave up waiting; that a deployment
# was undone, or that its record was wrong, is said after its end.
_FAR = {"voided": 4, "rolled_back": 3, "succeeded": 2, "failed": 2, "cancelled": 2, "superseded": 1}
# Of two ends at one time the worse counts; of two that have not ended, the later in life.
_ORDER = ("merged", "unknown", "registered", "waiting_approval", "queued", "lost", "running", "degraded",
          "superseded", "succeeded", "cancelled", "failed", "rolled_back", "voided")  # fmt: skip
_NOT_BEGUN = ("unknown", "registered", "waiting_approval", "queued")
_BAD = ("failed", "rolled_back", "cancelled")
# What a deployment of several regions has come to once all have: the first of these that one of them is.
_WORST = ("lost", "failed", "rolled_back", "cancelled", "superseded", "succeeded")


class Moment(NamedTuple):
    """An uncertain instant: µs, and half width in ms."""

    at: int
    width: int

    def meets(self, other: Moment) -> bool:
        """Whether both may be the same instant."""
        return abs(self.at - other.at) <= (self.width + other.width) * 1000


def label(claim: Claim) -> str:
    """How a claim is called in words: cluster/region. Two clusters may have regions of one name."""
    return f"{claim['cluster']}/{claim['record']['region'] or claim['partition']}"


def content_of(deployment_id: str, standing: list[Claim], every: list[Claim]) -> Content:
    """The federated record of a deployment by the claims that stand for it; `every` claim of its names is kept.

    Without any it is one of which nothing is known but its id.
    """
    if not standing:
        return _nothing(deployment_id)
    named = sorted(standing, key=lambda claim: (label(claim), claim["partition"], claim["record"]["deployment_id"]))
    ranked = sorted(named, key=_weight, reverse=True)  # of equal weight the first by name
    by_region: dict[str, list[Claim]] = {}
    for claim in ranked:
        by_region.setdefault(claim["record"]["region"], []).append(claim)
    regions = {region: _state(claims[0]) for region, claims in sorted(by_region.items())}
    state = _together(regions.values())
    counts = next((c for c in ranked if _state(c) == state), ranked[0])["record"]
    found = _description(ranked) | _times(by_region, ended=state not in ("running", "degraded", *_NOT_BEGUN))
    records = [claim["record"] for claim in standing]
    return found | {
        "deployment_id": deployment_id,
        "state": state,
        **{name: counts[name] for name in ("outcome_reason", "error", "exit_code", "provenance", "confidence")},
        "emergency": any(record["emergency"] for record in records),
        "last_event_at": max((r["last_event_at"] for r in records if r["last_event_at"] is not None), default=None),
        "merged_into": "",
        "regions": regions,
        "decided_by": sorted({label(claims[0]) for claims in by_region.values()}),
        "conflicts": _conflicts(by_region, ranked),
        **_kept(deployment_id, every),
    }


def merged_content(deployment_id: str, into: str, claims: list[Claim]) -> Content:
    """The federated record of an id that is another name of `into`, with what is claimed under it."""
    found = content_of(deployment_id, claims, claims)
    return found | {"state": "merged", "outcome_reason": Outcome.SAME_DEPLOYMENT.value, "merged_into": into}


def _nothing(deployment_id: str) -> Content:
    return {
        **dict.fromkeys(DESCRIPTION, ""),
        "kind": "unknown",
        "strategy": "unknown",
        "deployment_id": deployment_id,
        "state": "unknown",
        **dict.fromkeys((*_moment("started_at", None), *_moment("finished_at", None)), None),
        **dict.fromkeys(("duration_ms", "duration_uncertainty_ms", "last_event_at", "exit_code")),
        "outcome_reason": "",
        "error": "",
        "provenance": "reported",
        "confidence": 1.0,
        "emergency": False,
        "merged_into": "",
        "regions": {},
        "decided_by": [],
        "conflicts": {},
        **_kept(deployment_id, []),
    }


def _weight(claim: Claim) -> tuple[Any, ...]:
    """How much a claim counts against others about the same region: the greater more.

    How far it has come; whether somebody reported it; whether what ran it did; of two ends the later, which corrects
    the earlier; the more certain time; who heard of it last, and more. A function of the claim alone.
    """
    record = claim["record"]
    state = record["state"]
    far = _FAR.get(state, 0)
    end = record["finished_at"] if far else record["last_event_at"]
    certain = [-(record[f"{name}_uncertainty_ms"] or 0) for name in ("finished_at", "started_at")]
    order = _ORDER.index(state) if state in _ORDER else 0
    return (
        *(state != "merged", far, record["provenance"] == "reported", "library" in record["sources"]),
        *(end or 0, order, *certain, record["last_event_at"] or 0, record["event_count"]),
        record["recorded_at"],
    )


def _state(claim: Claim) -> str:
    """The state that it claims; who only says what it is another name of says none."""
    state: str = claim["record"]["state"]
    return "unknown" if state == "merged" else state


def _together(states: Iterable[str]) -> str:
    """The state of a deployment whose regions are in these states."""
    there = set(states)
    there = there - {"voided"} or there  # a wrong record of one region says nothing of the others
    if len(there) == 1:
        return there.pop()
    unfinished = there - set(_WORST)
    if not unfinished:
        return next(state for state in _WORST if state in there)
    if there & {*_BAD, "degraded"}:
        return "degraded"
    return max(there, key=_ORDER.index) if there <= set(_NOT_BEGUN) else "running"


def _description(ranked: list[Claim]) -> Content:
    """Of each field the word of the claim that counts most among those that have one."""
    found: Content = {}
    for name in DESCRIPTION:
        empty = "unknown" if name in ("kind", "strategy") else ""
        found[name] = next((c["record"][name] for c in ranked if c["record"][name] not in _EMPTY), empty)
    return found


def _times(by_region: Mapping[str, list[Claim]], *, ended: bool) -> Content:
    """It began with its first region and ended with its last; several words of one moment: the most certain."""
    starts = [moment for claims in by_region.values() if (moment := _started(claims))]
    ends = [moment for claims in by_region.values() if ended and (moment := _finished(claims))]
    start, end = min(starts, default=None), max(ends, default=None)
    lasted: tuple[int | None, int | None] = None, None
    if start and end:
        own = [c["record"] for claims in by_region.values() for c in claims
               if (_at(c, "started_at"), _at(c, "finished_at")) == (start, end)]  # fmt: skip
        if own:  # a monotonic clock may have measured it
            lasted = own[0]["duration_ms"], own[0]["duration_uncertainty_ms"]
        elif end.at >= start.at:
            lasted = (end.at - start.at) // 1000, start.width + end.width
    return {
        **_moment("started_at", start),
        **_moment("finished_at", end),
        "duration_ms": lasted[0],
        "duration_uncertainty_ms": lasted[1],
    }


def _started(claims: list[Claim]) -> Moment | None:
    said = [moment for claim in claims if (moment := _at(claim, "started_at"))]
    return _surest(said, min(said)) if said else None


def _finished(claims: list[Claim]) -> Moment | None:
    """When it came to the end that counts: claims of another end have a time of another thing."""
    state = claims[0]["record"]["state"]
    said = [m for claim in claims if claim["record"]["state"] == state and (m := _at(claim, "finished_at"))]
    return _surest(said, max(said)) if said else None


def _surest(said: list[Moment], near: Moment) -> Moment:
    return min((moment for moment in said if moment.meets(near)), key=lambda moment: (moment.width, moment.at))


def _at(claim: Claim, name: str) -> Moment | None:
    at = claim["record"][name]
    return None if at is None else Moment(at, claim["record"][f"{name}_uncertainty_ms"] or 0)


def _moment(name: str, moment: Moment | None) -> Content:
    return {name: moment.at if moment else None, f"{name}_uncertainty_ms": moment.width if moment else None}


def _conflicts(by_region: Mapping[str, list[Claim]], ranked: list[Claim]) -> dict[str, str]:
    """By field, in words: what counts by whose word, and who says otherwise. Then what clusters differ on within."""
    found: dict[str, list[str]] = {}
    for claims in by_region.values():
        if words := _differing([(claim, claim["record"]["state"]) for claim in claims]):
            found.setdefault("state", []).append(words)
        for name, counted in (("started_at", _started(claims)), ("finished_at", _finished(claims))):
            state = claims[0]["record"]["state"]
            other = [
                f"{label(claim)} says {format_instant(moment.at)} ± {moment.width} ms"
                for claim in claims
                if (moment := _at(claim, name))
                and counted
                and not moment.meets(counted)
                and (name == "started_at" or claim["record"]["state"] == state)
            ]
            if counted and other:
                counts = f"{format_instant(counted.at)} ± {counted.width} ms counts"
                found.setdefault(name, []).append("; ".join([counts, *sorted(other)]))
    for name in COMPARED:
        said = [(claim, claim["record"][name]) for claim in ranked if claim["record"][name] not in _EMPTY]
        if words := _differing(said):
            found.setdefault(name, []).append(words)
    for claim in sorted(ranked, key=lambda claim: (label(claim), claim["partition"])):
        for name, words in sorted(claim["record"]["conflicts"].items()):
            found.setdefault(name, []).append(f"within {label(claim)}: {words}")
    return {name: "; ".join(words) for name, words in sorted(found.items())}


def _differing(said: list[tuple[Claim, str]]) -> str:
    if len({value for _, value in said}) < 2:
        return ""
    (first, counts), *others = said
    differ = sorted({f"{label(claim)} says {value}" for claim, value in others if value != counts})
    return "; ".join([f"{counts} counts, by {label(first)}", *differ])


def _kept(deployment_id: str, claims: list[Claim]) -> Content:
    """Who tells of it, under which names, and each claim whole, but for what it leaves empty."""
    kept = {}
    for claim in claims:
        record = claim["record"]
        name = label(claim)
        if record["deployment_id"] != deployment_id:
            name = f"{name} {record['deployment_id']}"
        if name in kept:  # such as a backfilled region beside itself
            name = f"{name} of partition {claim['partition']}"
        said = {
            field: format_instant(value) if field.endswith("_at") and isinstance(value, int) else value
            for field, value in record.items()
            if value not in ("", None, [], {})
        }
        kept[name] = json.dumps(said, ensure_ascii=False, sort_keys=True)
    return {
        "clusters": sorted({claim["cluster"] for claim in claims}),
        "deployment_ids": sorted({deployment_id, *(name for c in claims for name in c["record"]["deployment_ids"]),
                                  *(claim["record"]["deployment_id"] for claim in claims)}),
        "sources": sorted({source for claim in claims for source in claim["record"]["sources"]}),
        "claims": dict(sorted(kept.items())),
    }  # fmt: skip
