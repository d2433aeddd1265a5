"""A trail with something in it for every app that reads it: deployments, alerts, approvals, rollbacks and time.

Written to the trail itself, with times of its own, so that each run of it has the same outputs. `EFFECTS` says what
each app must have made of it; an app that is new needs a line there, and perhaps something in `life`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from deploytrail_processors.processor_command import NAMES
from deploytrail_processors.replay_command import NOT_REPLAYED
from deploytrail_processors.state_formats import committed, end_offsets, group_of, state_format
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from support.commands import run
from support.kafka import read_topic
from support.values import MINUTE, NOON, SECOND, approval, event, observation, signal

Told = tuple[int, RecordType, dict[str, Any]]
APPS = tuple(name for name in NAMES if name not in NOT_REPLAYED)
LIVE = range(1, 8)  # partitions of regions
STEP = 10 * MINUTE
# The rule of whose findings an app must write some; "" for records.
EFFECTS = {
    "lifecycle": "",
    "change_window": "change_window",
    "overdue": "overdue",
    "correlation": "incident_correlation",
    "suppression": "alert_suppression",
    "rollback_verification": "rollback_verification",
    "approval": "missing_approval",
    "governance": "required_fields",
    "impact": "impact",
    "reconciliation": "unreported_deployment",
    "success_criteria": "success_criteria",
}
POLICIES = """\
kind: change_window
name: weekdays
effective_from: 2020-01-01T00:00:00Z
spec:
  effect: allow
  zone: Europe/Berlin
  start: 2020-01-06T09:00
  duration_minutes: 480
  rrule: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH
  scope: {environments: [production]}
---
kind: suppression
name: default
effective_from: 2020-01-01T00:00:00Z
spec: {max_minutes: 60}
---
kind: success_criteria
name: default
effective_from: 2020-01-01T00:00:00Z
spec: {max_duration_minutes: 3}
---
kind: required_fields
name: tickets
effective_from: 2020-01-01T00:00:00Z
spec: {fields: [feature_ticket], scope: {environments: [production]}}
---
kind: service
name: shop-1
effective_from: 2020-01-01T00:00:00Z
spec: {team: web, depends_on: [shop-2, shop-3], expected_duration_minutes: 12}
"""


def tell(lives: int, partition: int, *, begin: int = NOON, name: str = "p", hours: int = 1) -> Iterator[Told]:
    """So many deployments' lives on a partition, in the order of their times, and three days of ticks behind.

    `hours`: between those ticks.
    """
    at = begin
    for number in range(lives):
        yield from life(f"{name}{partition}-{number}", number, partition, at)
        at += STEP
    for hour in range(hours, 73, hours):
        yield partition, RecordType.TICK, {"at": at + hour * 60 * MINUTE, "region": ""}


def life(name: str, number: int, partition: int, at: int) -> Iterator[Told]:
    """One deployment, what was approved of it, what it broke and how that was undone; ticks between."""
    place = {"service": f"shop-{number % 5}", "region": f"region-{partition}", "deployment_id": name}
    beside = {name: place[name] for name in ("service", "region")}
    if number % 2:
        yield (
            partition,
            RecordType.APPROVAL,
            approval("registered", at - 2 * MINUTE, **place, artifact_digest="sha256:1"),
        )
        yield partition, RecordType.APPROVAL, approval("approved", at - MINUTE, **place, approver="grace")
    ticket = {"feature_ticket": f"SHOP-{number}"} if number % 3 else {}
    yield partition, RecordType.DEPLOYMENT_EVENT, event("started", at, **place, **ticket, deployer="ada", version="2")
    yield partition, RecordType.TICK, {"at": at + MINUTE, "region": ""}
    if number % 6 == 5:  # a switch of every region, of which this one is told
        flag = {"deployment_id": f"{name}-flag", "region": "global", "kind": "feature_flag"}
        switched = event("succeeded", at + MINUTE, **place | flag, deployer="ada")
        yield partition, RecordType.GLOBAL_CHANGE, switched
    usual = {"fingerprint": f"f{number % 7}", "severity": "critical" if number % 4 == 0 else "warning"}
    yield partition, RecordType.SIGNAL, signal("alert_firing", at + 2 * MINUTE, **beside, **usual)
    yield partition, RecordType.TICK, {"at": at + 3 * MINUTE, "region": ""}
    if number % 4 == 3:
        return  # never ends: overdue, and lost in the end
    ended = "failed" if number % 4 == 2 else "succeeded"
    yield partition, RecordType.DEPLOYMENT_EVENT, event(ended, at + 4 * MINUTE, **place, deployer="ada", version="2")
    yield partition, RecordType.SIGNAL, signal("alert_resolved", at + 5 * MINUTE, **beside, **usual)
    if ended == "failed":
        back = place | {"deployment_id": f"{name}-back", "kind": "rollback", "rollback_of": name, "version": "1"}
        yield partition, RecordType.DEPLOYMENT_EVENT, event("started", at + 6 * MINUTE, **back)
        yield partition, RecordType.DEPLOYMENT_EVENT, event("succeeded", at + 7 * MINUTE, **back)
        seen = observation(at + 8 * MINUTE, **beside, instance="pod-1", version="1")
        yield partition, RecordType.OBSERVATION, seen
    if number % 5 == 1:  # runs, and nobody has reported how it came there
        ghost = {"service": f"ghost-{name}", "region": place["region"], "instance": "pod-1", "version": "9"}
        yield partition, RecordType.OBSERVATION, observation(at + 8 * MINUTE, **ghost)
    yield partition, RecordType.TICK, {"at": at + 9 * MINUTE + SECOND, "region": ""}


def encoded(told: Iterator[Told]) -> list[tuple[int, bytes, bytes]]:
    """What is told as messages: partition, key, value."""
    return [(partition, b"story", encode(kind, value)) for partition, kind, value in told]


def apply_policies(kafka: str, folder: Path) -> None:
    """Put the story's policies onto the topic."""
    (folder / "policies.yaml").write_text(POLICIES)
    applied = run("policy", "apply", "--wait", "policies.yaml", env={"DEPLOYTRAIL_KAFKA": kafka}, cwd=folder)
    assert applied.returncode == 0, applied.stderr


def effects(kafka: str, name: str) -> list[dict[str, Any]]:
    """What an app made of the story: values on the topics, repetitions too."""
    rule = EFFECTS[name]
    topic = Topic.FINDINGS if rule else Topic.RECORDS
    values = [decode(m.value() or b"")[1] for m in read_topic(kafka, topic)]
    return [value for value in values if not rule or value["rule"] == rule]


def wait_until_read(
    kafka: str,
    names: Iterable[str],
    *,
    later: int = 0,
    seconds: float = 240,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Return once every app has committed all that is on the trail. `later`: by so much its format is a later one.
    `meanwhile` is done again and again."""
    settings = Settings(kafka=kafka)

    def left() -> dict[str, int]:
        try:
            ends = {partition: end for partition, end in end_offsets(settings, Topic.EVENTS).items() if end}
            done = {
                name: committed(settings, group_of(name, state_format(name) + later), Topic.EVENTS) for name in names
            }
        except RetryLater as error:
            return {str(error): 1}
        return {name: sum(end - done[name].get(p, 0) for p, end in ends.items()) for name in names}

    deadline = time.monotonic() + seconds
    while any((behind := left()).values()):
        assert time.monotonic() < deadline, f"records that were not read within {seconds:.0f} s: {behind}"
        meanwhile()
        time.sleep(0.5)
