"""What is known of one place's reconciliation, as plain JSON, and what is to be said of it at a time.

A place is a service in an environment and region. Its row holds the deployments that changed it, what is declared to
run there, the deployments that were inferred, and the standing finding of drift. Everything is bounded: what is
dropped moves `forgotten`, and nothing that began by then accuses anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploytrail_processors.rules import deployed, drift, reconciliation, sightings
from deploytrail_processors.rules.deployed import FOREVER, Deployed
from deploytrail_processors.rules.findings import next_link
from deploytrail_processors.rules.policies.reconciliation import Reconciliation
from deploytrail_processors.rules.sightings import MINUTE, Sighting

MOST_DEPLOYMENTS, MOST_DECLARED, MOST_INFERRED = 64, 64, 32
# So long after it could be known, what was taken as explained is not judged again.
REOPEN = 6 * 60 * MINUTE
Row = dict[str, Any]
Said = list[list[Any]]  # ["event" or "finding", value]


def new_place(place: Mapping[str, str]) -> Row:
    """A place of which nothing is known yet."""
    return {
        "v": 1,
        "place": dict(place),
        "deployments": {},  # id → Deployed
        "declared": {},  # source, cluster, instance → [at, observation_id, Declared or None where it was removed]
        "inferred": [],  # number, first (Sighting), events, voided, refused, answers
        "forgotten": 0,
        "drift": None,
    }


def is_inferred(row: Row, deployment_id: str) -> bool:
    """Whether a deployment is one that was inferred here."""
    return any(_id(one) == deployment_id for one in row["inferred"])


def refuse(row: Row, deployment_id: str) -> Row:
    """The row once somebody has taken an inferred deployment back: it is not inferred again."""
    return row | {"inferred": [o | {"refused": o["refused"] or _id(o) == deployment_id} for o in row["inferred"]]}


def with_deployment(row: Row, deployment_id: str, known: Deployed | None) -> Row:
    """The row with a deployment as it is known now; None: it has not changed this place (after all)."""
    kept = {name: one for name, one in row["deployments"].items() if name != deployment_id}
    if known is not None:
        kept[deployment_id] = deployed.to_row(known)
    if len(kept) <= MOST_DEPLOYMENTS:
        return row | {"deployments": kept}
    oldest_first = sorted((deployed.from_row(one) for one in kept.values()), key=lambda one: (one.since, one.id))
    current = deployed.in_force(oldest_first, FOREVER)
    oldest = next(one for one in oldest_first if current is None or one.id != current.id)
    del kept[oldest.id]
    after = next(one for one in oldest_first if one.since > oldest.since or one.id > oldest.id)
    return row | {"deployments": kept, "forgotten": max(row["forgotten"], after.since)}


def with_declared(row: Row, observation: Mapping[str, Any], heard: int) -> Row:
    """The row with what an observation declares, or removes. The newest of each source, cluster and instance counts."""
    key = "\x1f".join(observation[name] for name in ("source", "cluster", "instance"))
    removed = observation["observation_type"] == "removed"
    known = None if removed else drift.declared_in(observation, heard)
    if known is None and not removed:
        return row
    newer = [observation["corrected_at"], observation["observation_id"]]
    older = row["declared"].get(key)
    if older is not None and older[:2] >= newer:
        return row
    declared = row["declared"] | {key: [*newer, drift.to_row(known) if known is not None else None]}
    # Most of what is removed was never declared: that goes first.
    by_worth = sorted(declared.items(), key=lambda item: (item[1][2] is not None, item[1][:2], item[0]))
    return row | {"declared": dict(sorted(by_worth[-MOST_DECLARED:]))}


def judge(
    row: Row, running: Sequence[Sighting], policy: Reconciliation, policy_key: str, *, now: int
) -> tuple[Row, Said, list[int]]:
    """The row after the judgement at partition time `now`, what is to be said, and when it may change by itself."""
    row, said, due = _reconcile(row, running, policy, now)
    reported = [deployed.from_row(one) for one in row["deployments"].values()]
    standing = [_as_deployed(one) for one in row["inferred"] if not one["voided"] and not one["refused"]]
    known = [*reported, *standing]
    declared = [drift.from_row(one[2]) for one in row["declared"].values() if one[2] is not None]
    compared = drift.compare(running, declared if policy.drift else [], known if policy.drift else [], policy, now=now)
    due += [compared.next_due] if compared.next_due is not None else []
    # What partition time has not come to yet: a start, an end, and when what is under way counts as lost.
    ahead = [at for one in reported for at in (one.since, one.ends()) if now < at < FOREVER]
    due += [*ahead, *(one.at for one in running if one.at > now)]
    current = deployed.in_force(known, now)
    link = row["drift"]
    found = drift.find_drift(
        compared, row["place"], link["finding"] if link else None, current.id if current else "", policy_key, now=now
    )
    if found is not None:
        row = row | {"drift": next_link(link, found)}
        if link is None or row["drift"]["finding"] != link["finding"]:
            said.append(["finding", row["drift"]["finding"]])
    return row, said, due


def _reconcile(row: Row, running: Sequence[Sighting], policy: Reconciliation, now: int) -> tuple[Row, Said, list[int]]:
    """Infers what is missing, takes back what is explained."""
    rows = row["inferred"]
    firsts = {one["first"]["id"]: sightings.from_row(one["first"]) for one in rows}
    # Whose instance is forgotten was removed long ago.
    gone = {name: replace(one, until=one.at) for name, one in firsts.items()}
    everything = gone | {one.id: one for one in running}
    frozen = [_as_deployed(one) for one in rows if _is_open(one) and one["first"]["at"] <= row["forgotten"]]
    explained = reconciliation.explain(
        everything.values(),
        [*(deployed.from_row(one) for one in row["deployments"].values()), *frozen],
        policy,
        settled=now - int(policy.grace_minutes * MINUTE) - REOPEN,
        forgotten=row["forgotten"],
        always=firsts,
    )
    said: Said = []
    due: list[int] = []
    kept: list[Row] = []
    taken: set[int] = set()  # episodes that have their row
    episode_of = {one.id: index for index, e in enumerate(explained.episodes) for one in e.seen}
    for one in rows:
        index = episode_of.get(one["first"]["id"])
        if one["voided"] or one["first"]["at"] <= row["forgotten"]:
            kept.append(one)
        elif index is None or index in taken:
            kept.append(one if one["refused"] else _void(one, explained.by.get(one["first"]["id"], ""), said, now))
        else:
            taken.add(index)
            kept.append(one)
    declared = [drift.from_row(one[2]).artefact for one in row["declared"].values() if one[2] is not None]
    for index, episode in enumerate(explained.episodes):
        if index in taken or not policy.infer:
            continue
        if episode.due(policy) > now:
            due.append(episode.due(policy))
            continue
        number = 1 + max((one["number"] for one in rows if one["first"]["id"] == episode.first.id), default=0)
        events = reconciliation.inferred(episode, row["place"], declared, number, running, now=now)
        found = reconciliation.find_unreported(episode, events[-1])
        said += [*(["event", event] for event in events), ["finding", found]]
        kept.append({
            "number": number, "first": sightings.to_row(episode.first), "events": events, "voided": None,
            "refused": False, "answers": next_link(None, found),
        })  # fmt: skip
    kept, forgotten = _without_oldest(kept, row["forgotten"])
    return row | {"inferred": kept, "forgotten": forgotten}, said, due


def _void(one: Row, by: str, said: Said, now: int) -> Row:
    event = reconciliation.voided(one["events"][-1], by, now=now)
    answers = next_link(one["answers"], reconciliation.find_explained(one["events"][-1], by))
    said += [["event", event], ["finding", answers["finding"]]]
    return one | {"voided": event, "answers": answers}


def _without_oldest(rows: list[Row], forgotten: int) -> tuple[list[Row], int]:
    while len(rows) > MOST_INFERRED:
        # What was taken back explains nothing; without one that stands, nobody could explain what came with it.
        oldest = min(rows, key=lambda one: (one["voided"] is None, one["first"]["at"], one["first"]["id"]))
        rows = [one for one in rows if one is not oldest]
        if oldest["voided"] is None:
            forgotten = max(forgotten, oldest["first"]["at"])
    return rows, forgotten


def _is_open(one: Row) -> bool:
    return not one["voided"] and not one["refused"]


def _id(one: Row) -> str:
    return str(one["events"][-1]["deployment_id"])


def _as_deployed(one: Row) -> Deployed:
    first = sightings.from_row(one["first"])
    return Deployed(_id(one), first.artefact, "succeeded", first.at, first.at, FOREVER, inferred=True)
