"""Which ids name one deployment? A library, a webhook and a controller each give it an id of their own.

In: of each id what its facts tell (`Part`). Out: groups of ids, each with the id that stands for it. The answer is a
function of all that is known, so that no order of events can matter: the links between parts are taken one after the
other in a total order, the surest first, and one that would put together what must stay apart is left out.

Parts are linked by (the surest first):

1. an id that one of them names as its parent, of the same place and from another source,
2. the run of a pipeline (build system and id, or the URL of the run), within a day,
3. the digest of the artifact, within a window of time,
4. the commit, within it, unless both have digests and these differ.

Tickets and permits link nothing, since they may cover several deployments; they only speak against a link where they
differ. What must stay apart: two ids that one source gave for one service, since it knows best; a rollback and what it
undoes; other cohorts, other instances; by digest or commit alone also a rollback and what is no rollback. What was
inferred and taken back names nothing any more: else it would take back what was reported, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.deployment_times import BY_THE_LIBRARY, INFERRED, REPORTED

Key = tuple[str, ...]
DAY = 86_400_000_000
BY_ID, BY_RUN, BY_DIGEST, BY_COMMIT = range(4)
# The attempt, the job or the step of a run, behind its URL.
_OF_A_RUN = re.compile(r"(/actions/runs/\d+)/.*|[?#].*")


@dataclass(frozen=True, slots=True)
class Part:
    """What the facts of one id tell of which deployment it names. Times in µs; `reach`: ± of the whole life."""

    id: str
    trust: int
    place: tuple[str, str]
    services: frozenset[str]
    sources: frozenset[tuple[str, str]]  # source, service
    begin: int
    first: int
    last: int
    window: int
    parents: frozenset[str] = frozenset()
    undoes: frozenset[str] = frozenset()
    is_rollback: bool | None = None  # None: nobody says
    runs: frozenset[Key] = frozenset()
    digests: frozenset[str] = frozenset()
    commits: frozenset[str] = frozenset()
    tickets: frozenset[str] = frozenset()
    cohorts: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    void: bool = False
    keys: frozenset[Key] = field(default=frozenset())  # parts without a key in common have no link


def part_of(facts: lifecycle.Facts, window_minutes: float) -> Part | None:
    """What an id's facts tell; None before anything of its life is known."""
    told = outcome.read(facts)
    marks = [mark for _, _, _, mark in told.marks]
    if not marks:
        return None
    claims = {name: lifecycle.claimed(facts, name) for name in _CLAIMS}
    where = lifecycle.place(facts, told)
    services = frozenset({where["service"], *(service for service, _, _, _ in told.marks)})
    started = outcome.marks_of(told, "started")
    kinds = claims["kind"]
    runs = _runs(facts)
    keys: set[Key] = {("id", facts["id"]), *(("id", parent) for parent in claims["parent_deployment_id"])}
    told_of = [*runs, *(("digest", one) for one in claims["artifact_digest"])]
    told_of += [("commit", one) for one in claims["commit_sha"]]
    # With the place, since one commit or one run may reach a hundred services.
    keys |= {(where["region"], where["environment"], service, *one) for service in services for one in told_of}
    return Part(
        id=facts["id"],
        trust=INFERRED if facts["inferred"] else BY_THE_LIBRARY if any(m[8] == BY_THE_LIBRARY for m in marks)
        else REPORTED,
        place=(where["region"], where["environment"]),
        services=services,
        sources=frozenset((mark[7], service) for service, _, _, mark in told.marks),
        begin=min(mark[0] for mark in started or marks),
        first=min(mark[0] - mark[1] * 1000 for mark in marks),
        last=max(mark[0] + mark[1] * 1000 for mark in marks),
        window=int(window_minutes * lifecycle.MINUTE),
        parents=claims["parent_deployment_id"],
        undoes=claims["rollback_of"],
        is_rollback=True if "rollback" in kinds or claims["rollback_of"] else False if kinds else None,
        runs=runs,
        digests=claims["artifact_digest"],
        commits=claims["commit_sha"],
        tickets=claims["change_ticket"],
        cohorts=frozenset(cohort for _, cohort, _, _ in told.marks if cohort),
        instances=frozenset(facts["instances"]),
        void=facts["inferred"] and facts["voided"],
        keys=frozenset(keys),
    )  # fmt: skip


def link(one: Part, other: Part) -> tuple[Any, ...] | None:
    """How sure it is that two ids name one deployment, smallest surest; None: nothing says so, or something forbids."""
    if one.id == other.id or one.place != other.place or not one.services & other.services or apart(one, other):
        return None
    gap = max(one.first, other.first) - min(one.last, other.last)
    window = min(one.window, other.window)
    same_kind = None in (one.is_rollback, other.is_rollback) or one.is_rollback == other.is_rollback
    if one.id in other.parents or other.id in one.parents:
        by = BY_ID
    elif one.runs & other.runs and gap <= DAY:
        by = BY_RUN
    elif gap > window or not same_kind:
        return None
    elif one.digests & other.digests:
        by = BY_DIGEST
    elif one.commits & other.commits and not (one.digests and other.digests):
        by = BY_COMMIT
    else:
        return None
    against = sum(bool(a and b and not a & b) for a, b in ((one.digests, other.digests), (one.tickets, other.tickets)))
    return (by, not same_kind, against, abs(one.begin - other.begin), *sorted((one.id, other.id)))


def apart(one: Part, other: Part) -> bool:
    """Whether two ids name two deployments for sure."""
    return (
        one.void
        or other.void
        or bool(one.sources & other.sources)
        or one.id in other.undoes
        or other.id in one.undoes
        or bool(one.cohorts and other.cohorts and not one.cohorts & other.cohorts)
        or bool(one.instances and other.instances and not one.instances & other.instances)
    )


def groups(parts: Iterable[Part]) -> list[list[str]]:
    """The ids in groups that name one deployment each; of each group the id that stands for it comes first."""
    known = {part.id: part for part in parts}
    ids = sorted(known)
    links = sorted(
        found
        for number, one in enumerate(ids)
        for other in ids[number + 1 :]
        if known[one].keys & known[other].keys and (found := link(known[one], known[other])) is not None
    )
    together = {part_id: [part_id] for part_id in ids}
    for *_, one, other in links:
        a, b = together[one], together[other]
        if a is not b and not any(apart(known[x], known[y]) for x in a for y in b):
            a += b
            for part_id in b:
                together[part_id] = a
    distinct = {id(group): group for group in together.values()}
    return sorted(sorted(group, key=lambda part_id: standing(known[part_id])) for group in distinct.values())


def standing(part: Part) -> tuple[int, str]:
    """Of the ids of one deployment the smallest stands for it: the library's before others, inferred ones last."""
    return -part.trust, part.id


def reachable(seeds: Iterable[str], known: Mapping[str, Part], near: Callable[[Part], Iterable[str]]) -> list[Part]:
    """The parts that are linked to some, over whatever others. `near`: ids of parts that share a key with a part."""
    todo, seen = [part_id for part_id in seeds if part_id in known], set()
    while todo:
        part_id = todo.pop()
        if part_id in seen:
            continue
        seen.add(part_id)
        part = known[part_id]
        todo += [other for other in near(part) if other not in seen and link(part, known[other]) is not None]
    return [known[part_id] for part_id in sorted(seen)]


_CLAIMS = ("kind", "parent_deployment_id", "rollback_of", "artifact_digest", "commit_sha", "change_ticket")


def _runs(facts: lifecycle.Facts) -> frozenset[Key]:
    """The runs that sources name. An id alone is no name: 12 is a build of everybody's."""
    claims = facts["claims"]
    found: set[Key] = set()
    for source, (_, build) in claims.get("build_id", {}).items():
        system = claims.get("build_system", {}).get(source, [None, ""])[1]
        if system:
            found.add(("run", system, build))
    for _, url in claims.get("build_url", {}).values():
        found.add(("url", _OF_A_RUN.sub(r"\1", url)))
    return frozenset(found)
