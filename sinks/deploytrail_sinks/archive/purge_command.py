"""`deploytrail archive purge`: what is past its date goes, with a receipt."""

from __future__ import annotations

import argparse

from deploytrail_schemas.counted import counted

from deploytrail_sinks.archive.acting import Desk, add_actor, at_desk, signer_of
from deploytrail_sinks.archive.purge import look, purge


def main(argv: list[str]) -> int:
    """Exit code 0 done, 1 the store keeps what ours lets go, 69 the store is away, 78 a setting or a key is wrong."""
    parser = argparse.ArgumentParser(
        prog="deploytrail archive purge", description="Delete what is past its retention date and under no hold."
    )
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="a topic, partition or class")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go, and what stays why")
    add_actor(parser)
    # Nobody acts in a dry run.
    for action in parser._actions:
        if "--dry-run" in argv and action.dest in ("actor", "key", "reason"):
            action.required = False
    options = parser.parse_args(argv)
    return at_desk(lambda desk: _purge(desk, options))


def _purge(desk: Desk, options: argparse.Namespace) -> int:
    prefix, verb = options.prefix.strip("/"), "would go" if options.dry_run else "gone"
    if options.dry_run:
        found = look(desk.store, prefix, desk.principals, desk.now)
    else:
        found = purge(desk.store, prefix, options.reason, signer_of(desk, options), desk.principals, desk.now)
    gone, of_log = found.goes, found.of_log
    for item in gone:
        print(f"{verb}: {item.name} ({counted(item.records, 'record')})")
    for kept in found.stays:
        print(f"stays: {kept.name}: {kept.why}")
    if of_log.objects:
        print(f"{verb}: entries of the log before index {of_log.minimum} ({counted(len(of_log.objects), 'object')})")
    if of_log.ends_at:
        print(f"stays: entries of the log from index {of_log.minimum} on: {of_log.ends_at}")
    records = counted(sum(item.records for item in gone), "record")
    went = "would go" if options.dry_run else "is gone" if len(gone) == 1 else "are gone"
    print(f"{records} in {counted(len(gone), 'segment')} {went}")
    return 0
