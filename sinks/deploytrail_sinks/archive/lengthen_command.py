"""`deploytrail archive lengthen`: a retention policy that has become longer, for what is stored already."""

from __future__ import annotations

import argparse
import sys

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive.log.names import is_of_log
from deploytrail_sinks.archive.retention import Policy, RetentionClass, read_policy, retain_until
from deploytrail_sinks.archive.segment import stored_segment
from deploytrail_sinks.archive.store import ObjectStore, is_later, open_store

EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def main(argv: list[str]) -> int:
    """Exit code 0 done, 69 the store is away or a segment cannot be read."""
    argparse.ArgumentParser(
        prog="deploytrail archive lengthen",
        description="Move dates of stored segments on to those of DEPLOYTRAIL_ARCHIVE_RETENTION; none is shortened.",
    ).parse_args(argv)
    try:
        settings = Settings.load()
        moved = lengthen(open_store(settings.archive), read_policy(settings.archive_retention))
    except DeploytrailError as error:
        sys.stderr.write(f"deploytrail archive: {error}\n")
        return EXIT_UNAVAILABLE
    print(f"{moved} segments are kept longer")
    return 0


def lengthen(store: ObjectStore, policy: Policy) -> int:
    """How many segments are kept longer now. Whose newest record nobody knows, having none, stays as it is."""
    moved = 0
    for name in store.list(""):
        if is_of_log(name):
            continue
        segment = stored_segment(store, name)
        if not segment.records:
            continue
        newest = max(record.timestamp for record in segment.records)
        until = retain_until(RetentionClass(segment.retention_class), newest, policy)
        if is_later(until, store.retain_until(name)):
            store.lengthen(name, until)
            moved += 1
    return moved
