"""The archive read back by its own command, and compared with what lies in Kafka, byte for byte."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_local import demo_kafka
from deploytrail_local.demo_kafka import Stored
from deploytrail_local.demo_summary import Row
from deploytrail_local.own_command import ask, own_command

ARCHIVED = (Topic.INTAKE, Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS, Topic.POLICIES, Topic.ONCALL_STATE)
# Kafka forgets what a newer row replaced; the archive does not.
_COMPACTED = frozenset({Topic.POLICIES, Topic.ONCALL_STATE})


def read(environ: Mapping[str, str]) -> dict[str, list[Stored]]:
    """Every archived message by topic, as `deploytrail archive cat` gives it."""
    done = ask(own_command("archive", "cat"), environ)
    if done.returncode != 0:
        raise DeploytrailError(f"deploytrail archive cat ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, list[Stored]] = {topic.value: [] for topic in ARCHIVED}
    for text in done.stdout.splitlines():
        line = json.loads(text)
        found.setdefault(line["topic"], []).append(_stored(line))
    return found


def compare(settings: Settings, archived: Mapping[str, list[Stored]]) -> list[Row]:
    """A row a topic: the same keys, values and headers at the same offsets.

    Ticks go on while this runs: Kafka may hold more than the archive, never less and never else.
    """
    return [_compare_topic(settings, topic, archived[topic.value]) for topic in ARCHIVED]


def _compare_topic(settings: Settings, topic: Topic, archived: list[Stored]) -> Row:
    kept = {(s.partition, s.offset): s for s in archived}
    ends: dict[int, int] = {}
    for partition, offset in kept:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    lies = {
        (s.partition, s.offset): s for s in demo_kafka.read_all(settings, topic) if s.offset < ends.get(s.partition, 0)
    }
    same = {at for at, stored in lies.items() if kept.get(at) == stored}
    missed = tuple(f"{partition}:{offset}" for partition, offset in sorted(lies.keys() - same))
    beyond = set() if topic in _COMPACTED else kept.keys() - lies.keys()
    invented = tuple(f"{partition}:{offset}" for partition, offset in sorted(beyond))
    holds = not missed and not invented and len(archived) == len(kept)
    return Row(f"archived bytes of {topic.value}", len(lies), len(same), missed, invented, holds)


def _stored(line: dict[str, Any]) -> Stored:
    headers = [(name, _bytes(value)) for name, value in line["headers"]]
    return Stored(line["partition"], line["offset"], _bytes(line["key"]), _bytes(line["value"]), headers)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
