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
undoes; other cohorts, other instances, other attempts of a run; one that had ended without success and one that began
after that, which is a second try. What was inferred and taken back names nothing any more: else it would take back what
was reported, too.

A digest or a commit alone says little, since a place can go back to it within the window. It links nothing where one is
a rollback and the other is none, where the others of a group know another artifact, and where between the end of one
and the beginning of the other another artifact began to be deployed there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.deployment_times import BY_THE_LIBRARY, INFERRED, REPORTED, Mark, rank

Key = tuple[str, ...]
DAY = 86_400_000_000
BY_ID, BY_RUN, BY_DIGEST, BY_COMMIT = range(4)
# The attempt, the job or the step of a run, behind its URL.
_OF_A_RUN = re.compile(r"(/actions/runs/\d+)/.*|[?#].*")
_ATTEMPT = re.compile(r"/actions/runs/\d+/attempts/\d+")


@dataclass(frozen=True, slots=True)
class Part:
    """What the facts of one id tell of which deployment it names. Times in µs; `first` to `last`: its whole life with
    its ±; `started`, `ran`: between which times it started, and first ran for sure; `failed`: by when it had ended
    without success."""

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
    attempts: frozenset[str] = frozenset()
    started: tuple[int, int] | None = None
    ran: tuple[int, int] | None = None
    failed: int | None = None
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
    ends = [mark for _, _, kind, mark in told.marks if kind in lifecycle.TERMINAL]
    ran = ends + [mark for _, _, kind, mark in told.marks if kind in ("started", "progressed")]
    state = outcome.outcome_of(told, facts["weights"], is_part=bool(claims["parent_deployment_id"])).state
    in_vain = state in lifecycle.TERMINAL and state != "succeeded"
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
        attempts=frozenset(hit[0] for url in lifecycle.claimed(facts, "build_url") if (hit := _ATTEMPT.search(url))),
        started=_reach(min(started, key=rank)) if started else None,
        ran=_reach(min(ran, key=rank)) if ran else None,
        failed=max(_reach(mark)[1] for mark in ends) if in_vain else None,
        void=facts["inferred"] and facts["voided"],
        keys=frozenset(keys),
    )  # fmt: skip


def link(one: Part, other: Part) -> tuple[Any, ...] | None:
    """How sure it is that two ids name one deployment, smallest surest; None: nothing says so, or something forbids."""
    if one.id == other.id or one.place != other.place or not one.services & other.services or apart(one, other):
        return None
    gap = max(one.first, other.first) - min(one.last, other.last)
    window = min(one.window, other.window)
    same_kind = not differ(kinds_of([one]), kinds_of([other]))
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
        or differ(one.cohorts, other.cohorts)
        or differ(one.instances, other.instances)
        or (bool(one.runs & other.runs) and differ(one.attempts, other.attempts))
        or _tried_again(one, other)
        or _tried_again(other, one)
    )


def differ(ones: frozenset[Any], others: frozenset[Any]) -> bool:
    """Whether both are said, and nothing is said by both."""
    return bool(ones and others and not ones & others)


def is_between(one: Part, other: Part, third: Part) -> bool:
    """Whether after the life of one and before the other began another artifact began to be deployed there."""
    one, other = sorted((one, other), key=lambda part: (part.begin, part.id))
    if third.place != one.place or not third.services & one.services & other.services or third.void:
        return False
    if third.ran is None or other.ran is None or other.started is None:
        return False
    if not one.last < third.ran[0] <= third.ran[1] < other.ran[0] < third.ran[0] + DAY:
        return False
    if shared := one.digests & other.digests:
        return differ(shared, third.digests)
    return differ(one.commits & other.commits, third.commits)


def groups(parts: Iterable[Part], beside: Iterable[Part] = ()) -> list[list[str]]:
    """The ids in groups that name one deployment each; of each group the id that stands for it comes first.

    `beside`: what else is known of their places at the time, which may speak against a link.
    """
    known = {part.id: part for part in parts}
    around = list({part.id: part for part in (*known.values(), *beside)}.values())
    ids = sorted(known)
    links = sorted(
        found
        for number, one in enumerate(ids)
        for other in ids[number + 1 :]
        if known[one].keys & known[other].keys and (found := link(known[one], known[other])) is not None
    )
    together = {part_id: [part_id] for part_id in ids}
    for by, *_, one, other in links:
        a, b = together[one], together[other]
        if a is b or any(apart(known[x], known[y]) for x in a for y in b):
            continue
        if by < BY_DIGEST or not _against([known[x] for x in a], [known[y] for y in b], around):
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


def kinds_of(parts: Iterable[Part]) -> frozenset[bool]:
    """Whether they are rollbacks, as far as they say."""
    return frozenset(part.is_rollback for part in parts if part.is_rollback is not None)


def _against(some: list[Part], others: list[Part], around: Iterable[Part]) -> bool:
    """Whether what only a digest or a commit links must stay apart for what the others of both groups say, or for what
    was deployed in between."""
    digests = [frozenset(digest for part in parts for digest in part.digests) for parts in (some, others)]
    if differ(*digests) or differ(kinds_of(some), kinds_of(others)):
        return True
    return any(is_between(x, y, third) for x in some for y in others for third in around)


def _tried_again(one: Part, other: Part) -> bool:
    """Whether one had ended without success before the other began. What was inferred began when it was seen."""
    if one.failed is None or other.started is None or INFERRED in (one.trust, other.trust):
        return False
    return one.failed < other.started[0]


def _reach(mark: Mark) -> tuple[int, int]:
    return mark[0] - mark[1] * 1000, mark[0] + mark[1] * 1000


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
