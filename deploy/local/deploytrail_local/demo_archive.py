"""The archive read back by its own command, and compared with what lies in Kafka, byte for byte."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_local import demo_kafka
from deploytrail_local.demo_kafka import Stored
from deploytrail_local.demo_summary import Row

ARCHIVED = (Topic.INTAKE, Topic.EVENTS, Topic.RECORDS, Topic.FINDINGS, Topic.POLICIES)
_SECONDS = 60.0


def read(settings: Settings, environ: Mapping[str, str]) -> dict[str, list[Stored]]:
    """Every archived message by topic, as `deploytrail archive cat` gives it."""
    return {topic.value: _cat(topic.value, environ) for topic in ARCHIVED}


def compare(settings: Settings, archived: Mapping[str, list[Stored]], environ: Mapping[str, str]) -> list[Row]:
    """A row a topic: the same keys, values and headers at the same offsets; and the verifier's word.

    Ticks go on while this runs: Kafka may hold more than the archive, never less and never else.
    """
    rows = []
    for topic in ARCHIVED:
        kept = {(s.partition, s.offset): s for s in archived[topic.value]}
        ends: dict[int, int] = {}
        for partition, offset in kept:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        lies = {
            (s.partition, s.offset): s
            for s in demo_kafka.read_all(settings, topic)
            if s.offset < ends.get(s.partition, 0)
        }
        same = [at for at, stored in lies.items() if kept.get(at) == stored]
        differing = tuple(
            f"{partition}:{offset}"
            for partition, offset in sorted(set(lies) | set(kept) - set(same))
            if (partition, offset) not in set(same)
        )
        rows.append(Row(f"archived bytes of {topic.value}", len(lies), len(same), differing, (), not differing))
    verified = _run(("verify",), environ)
    rows.append(
        Row(
            "archive verified",
            1,
            int(verified.returncode == 0),
            (verified.stderr[-300:],) if verified.returncode else (),
            (),
            verified.returncode == 0,
        )
    )
    return rows


def _cat(topic: str, environ: Mapping[str, str]) -> list[Stored]:
    done = _run(("cat", "--topic", topic), environ)
    if done.returncode != 0:
        raise DeploytrailError(f"deploytrail archive cat ended with {done.returncode}: {done.stderr[-2000:]}")
    return [_stored(json.loads(line)) for line in done.stdout.splitlines()]


def _stored(line: dict[str, object]) -> Stored:
    raise NotImplementedError(line)


def _run(argv: tuple[str, ...], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploytrail.command", "archive", *argv],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
