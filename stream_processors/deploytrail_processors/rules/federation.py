"""One deployment as independent clusters know it.

In: records of clusters, in any order, any number of times, some perhaps missing. What is kept of them (`Known`) only
ever takes the newest claim of each cluster, partition and id, so that a merge is idempotent, commutative and
associative. Out: one federated record, a function of what is known (`federated`); how claims of one deployment are
weighed against each other is in `federated_content`.

Clusters are independent: they may call two regions by one name, and one deployment by two ids. So a claim is named by
its cluster and the partition there, never by its region; and every id learns the claims of the ids that some cluster
takes for the same deployment (`told_to`), so that all of them come to the same answer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules.federated_content import Claim, Content, content_of, label, merged_content

Known = dict[str, Any]
# More names than these no deployment has, and more claims no cluster of clusters makes of one: the first are kept.
MOST_NAMES = 32
MOST_CLAIMS = 128


@dataclass(frozen=True, slots=True)
class Names:
    """Which ids are one deployment. `stands_for`: by each id the one that stands for it; `refused`: in words, why two
    that a cluster takes for one are kept apart."""

    stands_for: Mapping[str, str]
    refused: tuple[str, ...]


def new_known(deployment_id: str) -> Known:
    """What is known of an id of which no cluster has told."""
    return {"id": deployment_id, "claims": {}, "names": [deployment_id]}


def claim_of(cluster: str, partition: int, record: Mapping[str, Any]) -> Claim:
    """What a cluster claims: a Record that it wrote to a partition of its own records."""
    return {"cluster": cluster, "partition": partition, "record": dict(record)}


def take(known: Known, claim: Claim) -> Known:
    """What is known with one more claim; the same object where it says nothing new. Equal for every order."""
    key = _key(claim)
    old = known["claims"].get(key)
    newest = claim if old is None else max(old, claim, key=_age)
    claims = known["claims"] if newest is old else _first({**known["claims"], key: newest}, known["id"])
    names = sorted({*known["names"], *_named(claim["record"])})[:MOST_NAMES]
    if claims == known["claims"] and names == known["names"]:
        return known
    return {**known, "claims": claims, "names": names}


def merge(one: Known, other: Known) -> Known:
    """What two know of one id, together. Idempotent, commutative and associative."""
    both = {**one, "names": sorted({*one["names"], *other["names"]})[:MOST_NAMES]}
    for claim in other["claims"].values():
        both = take(both, claim)
    return both


def told_to(known: Known) -> list[str]:
    """The other ids that have to learn what is known of this one: those that were ever taken for it."""
    return [name for name in known["names"] if name != known["id"]]


def federated(known: Known) -> Content:
    """The federated record of an id. Its `revision` grows with every newer claim, and is equal for every order."""
    claims = [known["claims"][key] for key in sorted(known["claims"])]
    names = names_of(claims)
    own = names.stands_for.get(known["id"], known["id"])
    group = [c for c in claims if names.stands_for[c["record"]["deployment_id"]] == own]
    if own == known["id"]:
        standing = [c for c in group if not c["record"]["merged_into"]]
        content = content_of(known["id"], standing or group, group)
    else:
        content = merged_content(known["id"], own, [c for c in group if c["record"]["deployment_id"] == known["id"]])
    if refused := [words for words in names.refused if known["id"] in words]:
        content["conflicts"]["deployment_ids"] = "; ".join(refused)
    return content | {
        "revision": sum(c["record"]["revision"] for c in claims),
        "recorded_at": max(c["record"]["recorded_at"] for c in claims),
    }


def names_of(claims: Iterable[Claim]) -> Names:
    """Which ids are one deployment, by the word of every cluster.

    What most clusters say is followed first. Two ids that one cluster keeps as two deployments are never joined, by
    whatever others say: one wrong link would make one of a day's redeploys. The id that stands for others is one that
    no cluster takes for another name; of several the smallest.
    """
    claims = list(claims)
    apart: dict[str, set[str]] = {}  # ids that stand for themselves, by who says so
    links: dict[tuple[str, str], set[str]] = {}
    pointed_away: set[str] = set()
    group: dict[str, frozenset[str]] = {}
    for claim in claims:
        record = claim["record"]
        own = record["deployment_id"]
        group |= {name: frozenset({name}) for name in _named(record)}
        if record["merged_into"]:
            pointed_away.add(own)
        else:
            apart.setdefault(f"{claim['cluster']}/{claim['partition']}", set()).add(own)
        for other in {record["merged_into"], *record["deployment_ids"]} - {"", own}:
            links.setdefault((min(own, other), max(own, other)), set()).add(label(claim))
    refused = []
    for (one, other), said_by in sorted(links.items(), key=lambda link: (-len(link[1]), link[0])):
        both = group[one] | group[other]
        keeper = min((who for who, ids in apart.items() if len(ids & both) > 1), default=None)
        if keeper is None:
            group |= dict.fromkeys(both, both)
        else:
            who = keeper.rpartition("/")[0]
            refused.append(f"{', '.join(sorted(said_by))} takes {one} and {other} for one; {who} keeps them apart")
    stands_for = {name: min(ids - pointed_away or ids) for name, ids in group.items()}
    return Names(stands_for, tuple(refused))


def partition_of(deployment_id: str, partitions: int) -> int:
    """The partition in which all claims of an id meet, whatever region or cluster they come from."""
    return zlib.crc32(deployment_id.encode()) % partitions


def _key(claim: Claim) -> str:
    return f"{claim['cluster']}/{claim['partition']}/{claim['record']['deployment_id']}"


def _age(claim: Claim) -> tuple[int, int, str]:
    """A total order of one cluster's claims: two of one revision differ only where its state was lost."""
    record = claim["record"]
    return record["revision"], record["recorded_at"], json.dumps(record, sort_keys=True)


def _named(record: Mapping[str, Any]) -> set[str]:
    return {record["deployment_id"], record["merged_into"], *record["deployment_ids"]} - {""}


def _first(claims: dict[str, Claim], own: str) -> dict[str, Claim]:
    """At most so many of them; those of the id itself go before those of its other names."""
    keys = sorted(claims, key=lambda key: (claims[key]["record"]["deployment_id"] != own, key))[:MOST_CLAIMS]
    return {key: claims[key] for key in sorted(keys)}
