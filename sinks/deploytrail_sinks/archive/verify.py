"""Is the archive whole? Offline, from the objects alone: every flaw with the object that has it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from deploytrail_sinks.archive.acts import read_acts
from deploytrail_sinks.archive.log.names import is_of_log
from deploytrail_sinks.archive.log.presence import COVERED_GONE
from deploytrail_sinks.archive.principals import Principals
from deploytrail_sinks.archive.receipts import NO_RECEIPTS, Gone, Receipts, judge
from deploytrail_sinks.archive.segment import Segment, SegmentError, digest, is_segment, read_segment
from deploytrail_sinks.archive.store import ObjectStore, is_date, is_later


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with an object."""

    name: str
    detail: str


class Known(Protocol):
    """A segment that is vouched for: what the one behind it must follow."""

    @property
    def sha256(self) -> str: ...

    @property
    def next_offset(self) -> int: ...


Run = tuple[int, int]  # offsets, both ends included
NO_OBJECT = "is listed and is no object: a link, or gone since"
NOTHING_KNOWN: Mapping[str, Known] = MappingProxyType({})


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong."""

    segments: int = 0
    records: int = 0
    partitions: int = 0
    purged: int = 0  # segments that are gone, excused by a receipt
    known: int = 0  # segments that are there and were not read, being vouched for
    flaws: list[Flaw] = field(default_factory=list)
    gaps: list[Flaw] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong. Recorded gaps are losses that were said, not flaws of the archive."""
        return not self.flaws


def verify(
    store: ObjectStore,
    *,
    purged: Receipts = NO_RECEIPTS,
    known: Mapping[str, Known] = NOTHING_KNOWN,
    on_segment: Callable[[str, str, Segment], None] = lambda *_: None,
    progress: Callable[[int, int], None] = lambda *_: None,
    pause: Callable[[], None] = lambda: None,
) -> Report:
    """Names, contents, chains and offsets of every segment.

    `purged`: what receipts say; whose segments are not missing.
    `known`: segments that are not read again; `on_segment` is given each one that could be read, with its digest.
    `pause`: called before offsets that are nowhere are looked for a last time.
    """
    report = Report()
    holes: dict[str, list[Run]] = {}
    segments = [name for name in store.list("") if not is_of_log(name)]
    done = 0
    for folder, group in itertools.groupby(segments, key=_partition_of):
        names = list(group)
        report.partitions += 1
        if missing := _verify_partition(store, names, purged.gone, report, known, on_segment):
            holes[folder] = missing
        done += len(names)
        progress(done, len(segments))
    there = frozenset(segments)
    excused = {item.name for item in purged.gone} - there
    report.purged, report.known = len(excused), sum(name in there for name in known)
    gone = (name for name in known if is_segment(name) and name not in there and name not in excused)
    report.flaws.extend(Flaw(name, COVERED_GONE) for name in gone)
    report.flaws.extend(Flaw(name, f"is gone; {why}") for name, why in purged.void.items() if name not in there)
    _say_holes(store, holes, there, pause, report)
    return report


def _partition_of(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _verify_partition(
    store: ObjectStore,
    names: list[str],
    purged: Sequence[Gone],
    report: Report,
    known: Mapping[str, Known],
    on_segment: Callable[[str, str, Segment], None],
) -> list[Run]:
    """Look at the segments of a partition; the offsets that are in none of them."""
    covered: dict[str, Run] = {}
    seen: dict[int, str] = {}
    gone: list[Run] = []
    compacted = False
    begin = 0  # offsets before it are in segments that are known
    for retention_class, group in itertools.groupby(names, key=lambda name: name.rpartition("/")[0]):
        first, last = -1, -1
        previous_sha256, expected = "", None
        previous_name = ""
        for name in group:
            if name in known:
                previous_sha256, expected, previous_name = known[name].sha256, known[name].next_offset, name
                begin = max(begin, known[name].next_offset)
                continue
            report.segments += 1
            try:
                data = store.read(name)
                segment = read_segment(data)
            except KeyError:
                report.flaws.append(Flaw(name, NO_OBJECT))
                previous_sha256, expected, previous_name = "?", None, name
                continue
            except SegmentError as error:
                report.flaws.append(Flaw(name, str(error)))
                previous_sha256, expected, previous_name = "?", None, name
                continue
            if not previous_name and (before := _behind(purged, segment)):
                previous_sha256, expected = before.sha256, segment.first_offset
            if previous_sha256 not in ("", "?", segment.previous_sha256) and expected == segment.first_offset:
                report.flaws.append(Flaw(previous_name, "is not what the segment behind it was chained to"))
            report.flaws.extend(Flaw(name, text) for text in _place(segment, name, previous_sha256, expected))
            report.flaws.extend(Flaw(name, text) for text in _kept(store, name, segment.retain_until))
            if previous_name and _is_another(store, previous_name, segment.previous_version):
                report.flaws.append(Flaw(previous_name, f"is another version than {segment.previous_version}"))
            previous_name = name
            report.gaps.extend(Flaw(name, f"offsets {a} to {b} were lost before archiving") for a, b in segment.gaps)
            gone.extend(segment.gaps)
            compacted = compacted or segment.compacted
            for record in segment.records:
                if record.offset in seen:
                    report.flaws.append(Flaw(name, f"offset {record.offset} is also in {seen[record.offset]}"))
                seen[record.offset] = name
            report.records += len(segment.records)
            first = segment.first_offset if first < 0 else first
            last = segment.last_offset
            previous_sha256, expected = digest(data), segment.last_offset + 1
            on_segment(name, previous_sha256, segment)
        if last >= 0:
            covered[retention_class] = (first, last)
    if compacted:
        return []
    folder = _partition_of(names[0])
    absent = [item for item in purged if item.name.startswith(f"{folder}/") and item.name not in names]
    return _missing(folder, covered, seen, gone, absent, begin, report)


def _place(segment: Segment, name: str, previous_sha256: str, expected: int | None) -> Iterator[str]:
    if segment.name != name:
        yield f"is the segment {segment.name} under another name"
    if expected is not None and segment.first_offset > expected:
        yield f"begins at offset {segment.first_offset}, the one before it ends at {expected - 1}: a segment is missing"
    elif expected is not None and segment.first_offset < expected:
        yield f"begins at offset {segment.first_offset}, which the one before it covers"
    if previous_sha256 != "?" and segment.previous_sha256 != previous_sha256:
        yield (
            "follows a segment that is not there: the first of its sequence is missing"
            if not previous_sha256
            else "names another digest than the segment before it has"
        )


def _kept(store: ObjectStore, name: str, promised: str) -> Iterator[str]:
    versions = store.versions(name)
    if len(versions) > 1:
        over = ", ".join(f"{v.id}{' (a deletion)' if v.is_deletion else ''}" for v in versions[1:])
        yield f"is hidden by newer versions: {over}"
    date = store.retain_until(name)
    if date is None:
        yield "has no retention date"
    elif not is_date(date) or (promised and not is_date(promised)):
        yield f"has a retention date that is none: {date[:40]!r}, or {promised[:40]!r} when it was created"
    elif promised and is_later(promised, date):
        yield f"is kept until {date}; it was created to be kept until {promised}"


def _is_another(store: ObjectStore, name: str, written: str) -> bool:
    first = next((version.id for version in store.versions(name) if not version.is_deletion), "")
    return bool(written and first and written != first)


def receipts(store: ObjectStore, principals: Principals | None, now: datetime) -> Receipts:
    """What was purged. `principals`: whose receipts count; None: nobody's."""
    try:
        return judge(read_acts(store, principals), now)
    except SegmentError:  # named where every segment is looked at
        return NO_RECEIPTS


def _behind(purged: Sequence[Gone], segment: Segment) -> Gone | None:
    """The purged segment that one follows by digest and offset."""
    folder = segment.name.rpartition("/")[0]
    for item in purged:
        if (item.folder, item.last_offset + 1, item.sha256) == (folder, segment.first_offset, segment.previous_sha256):
            return item
    return None


def _missing(
    folder: str,
    covered: dict[str, Run],
    seen: dict[int, str],
    gone: list[Run],
    purged: list[Gone],
    begin: int,
    report: Report,
) -> list[Run]:
    """Every offset that all classes speak of must be in one of them, or be a recorded gap: those that are neither."""
    if not covered or not seen:
        return []
    begin = max(begin, min(first for first, _ in covered.values()))
    end = max(last for _, last in covered.values())
    missing = list(_without([(begin, end)], [*_runs(sorted(seen)), *gone]))
    if purged:
        went = [(item.first_offset, item.last_offset) for item in purged]
        left = list(_without(missing, went))
        excused = _count(missing) - _count(left)
        if excused > (said := sum(item.records for item in purged)):
            report.flaws.append(Flaw(folder, f"{excused} records are gone, the receipts account for {said}"))
        missing = left
    return missing


def _say_holes(
    store: ObjectStore, holes: dict[str, list[Run]], names: frozenset[str], pause: Callable[[], None], report: Report
) -> None:
    """Say what is missing, but what was stored since: a writer closes the classes of a partition one after another."""
    for look in range(2):
        if holes and look:
            pause()
        holes = {
            folder: left
            for folder, missing in holes.items()
            if (left := list(_without(missing, list(_stored_since(store, folder, names)))))
        }
    for folder, missing in holes.items():
        for first, last in missing:
            report.flaws.append(Flaw(folder, f"offsets {first} to {last} are in no segment"))


def _stored_since(store: ObjectStore, folder: str, names: frozenset[str]) -> Iterator[Run]:
    """The offsets in segments of a partition that were not there when names were listed; the next run reads those."""
    for name in store.list(folder):
        if name not in names:
            with contextlib.suppress(SegmentError, KeyError):
                segment = read_segment(store.read(name))
                yield from segment.gaps
                yield from _runs([record.offset for record in segment.records])


def _without(runs: list[Run], taken: list[Run]) -> Iterator[Run]:
    """Runs of offsets, both ends included, without those that are taken. A segment may declare any offset: by ends."""
    taken = sorted(run for run in taken if run[0] <= run[1])
    for begin, end in runs:
        for first, last in taken:
            if last < begin or first > end:
                continue
            if first > begin:
                yield begin, first - 1
            begin = max(begin, last + 1)
        if begin <= end:
            yield begin, end


def _count(runs: list[Run]) -> int:
    return sum(last - first + 1 for first, last in runs)


def _runs(offsets: list[int]) -> Iterator[Run]:
    for _, group in itertools.groupby(enumerate(offsets), key=lambda pair: pair[1] - pair[0]):
        run = [offset for _, offset in group]
        yield run[0], run[-1]
