"""`deploytrail archive WORD`: check and read the archive offline, prove what it has, keep its log, hold and purge."""

from __future__ import annotations

import argparse
import json
import sys
import time
from base64 import b64encode
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploytrail_schemas.arguments import Parser
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.registry import WireFormat, wire_format
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive import holds_command, lengthen_command, purge_command, restore_command
from deploytrail_sinks.archive.log import commands as log_commands
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.names import is_of_log
from deploytrail_sinks.archive.log.timestamps import read_roots
from deploytrail_sinks.archive.principals import read_principals
from deploytrail_sinks.archive.segment import Record, Segment, SegmentError, read_segment
from deploytrail_sinks.archive.store import ObjectStore, open_store

EXIT_FLAWED = 1
EXIT_NOTHING = 66  # EX_NOINPUT of sysexits.h
_PAUSE_SECONDS = 2.0  # a writer stores the classes of a partition within them, or has died

_OTHERS = {
    "hold": (holds_command.main, "legal holds: add, release, list"),
    "purge": (purge_command.main, "delete what is past its retention date and under no hold"),
    "lengthen": (lengthen_command.main, "move retention dates on to a policy that has become longer"),
    "restore": (restore_command.main, "fill an empty ClickHouse from the archive alone"),
}


def main(argv: list[str]) -> int:
    """Exit code 0 where all is well, 1 where the archive has a flaw, 66 where what was asked for is not there,

    69 where the store is away or something must be looked into, 78 where a setting or a given file is wrong.
    """
    if argv and (other := _OTHERS.get(argv[0])) is not None:
        return other[0](argv[1:])
    parser = Parser(
        prog="deploytrail archive",
        description="Check and read the archive, prove what it has, keep its log.",
    )
    words = parser.add_subparsers(dest="word", required=True)
    check = words.add_parser("verify", help="is every object what it should be, and no offset missing?")
    check.add_argument("--json", action="store_true", help="the report as JSON")
    check.add_argument("--trust", metavar="FILE", help="keys of log and witnesses, which signatures are checked with")
    check.add_argument(
        "--since", metavar="CHECKPOINT", help="file (or size) of a checkpoint that you kept: read what is newer"
    )
    check.add_argument(
        "--against",
        metavar="CHECKPOINT",
        action="append",
        default=[],
        help="another that you kept: read everything, which must follow from it; may be repeated",
    )
    check.add_argument(
        "--stamp-roots",
        metavar="PEM",
        type=Path,
        help="root certificates of the time stamp authorities (that of `sign`: DEPLOYTRAIL_ARCHIVE_TIMESTAMP_URL)",
    )
    check.add_argument(
        "--stamp",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a time stamp that you kept elsewhere, such as a copy from log/timestamps",
    )
    check.add_argument(
        "--stamp-within", metavar="DAYS", type=_days, default="7", help="records are stamped by then (default: 7)"
    )
    check.add_argument("--principals", metavar="FILE", help="whose receipts of purges count (JSON of public keys)")
    log_commands.add_words(words)
    cat = words.add_parser("cat", help="the records of objects as JSON lines")
    cat.add_argument("names", nargs="*", metavar="NAME", help="objects or folders; all where none is named")
    cat.add_argument("--decode", action="store_true", help="records' fields beside the raw bytes")
    for word, (_, text) in _OTHERS.items():
        words.add_parser(word, help=text)  # only to be listed: they read their own words
    options = parser.parse_args(argv)
    try:
        settings = Settings.load()
        if "run" in options:
            code: int = options.run(options, settings)
            return code
        store = open_store(settings.archive)
        if options.word == "verify":
            return _verify(store, settings, options)
        return _cat(store, settings.archive, options.names, wire_format(settings) if options.decode else None)
    except DeploytrailError as error:
        print(f"deploytrail archive: {error}", file=sys.stderr)
        return exit_code_of(error)


def _verify(store: ObjectStore, settings: Settings, options: argparse.Namespace) -> int:
    url, as_json = settings.archive, options.json
    who = options.principals or settings.archive_principals
    trust = log_commands.load_trust(Path(options.trust)) if options.trust else None
    asked = Asked(
        trust,
        trust.sequencers if trust else (),
        log_commands.load_checkpoint(store, options.since) if options.since else None,
        [log_commands.load_checkpoint(store, kept) for kept in options.against],
        read_roots(log_commands.read_file(options.stamp_roots), options.stamp_roots) if options.stamp_roots else [],
        stamps=[(str(path), log_commands.read_file(path)) for path in options.stamp],
        stamp_within=options.stamp_within,
        principals=read_principals(Path(who)) if who else None,
        now=datetime.now(UTC),
    )
    report, of_log = verify_archive(
        store, asked, log_commands.Bar(sys.stderr.isatty()), lambda: time.sleep(_PAUSE_SECONDS)
    )
    # Nothing is not whole: it may be the wrong folder, or one that somebody emptied.
    nothing = not report.segments and not report.known
    whole = report.is_whole and not nothing
    if as_json:
        print(json.dumps({"whole": whole, **asdict(report), "log": of_log and asdict(of_log)}, indent=2))
    # In an empty store a log that is asked for is no flaw: it is not there yet, like all else.
    kept = options.since is not None or options.against
    if nothing and (not report.flaws or (not kept and _is_empty(store))):
        print(
            f"deploytrail archive: {url} holds no segment; expected the archive's folder in DEPLOYTRAIL_ARCHIVE "
            f"(a sink writes the first after DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS){if_not_set('archive', url)}",
            file=sys.stderr,
        )
        return EXIT_NOTHING
    if as_json:
        return 0 if whole else EXIT_FLAWED
    for gap in report.gaps:
        print(f"gap: {gap.name}: {gap.detail}")
    for flaw in report.flaws:
        print(f"FLAW: {flaw.name}: {flaw.detail}")
    verdict = "whole" if whole else counted(len(report.flaws), "flaw")
    if of_log is not None:
        keys = "signatures checked" if of_log.trusted else "SIGNATURES NOT CHECKED: no --trust"
        entries, stamped = (counted(n, "entry", "entries") for n in (of_log.entries, of_log.stamped))
        of = f" of {of_log.oldest_stamp} to {of_log.newest_stamp}, {stamped}" if of_log.stamped else ""
        print(
            f"log: {entries} published, root {of_log.root or 'unknown'}, {of_log.unpublished} not yet; "
            f"{counted(of_log.checkpoints, 'checkpoint')}, "
            f"{keys}; {counted(of_log.timestamps, 'time stamp')}{of}; "
            f"{counted(of_log.uncovered_segments, 'segment')} not in it yet"
        )
        if not of_log.trusted:
            print("without keys only accidents show: whoever may write to the store could have made all of it anew")
        if of_log.minimum_index:
            print(f"entries of the log before index {of_log.minimum_index} were pruned, with a principal's receipt")
    if options.since is not None:
        known = counted(
            report.known, "segment that the checkpoint covers is", "segments that the checkpoint covers are"
        )
        print(f"{known} there and {'was' if report.known == 1 else 'were'} not read")
    if report.purged:
        print(f"{counted(report.purged, 'segment was', 'segments were')} purged, with a principal's receipt")
    read = f"{counted(report.records, 'record')} in {counted(report.segments, 'segment')}"
    print(f"{read} of {counted(report.partitions, 'partition')}: {verdict}")
    return 0 if whole else EXIT_FLAWED


def _days(text: str) -> timedelta:
    try:
        days = timedelta(days=float(text))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _is_empty(store: ObjectStore) -> bool:
    return next(iter(store.list("")), None) is None


def _cat(store: ObjectStore, url: str, names: list[str], wire: WireFormat | None) -> int:
    flawed = 0
    for wanted in names or [""]:
        found = [wanted] if wanted.endswith(".avro") else [n for n in store.list(wanted) if not is_of_log(n)]
        if not found:
            below = wanted or f"the archive {url}{if_not_set('archive', url)}"
            print(f"deploytrail archive: there is no object below {below}", file=sys.stderr)
            flawed = flawed or EXIT_NOTHING
        for name in found:
            try:
                segment = read_segment(store.read(name))
            except KeyError:
                print(f"deploytrail archive: there is no object {name}", file=sys.stderr)
                flawed = flawed or EXIT_NOTHING
                continue
            except SegmentError as error:
                print(f"deploytrail archive: {name} {error}", file=sys.stderr)
                flawed = EXIT_FLAWED
                continue
            for record in segment.records:
                print(json.dumps(_shown(segment, record, wire), ensure_ascii=False))
    return flawed


def _shown(segment: Segment, record: Record, wire: WireFormat | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "topic": segment.topic,
        "partition": segment.partition,
        "class": segment.retention_class,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": record.timestamp_type,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    if wire is not None:
        try:
            kind, value = decode(wire.plain(record.value))
            shown["kind"], shown["decoded"] = kind.value, value
        except (DecodeError, RetryLater) as error:
            shown["unreadable"] = str(error)
    return shown


def _text(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
