"""The company's month with violations planted in it, told to every app over the trail in the product's own context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import heapify, heappop, heappush
from typing import Any

from deploytrail_processors.apps.base import MemoryContext
from deploytrail_processors.processor_command import NAMES
from deploytrail_processors.replay_command import NOT_REPLAYED, makers
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from support.company import BEGIN, FIRST_IN_ORDER, SOX, Change, Plan, Told, in_order, policies, slots, ticks, told
from support.questions import Trail
from support.values import MINUTE
from support.violations import EACH, KINDS, ROLLBACK, Violation, emergency, night

IN_ORDER = 240
Value = dict[str, Any]


@dataclass
class Month:
    """What the trail heard in the order in which it came, what was written of it, and what is wrong by design."""

    heard: list[Told] = field(default_factory=list)
    records: list[Value] = field(default_factory=list)
    findings: list[Value] = field(default_factory=list)
    planted: dict[str, Violation] = field(default_factory=dict)  # by deployment, or by the digest of what just runs
    orderly: set[str] = field(default_factory=set)


@cache
def seeded_month() -> Month:
    """The month, told once a session."""
    month, queue = Month(), [*ticks()]
    for change, plan in _changes(month):
        queue += told(change, plan)
    _tell(month, queue)
    return month


def store(month: Month, trail: Trail, kinds: Iterable[RecordType]) -> None:
    """Write a month into ClickHouse: its policies, what was heard of these kinds, records and findings."""
    for document in policies():
        words = (document[name] for name in ("kind", "name", "version", "effective_from", "spec"))
        trail.apply(*words, written=BEGIN)
    for kind in kinds:
        trail.store(kind, [value for _, _, of, value in month.heard if of is kind])
    trail.store(RecordType.RECORD, month.records)
    trail.store(RecordType.FINDING, month.findings)


def _changes(month: Month) -> Iterable[tuple[Change, Plan]]:
    places, number = slots(), 0
    for kind in KINDS:
        for _ in range(EACH):
            number += 1
            at = next(i for i, slot in enumerate(places) if (slot[0] in SOX) == (kind.service != ""))
            service, region, when = places.pop(at)
            when = kind.moved(when) if kind.moved else when
            change = Change(number, service, region, when, environment=kind.environment)
            plan = kind.plan(change, replace(in_order(change), also_by_argo=False))
            if kind.name == ROLLBACK:
                yield from _undone(change, plan, helps=False)
                month.orderly.add(change.id)
                month.planted[f"{change.service}-{number + 500}"] = kind
            else:
                month.planted[change.id if plan.started else change.artifact] = kind
                yield change, plan
    for number in range(FIRST_IN_ORDER, FIRST_IN_ORDER + IN_ORDER):
        service, region, when = places.pop()
        at_night, fails = number % 20 == 4, number % 20 == 9
        change = Change(number, service, region, night(when) if at_night else when)
        month.orderly.add(change.id)
        if at_night:
            yield change, emergency(change, replace(in_order(change), also_by_argo=False))
        elif fails:
            month.orderly.add(f"{service}-{number + 500}")
            yield from _undone(change, replace(in_order(change), also_by_argo=False, end="failed"), helps=True)
        else:
            yield change, in_order(change)


def _undone(change: Change, plan: Plan, *, helps: bool) -> Iterable[tuple[Change, Plan]]:
    """A change that failed, and its rollback an hour later, as much in order as itself."""
    back = Change(change.number + 500, change.service, change.region, change.at + 55 * MINUTE,
                  environment=change.environment)  # fmt: skip
    yield change, plan
    undoes = {"kind": "rollback", "rollback_of": change.id}
    yield back, replace(plan, end="succeeded", event=undoes, runs="" if helps else change.artifact)


def _tell(month: Month, queue: list[Told]) -> None:
    """Tell everything in the order in which it comes, and what an app writes onto the trail behind its cause."""
    documents = [read_document(document) for document in policies()]
    assert [document.problems for document in documents if document.problems] == []
    standing = PolicySet().with_documents(documents)
    settings = Settings()
    waiting = [(at, number, partition, kind, value) for number, (at, partition, kind, value) in enumerate(queue)]
    heapify(waiting)
    now, count, known = 0, len(waiting), set[str]()

    def take(topic: Topic, partition: int, _: str, kind: RecordType, value: Value) -> None:
        nonlocal count
        value = decode(encode(kind, value))[1]
        if topic is Topic.EVENTS:
            if value["event_id"] not in known:
                known.add(value["event_id"])
                count += 1
                heappush(waiting, (now, count, partition, kind, value))
        elif topic is Topic.RECORDS:
            month.records.append(value)
        elif topic is Topic.FINDINGS:
            month.findings.append(value)

    apps = []
    for name, make in makers([name for name in NAMES if name not in NOT_REPLAYED], settings).items():
        context = MemoryContext(name, settings, standing, take)
        context.keep_time()
        apps.append((context, make(context)))
    while waiting:
        now, _, partition, kind, value = heappop(waiting)
        if kind is not RecordType.TICK:
            month.heard.append((now, partition, kind, value))
        for context, handler in apps:
            context.handle(handler, partition, kind, value)


def standing(findings: Iterable[Value]) -> dict[str, list[Value]]:
    """Findings that nothing supersedes, by deployment."""
    replaced = {(one["region"], one["supersedes"]) for one in findings}
    every = {(one["region"], one["finding_id"]): one for one in findings}
    found: defaultdict[str, list[Value]] = defaultdict(list)
    for key, one in every.items():
        if key not in replaced:
            found[one["deployment_id"]].append(one)
    return found
