"""`deploytrail archive lengthen`: a retention policy that has become longer, for what is stored already.

Policies of the kind `retention` are read from the archive itself, so that no Kafka is needed: those of a record's time
count, and those in force now.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.instants import LATEST
from deploytrail_schemas.policies import SHARED, document
from deploytrail_schemas.policies.in_force import Versions
from deploytrail_schemas.registry import SingleObject, WireFormat, wire_format
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.archive.log.names import CHECKPOINT, TILE_WIDTH, bundle_of, is_of_log
from deploytrail_sinks.archive.log.objects import LogConflict
from deploytrail_sinks.archive.log.sequencer import entered
from deploytrail_sinks.archive.partition import plain_value
from deploytrail_sinks.archive.retention import (
    Judge,
    Policy,
    RetentionClass,
    read_policy,
    regulated_services,
    retain_until,
)
from deploytrail_sinks.archive.segment import is_segment, stored_segment
from deploytrail_sinks.archive.store import ObjectStore, latest, open_store

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Moved:
    """How many objects are kept longer, or more firmly, than before."""

    segments: int
    of_log: int


def main(argv: list[str]) -> int:
    """Exit code 0 done, 69 the store is away or a segment cannot be read, 78 a setting is wrong."""
    argparse.ArgumentParser(
        prog="deploytrail archive lengthen",
        description="Move dates and locks of stored segments on to those of DEPLOYTRAIL_ARCHIVE_RETENTION, and of the "
        "archived policies of the kind retention, and the dates of the log with them; none is shortened.",
    ).parse_args(argv)
    try:
        settings = Settings.load()
        regulated = regulated_services(settings.regulated)
        store, wire = open_store(settings.archive), wire_format(settings)
        now = time.time_ns() // 1000
        moved = lengthen(store, read_policy(settings.archive_retention), regulated, wire=wire, now=now)
    except DeploytrailError as error:
        sys.stderr.write(f"deploytrail archive: {error}\n")
        return exit_code_of(error)
    segments, objects = counted(moved.segments, "segment"), counted(moved.of_log, "object")
    print(f"{segments} and {objects} of the log are kept longer, or more firmly")
    return 0


def lengthen(
    store: ObjectStore,
    policy: Policy,
    regulated: Set[str] = frozenset(),
    *,
    wire: WireFormat | None = None,
    now: int = LATEST,
) -> Moved:
    """What is kept longer, or more firmly, now. A segment without records, whose newest nobody knows, stays as it is.

    The log is kept as long as the segment that is kept longest: without the oldest of its objects nothing newer can be
    proven. Its bundles of entries only as long as the segments that they are of: behind that a purge may take them.
    """
    wire, versions, moved = wire or SingleObject(), archived_policies(store), 0
    today, then = (Judge(regulated), versions.at(now)), Judge(regulated)
    of_log: list[str] = []
    dates: dict[str, str | None] = {}
    for name in store.list(""):
        if is_of_log(name):
            of_log += [name] if name != CHECKPOINT else []  # which is replaced, and kept in log/checkpoints
            continue
        segment = stored_segment(store, name)
        dates[name] = latest(store.retain_until(name), segment.retain_until)
        if not segment.records:
            continue
        kept = RetentionClass(segment.retention_class)
        keep = policy[kept]
        for record in segment.records:
            value = plain_value(wire, record.value)
            for judge, in_force in (today, (then, versions.at(record.timestamp * 1000))):
                wanted, asked = judge.judge(value, in_force)
                keep = keep.and_more(policy[wanted].floor).and_more(asked)
        until = retain_until(kept, max(record.timestamp for record in segment.records), {kept: keep})
        # What it was created to be kept until stands in it: a date beside it that is lost comes back.
        until = latest(until, segment.retain_until) or until
        moved += store.lengthen(name, until, keep.terms)
        dates[name] = latest(dates[name], until)
    return Moved(moved, _lengthen_log(store, of_log, dates))


def _lengthen_log(store: ObjectStore, of_log: list[str], dates: Mapping[str, str | None]) -> int:
    longest, bundles = latest(*dates.values()), dict[int, str | None]()
    try:
        for index, planned in entered(store):
            for at in range(index // TILE_WIDTH, (index + planned.entries - 1) // TILE_WIDTH + 1):
                bundles[at] = latest(bundles.get(at), dates.get(planned.name))
    except LogConflict:  # which entries are whose, nobody can tell: then all of them are kept
        bundles = {}

    def move(name: str) -> bool:
        bundle = bundle_of(name)
        until = longest if bundle is None else bundles.get(bundle[0], longest)
        return until is not None and store.lengthen(name, until)

    with ThreadPoolExecutor(_AT_ONCE, "lengthen") as threads:
        return sum(threads.map(move, of_log))


def archived_policies(store: ObjectStore) -> Versions:
    """Every version of every policy that is in the archive."""
    names = [name for name in store.list(Topic.POLICIES.value) if is_segment(name)]
    records = (record for name in names for record in stored_segment(store, name).records)
    found = (document.parse(record.key, record.value, SHARED) for record in records if record.value is not None)
    return Versions().with_documents(one for one in found if one.kind in SHARED)
