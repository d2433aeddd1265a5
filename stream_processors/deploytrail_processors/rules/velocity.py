"""Does a service change too often: over its budget, or in a burst?

In: when each deployment of a service in an environment began, the policy, partition time. Out: a
finding when a limit is passed, with the counts and deployments that led to it, and one that
supersedes it when the time that the limit speaks of has passed on. What is reported once that time has passed is found
all the same (`heard_of_late`): a spool that waited would hide exactly the hectic hour. A deployment counts once,
however many cohorts, instances or children of it were reported; a voided one does not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.policies.scope import narrowness
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Document, Policies, Velocity
from deploytrail_processors.rules.policies.velocity import LONGEST, MOST

MINUTE = 60_000_000
KEEP = LONGEST * MINUTE
RULES = BUDGET, BURST = "change_budget", "change_burst"
# Of more starts than any policy can count, the oldest are forgotten.
MOST_STARTS = 2 * MOST
_LISTED = 20
_BEGUN = frozenset({"started", "progressed", "succeeded", "failed", "cancelled", "rolled_back"})
Starts = dict[str, list[Any]]  # deployment → its earliest time, kind, when it was voided (0: not)
Span = list[int]  # first and last start, µs


class Limit(NamedTuple):
    """One limit of a policy: how many starts are too many in how long, and the words for it."""

    rule: str
    allowed: int
    span: int
    reached: Reason
    over: Reason


def with_event(starts: Starts, event: Mapping[str, Any]) -> Starts:
    """The starts with one more event; equal for every order and repetition."""
    name, voided = event["deployment_id"], event["event_type"] == "voided"
    if event["parent_deployment_id"] or (event["event_type"] not in _BEGUN and not voided):
        return starts
    at, kind, was_voided = starts.get(name, [None, "", 0])
    at = at if voided else min(filter(None, (at, event["corrected_at"])))
    kind = max(kind, event["kind"] if event["kind"] != "unknown" else "")
    grown = starts | {name: [at, kind, max(was_voided, event["corrected_at"] if voided else 0)]}
    if len(grown) > MOST_STARTS:
        oldest = min(grown, key=lambda one: (grown[one][0] or 0, one))
        grown = {one: start for one, start in grown.items() if one != oldest}
    return grown


def without_old(starts: Starts, now: int) -> Starts:
    """The starts that a limit may still count."""
    return {name: start for name, start in starts.items() if last_of(start) > now - KEEP}


def last_of(start: list[Any]) -> int:
    """The time by which a start is forgotten: where only the word is known that takes it back, that of the word."""
    return int(start[2] if start[0] is None else start[0])


def once(starts: Starts, stands_for: Callable[[str], str]) -> Starts:
    """The starts with those of one deployment under several names as one."""
    found: Starts = {}
    for name in sorted(starts):
        at, kind, voided = starts[name]
        known_at, known_kind, known_voided = found.get(stands_for(name), [None, "", 0])
        earliest = min((one for one in (at, known_at) if one is not None), default=None)
        found[stands_for(name)] = [earliest, max(kind, known_kind), max(voided, known_voided)]
    return found


def policy_for(subject: dict[str, str], policies: Policies) -> Document | None:
    """The policy of a service in an environment: the narrowest; of equally narrow ones the first by name.

    None where none covers it, or one that does is invalid, which `deploytrail policy` does not let through.
    A scope of kinds says which deployments count, not whether the policy applies.
    """
    covering = [
        d for d in policies.of_kind("velocity") if d.scope.covers(subject | {"kind": next(iter(d.scope.kinds), "")})
    ]
    if any(d.spec is None for d in covering):
        return None
    return min(covering, key=lambda d: (-narrowness(d.scope), d.name), default=None)


def limits_of(policy: Velocity) -> Iterator[Limit]:
    """The limits of a policy; `allowed` starts are still no violation."""
    if policy.budget is not None:
        span = int(policy.budget_minutes * MINUTE)
        yield Limit(BUDGET, policy.budget, span, Reason.OVER_BUDGET, Reason.WITHIN_BUDGET_AGAIN)
    if policy.burst is not None:
        span = int(policy.burst_minutes * MINUTE)
        yield Limit(BURST, policy.burst - 1, span, Reason.BURST_OF_CHANGES, Reason.BURST_OVER)


def counted(starts: Starts, policy: Velocity, limit: Limit, now: int) -> list[tuple[int, str]]:
    """(start, deployment) of those that a limit counts at partition time, in order."""
    return sorted(
        (at, name)
        for name, (at, kind, voided) in starts.items()
        if at is not None and not voided and now - limit.span < at <= now
        and (not policy.scope.kinds or kind in policy.scope.kinds)
    )  # fmt: skip


def judge(
    starts: Starts, document: Document, standing: Finding | None, limit: Limit, place: dict[str, str], *, now: int
) -> Finding | None:
    """What is to be said at partition time `now` that does not stand already; None for nothing."""
    assert isinstance(document.spec, Velocity)
    found = counted(starts, document.spec, limit, now)
    over = len(found) > limit.allowed
    if over == (standing is not None and standing["verdict"] == "violation"):
        return None
    if over:
        return _reached(found, document, limit, place)
    assert standing is not None
    return _passed(len(found), document, limit, place, standing, until=now)


def spans_said(spans: list[Span], more: list[Span], now: int) -> list[Span]:
    """The times that violations spoke of, first and last start of each, with more of them; those that touch are one."""
    joined: list[Span] = []
    for first, last in sorted(map(tuple, [*spans, *more])):
        if joined and first <= joined[-1][1]:
            joined[-1] = [joined[-1][0], max(last, joined[-1][1])]
        else:
            joined.append([first, last])
    return [span for span in joined if span[1] > now - KEEP]


def current(starts: Starts, document: Document, limit: Limit, now: int) -> list[Span]:
    """The first and the last of the starts that are too many at partition time; none where they are not."""
    assert isinstance(document.spec, Velocity)
    found = counted(starts, document.spec, limit, now)
    return [[found[0][0], found[-1][0]]] if len(found) > limit.allowed else []


def heard_of_late(
    starts: Starts,
    rule: str,
    document_at: Callable[[int], Document | None],
    place: dict[str, str],
    said: list[Span],
    *,
    since: int,
    now: int,
) -> tuple[list[Finding], list[Span]]:
    """What was too many in a time that has passed: a violation and what supersedes it, for each such time; and these.

    `document_at`: the policy of a time; each is judged by its own. `since`: the earliest start that was not known
    before. `said`: times that violations have spoken of.
    """
    fullest: list[_Passed] = []  # of starts too near to each other, with the fullest window
    known: dict[str, list[tuple[int, str]]] = {}
    for at in sorted({start[0] for start in starts.values() if since <= (start[0] or 0) <= now}):
        asked = _asked(document_at(at), rule)
        if asked is None:
            continue
        document, limit = asked
        assert isinstance(document.spec, Velocity)
        if document.key not in known:
            span = now - since + limit.span
            known[document.key] = counted(starts, document.spec, limit._replace(span=span), now)
        counts = known[document.key]
        begin, end = (bisect_right(counts, moment, key=_time) for moment in (at - limit.span, at))
        window = counts[begin:end]
        if len(window) <= limit.allowed or window[-1][0] != at:
            continue
        found = _Passed(window[0][0], at, window, document, limit)
        if fullest and found.first <= fullest[-1].last:
            before = fullest.pop()
            found = max(before, found, key=lambda one: len(one.window))._replace(first=before.first, last=at)
        fullest.append(found)
    findings: list[Finding] = []
    for one in fullest:
        if not any(one.first <= until and one.last >= begin for begin, until in said):
            reached = _reached(one.window, one.document, one.limit, place)
            until = min(now, one.last + one.limit.span)
            assert isinstance(one.document.spec, Velocity)
            left = len(counted(starts, one.document.spec, one.limit, until))
            findings += [reached, _passed(left, one.document, one.limit, place, reached, until=until)]
    return findings, [[one.first, one.last] for one in fullest]


class _Passed(NamedTuple):
    """A time with too many starts: its first and last one, the fullest window, and by what they are too many."""

    first: int
    last: int
    window: list[tuple[int, str]]
    document: Document
    limit: Limit


def _asked(document: Document | None, rule: str) -> tuple[Document, Limit] | None:
    if document is None or not isinstance(document.spec, Velocity):
        return None
    return next(((document, limit) for limit in limits_of(document.spec) if limit.rule == rule), None)


def _time(start: tuple[int, str]) -> int:
    return start[0]


def _reached(found: list[tuple[int, str]], document: Document, limit: Limit, place: dict[str, str]) -> Finding:
    evidence = {
        "first": from_micros(found[0][0]).isoformat(),
        "last": from_micros(found[-1][0]).isoformat(),
        "deployments": ", ".join(name for _, name in found[-_LISTED:]),
    }
    about = {"occurred_at": found[-1][0], "severity": "warning", "deployment_id": found[-1][1]}
    return _said(len(found), document, limit, place, "violation", limit.reached, evidence, about)


def _passed(
    count: int, document: Document, limit: Limit, place: dict[str, str], standing: Finding, *, until: int
) -> Finding:
    evidence = {"until": from_micros(until).isoformat()}
    about = {"occurred_at": until, "severity": "info", "deployment_id": ""}
    found = _said(count, document, limit, place, "ok", limit.over, evidence, about)
    return found | {"supersedes": standing["finding_id"]}


def _said(
    count: int,
    document: Document,
    limit: Limit,
    place: dict[str, str],
    verdict: str,
    reason: Reason,
    evidence: dict[str, str],
    about: dict[str, Any],
) -> Finding:
    minutes = limit.span // MINUTE
    words = f"has begun {count} deployments in {minutes} minutes; {limit.allowed} are allowed"
    return finding(
        limit.rule,
        verdict,
        reason,
        subject=joined(place["region"], place["environment"], place["service"]),
        place=place,
        explanation=f"{place['service']} in {place['environment']} {words}",
        evidence={"count": str(count), "allowed": str(limit.allowed), "minutes": str(minutes)} | evidence,
        policy_version=document.key,
        **about,
    )


def next_change(starts: Starts, document: Document, standing: dict[str, Finding], now: int) -> int | None:
    """When the verdict may change though nothing is reported: a start that is yet to come, or one that passes out."""
    assert isinstance(document.spec, Velocity)
    due = [at for at, _, _ in starts.values() if at is not None and at > now]
    for limit in limits_of(document.spec):
        if standing.get(limit.rule, {}).get("verdict") == "violation":
            due += [at + limit.span for at, _ in counted(starts, document.spec, limit, now)[:1]]
    return min(due, default=None)
