"""The archive and its log together: `deploytrail archive verify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509

from deploytrail_sinks.archive.log.check import LogCheck
from deploytrail_sinks.archive.log.checkpoint import Checkpoint
from deploytrail_sinks.archive.log.entries import segment_entries
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import CHECKPOINT, PREFIX, is_of_log
from deploytrail_sinks.archive.log.notes import Verifier
from deploytrail_sinks.archive.log.objects import LogConflict
from deploytrail_sinks.archive.log.plan import Planned
from deploytrail_sinks.archive.log.report import LogReport, Seen
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.log.stamp_check import AskedOfStamps, StampCheck
from deploytrail_sinks.archive.log.tiles import TileError, Tree
from deploytrail_sinks.archive.log.trust import Trust
from deploytrail_sinks.archive.principals import Principals
from deploytrail_sinks.archive.segment import Segment
from deploytrail_sinks.archive.store import ObjectStore
from deploytrail_sinks.archive.verify import Flaw, Report, receipts, verify


@dataclass(slots=True)
class Asked:
    """What an archive is checked against."""

    trust: Trust | None = None  # None: signatures are not checked
    sequencers: Sequence[Verifier] = ()
    since: Checkpoint | None = None  # a checkpoint that was kept elsewhere: what it covers is not read again
    against: Sequence[Checkpoint] = ()  # others that were kept elsewhere: everything is read all the same
    stamp_roots: list[x509.Certificate] = field(default_factory=list)
    stamps: Sequence[tuple[str, bytes]] = ()  # kept elsewhere: the name of a file, and the stamp
    stamp_within: timedelta | None = None  # how long after it was made a record is stamped, at the latest
    principals: Principals | None = None  # whose receipts of purges count; None: nobody's
    now: datetime = datetime.max.replace(tzinfo=UTC)  # a purge before a segment's date is none, whatever it says


def verify_archive(
    store: ObjectStore,
    asked: Asked,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    pause: Callable[[], None] = lambda: None,
) -> tuple[Report, LogReport | None]:
    """Segments, then the log; None for the log where there is none and none is asked for.

    `pause` gives a writer the time to store what it is about to, before an offset is said to be missing.
    """
    seen: dict[str, Seen] = {}

    def note(name: str, digest: str, segment: Segment) -> None:
        seen[name] = seen_of(digest, segment)

    known = _covered(store, asked.since) if asked.since else {}
    purged = receipts(store, asked.principals, asked.now)
    report = verify(
        store,
        purged=purged,
        known=known,
        on_segment=note,
        progress=lambda done, total: progress("segments", done, total),
        pause=pause,
    )
    has_log = next(iter(store.list(PREFIX)), None) is not None
    if not has_log and asked.trust is None and asked.since is None:
        return report, None

    def say(name: str, detail: str) -> None:
        flaw = Flaw(name, detail)
        if flaw not in report.flaws:
            report.flaws.append(flaw)

    check = LogCheck(
        store,
        say,
        asked.trust,
        tuple(asked.sequencers),
        asked.since,
        seen,
        lambda done, total: progress("entries", done, total),
        purged,
    )
    of_log = check.run()
    of_stamps = AskedOfStamps(asked.stamp_roots, asked.stamps, asked.stamp_within)
    stamped = StampCheck(store, of_stamps, say).run(of_log, seen, check.entered)
    for kept in (*asked.against, *stamped):
        _follows(store, kept, of_log.entries, check.origin, say)
    _hidden(store, say)
    return report, of_log


def seen_of(digest: str, segment: Segment) -> Seen:
    """What the log must have of a segment. `digest`: of its bytes. Pure."""
    leaves, count = sha256(), 0
    try:
        for entry in segment_entries(segment, digest):
            leaves.update(leaf_hash(entry))
            count += 1
    except ValueError:
        count = 0  # a salt of another length: no entry fits it
    newest = max((record.timestamp for record in segment.records), default=0)
    return Seen(digest, segment.last_offset + 1, count, leaves.digest(), newest, segment.retain_until)


def _covered(store: ObjectStore, since: Checkpoint) -> dict[str, Planned]:
    """The segments that a checkpoint covers, as the log's plans say; the tree shows whether they are right."""
    found: dict[str, Planned] = {}
    size = 0
    try:
        while size < since.size and (plan := plan_at(store, size)):
            found.update((planned.name, planned) for planned in plan.segments)
            size = plan.end
    except LogConflict:
        return {}  # said when the log is checked
    return found if size == since.size else {}


def _follows(store: ObjectStore, kept: Checkpoint, size: int, origin: str, say: Callable[[str, str], None]) -> None:
    """Whether a tree of a checkpoint that was kept elsewhere begins the log, whose published tree is of a size."""
    if origin not in ("", kept.origin):
        say(CHECKPOINT, f"is of the log {origin}; the checkpoint that you kept is of the log {kept.origin}")
    if kept.size > size:
        say(CHECKPOINT, f"is of {size} entries; the checkpoint that you kept is of {kept.size}")
        return
    try:
        root = Tree(store.read, kept.size).root()
    except TileError as error:
        say(error.name, error.detail)
        say(CHECKPOINT, f"the log had no tree of {kept.size} entries, as the checkpoint that you kept is of")
        return
    if root != kept.root:
        say(CHECKPOINT, f"the log's first {kept.size} entries are not those of the checkpoint that you kept")


def _hidden(store: ObjectStore, say: Callable[[str, str], None]) -> None:
    """Objects of the log that something newer hides, but the one that is replaced."""
    for name in store.list(PREFIX):
        if is_of_log(name) and name != CHECKPOINT and len(versions := store.versions(name)) > 1:
            say(name, f"is hidden by newer versions: {', '.join(version.id for version in versions[1:])}")
