"""Do the time stamps of a log say that it was there when its records were made?

Who rewrites a log with all its keys can have the new one stamped, but not in the past. So records are compared with the
first stamp that covers them: what was stamped long after it was made may have been made anew in between.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from cryptography import x509

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.names import PREFIX, number_of, numbered
from deploytrail_sinks.archive.log.notes import NoteError
from deploytrail_sinks.archive.log.objects import read_or_none
from deploytrail_sinks.archive.log.report import LogReport, Seen
from deploytrail_sinks.archive.log.timestamp_words import StampError
from deploytrail_sinks.archive.log.timestamps import check_stamp, imprint_of
from deploytrail_sinks.archive.store import ObjectStore

STAMPS = f"{PREFIX}/timestamps"
NO_OBJECT = "is listed and is no object: a link, or gone since"
_LAST_MS = 253_402_300_799_000  # the year 9999: a record may name any time
Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class AskedOfStamps:
    """`outside`: stamps that were kept elsewhere, by the name of their file. `within`: a record is stamped so long
    after it was made, at the latest; None: that is not judged. Without roots no stamp's time is believed."""

    roots: Sequence[x509.Certificate] = ()
    outside: Sequence[tuple[str, bytes]] = ()
    within: timedelta | None = None


@dataclass(slots=True)
class StampCheck:
    """One look at the stamps of a log that is checked. `entered`: segments by name, at which index they are."""

    store: ObjectStore
    asked: AskedOfStamps
    say: Say
    # Size, time, whether it was kept outside, and name of what counts.
    _found: list[tuple[int, datetime, bool, str]] = field(default_factory=list)

    def run(self, report: LogReport, seen: Mapping[str, Seen], entered: Mapping[str, int]) -> list[Checkpoint]:
        """Fill the report; the checkpoints that stamps from outside are of, which the log has to follow from."""
        for name in self.store.list(STAMPS):
            report.timestamps += 1
            size = number_of(name) or 0
            kept = read_or_none(self.store, numbered("checkpoints", size))
            stamp = read_or_none(self.store, name)
            if kept is None:
                self.say(name, "is the time stamp of no kept checkpoint")
            elif stamp is None:
                self.say(name, NO_OBJECT)
            else:
                self._check(name, stamp, kept, size)
        followed = self._outside() if self.asked.outside else []
        if self.asked.roots:
            self._judge(report, seen, entered)
        return followed

    def _check(self, name: str, stamp: bytes, kept: bytes, size: int, outside: bool = False) -> None:
        try:
            at = check_stamp(stamp, kept, list(self.asked.roots))
        except StampError as error:
            self.say(name, str(error))
            return
        self._found.append((size, at, outside, name))

    def _outside(self) -> list[Checkpoint]:
        """Find the checkpoint that each stamp from outside is of: by its bytes, signatures and all."""
        wanted: dict[tuple[str, bytes], list[tuple[str, bytes]]] = {}
        for name, stamp in self.asked.outside:
            try:
                wanted.setdefault(imprint_of(stamp), []).append((name, stamp))
            except StampError as error:
                self.say(name, str(error))
        algorithms, followed = {algorithm for algorithm, _ in wanted}, []
        for of in self.store.list(f"{PREFIX}/checkpoints"):
            data = read_or_none(self.store, of) or b""
            for algorithm in algorithms:
                for name, stamp in wanted.pop((algorithm, hashlib.new(algorithm, data).digest()), ()):
                    try:
                        checkpoint, _ = open_checkpoint(data)
                    except NoteError:
                        continue  # said where checkpoints are read
                    self._check(name, stamp, data, checkpoint.size, outside=True)
                    followed.append(checkpoint)
        for name, _ in (one for several in wanted.values() for one in several):
            self.say(
                name, "is the time stamp of no checkpoint that this log has kept: of another log, or this is rewritten"
            )
        return followed

    def _judge(self, report: LogReport, seen: Mapping[str, Seen], entered: Mapping[str, int]) -> None:
        self._found.sort()
        if not self._found:
            if report.entries:
                self.say(STAMPS, "there is no time stamp of the authorities that are trusted")
            return
        times = [at for _, at, _, _ in self._found]
        report.oldest_stamp, report.newest_stamp = min(times).isoformat(), max(times).isoformat()
        report.stamped = self._found[-1][0]
        if self.asked.within is not None:
            self._late(self.asked.within, seen, entered)

    def _late(self, within: timedelta, seen: Mapping[str, Seen], entered: Mapping[str, int]) -> None:
        """Say of each stamp how late it is for the oldest of what it is the first to cover, if that is too late."""
        sizes = [size for size, _, _, _ in self._found]
        # What a stamp says of a tree it says of every smaller one.
        earliest = list(accumulate((stamp[1:] for stamp in reversed(self._found)), min))[::-1]
        nothing = max(at for _, at, _, _ in self._found), True, STAMPS  # the newest, for what none covers
        late: dict[str, tuple[timedelta, str]] = {}
        for segment, index in entered.items():
            if segment not in seen or seen[segment].newest_ms <= 0:
                continue
            made = datetime.fromtimestamp(min(seen[segment].newest_ms, _LAST_MS) / 1000, UTC)
            first = bisect_right(sizes, index)
            at, _, name = earliest[first] if first < len(sizes) else nothing
            behind = at - made if name != STAMPS else abs(at - made)
            if behind > max(within, late[name][0] if name in late else within):
                said = f"{segment}, whose newest record is of {made.isoformat(timespec='seconds')}"
                what = "is the first to cover" if name != STAMPS else "is the newest, and none covers"
                late[name] = behind, f"a stamp of {at.isoformat()} {what} {said}: {behind.days} days (--stamp-within)"
        for name, (_, detail) in late.items():
            self.say(name, detail)
