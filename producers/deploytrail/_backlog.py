"""The reading side of the spool: what is not delivered yet, and how far delivery came."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from deploytrail._clock import now
from deploytrail._spool import (
    END_OF_SEGMENT,
    SUFFIX,
    Damage,
    frames,
    locked,
    producer_prefix,
    segment_path,
    segments,
    set_aside,
)

REJECTED_BYTES = 8 << 20  # the file of refused events is begun anew at this size; the one before is kept


class Echo(NamedTuple):
    """Of an acknowledged record: sent and acknowledged by our clock, received by the other side's. Microseconds."""

    sent: int
    received: int
    acknowledged: int

    def header(self) -> str:
        """The text of the header `dt-echo`."""
        return f"{self.sent},{self.received},{self.acknowledged}"


class Position(NamedTuple):
    """A place in a producer's spool: the segment's first number, and an offset in it."""

    segment: int
    offset: int


class Entry(NamedTuple):
    """One stored event, and the position behind it."""

    producer_id: str
    seq: int
    payload: bytes
    behind: Position


class Backlog:
    """What one producer has not delivered. Only the holder of the drain lock may move it on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.producer_id = folder.name
        self.position, self.echo = read_delivered(folder)
        self._durable: tuple[int, int] = (-1, 0)

    @property
    def is_this_clock(self) -> bool:
        """Whether its events were timed by the clock of this host since its last boot."""
        return self.producer_id.startswith(producer_prefix())

    @property
    def is_this_host(self) -> bool:
        """Whether its events were timed by this host's wall clock, if perhaps before a reboot."""
        return self.producer_id.rpartition("-")[0].rpartition("-")[0] == producer_prefix()[:-10]

    def read(self, count: int, size: int) -> list[Entry]:
        """The next entries, at most so many and so many bytes, at least one where there is one."""
        entries: list[Entry] = []
        taken = 0
        at = self.position
        while True:
            existing = [first for first in segments(str(self.folder)) if first >= at.segment]
            if not existing:
                return entries
            if existing[0] != at.segment:
                at = Position(existing[0], 0)
            data = self._segment(at.segment)
            if data is None:
                continue  # removed, or written anew under the next number
            if at.offset > len(data):
                at = Position(at.segment, 0)
            ended = False
            for found in frames(data, at.offset):
                if isinstance(found, Damage):
                    if found.tail and len(existing) == 1:
                        return entries  # being written just now, or torn: the next append cuts it
                    self._set_aside(at.segment, found, data)
                    continue
                at = Position(at.segment, found.end)
                if found.kind == END_OF_SEGMENT:
                    ended = True
                    break
                entries.append(Entry(self.producer_id, found.seq, found.payload, at))
                taken += len(found.payload)
                if len(entries) >= count or taken >= size:
                    return entries
            if len(existing) == 1:
                return entries
            if not ended and not self._still(at.segment, len(data)):
                continue
            at = Position(existing[1], 0)

    def delivered(self, behind: Position, echo: Echo | None) -> None:
        """Move on; segments that lie wholly behind are removed.

        Not fsynced: a place that a power loss takes back costs a repetition, which is known by its
        ids, and an fsync per batch would slow the deploys that fsync their events on the same disk.
        OSError where the place cannot be written; the segments are gone all the same, so that a
        full disk gets room.
        """
        self.position = behind
        self.echo = echo or self.echo
        for first in segments(str(self.folder)):
            if first < behind.segment:
                Path(segment_path(str(self.folder), first)).unlink(missing_ok=True)
        text = json.dumps({"segment": behind.segment, "offset": behind.offset, "echo": self.echo})
        fresh = self.folder / "delivered.new"
        fresh.write_text(text)
        fresh.replace(self.folder / "delivered")

    def reject(self, entry: Entry, why: str) -> None:
        """Keep an event that the other side refuses, and why. OSError where it cannot be kept."""
        value: Any
        try:
            from deploytrail_schemas.codec import decode

            value = decode(entry.payload)[1]
        except Exception as error:  # what cannot be decoded is kept all the same
            value = {"undecodable": str(error)}
        path = self.folder.parent / "rejected.jsonl"
        with contextlib.suppress(OSError):
            if path.stat().st_size > REJECTED_BYTES:
                path.replace(path.with_suffix(".1.jsonl"))
        line = {"at": now(), "why": why, "value": value, "avro": base64.b64encode(entry.payload).decode()}
        # A spool that somebody else made may lie open to others.
        with open(path, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove_if_done(self) -> None:
        """Remove the folder of a clock that runs no more, once all of it is delivered."""
        if self.is_this_clock:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self.folder / "append.lock", os.O_RDWR)
            try:
                with locked(descriptor, 0.0):
                    if not self.read(1, 1):
                        shutil.rmtree(self.folder)
            finally:
                os.close(descriptor)

    def _set_aside(self, first: int, damage: Damage, data: bytes) -> None:
        set_aside(str(self.folder.parent), self.producer_id, first, damage, data)

    def _segment(self, first: int) -> bytes | None:
        path = Path(segment_path(str(self.folder), first))
        try:
            with path.open("rb") as file:
                data = file.read()
                # What is sent must be durable here: else a number could be given twice after a power loss.
                if self._durable != (first, len(data)):
                    getattr(os, "fdatasync", os.fsync)(file.fileno())  # macOS has no fdatasync
                    self._durable = (first, len(data))
                return data
        except FileNotFoundError:
            return None

    def _still(self, first: int, size: int) -> bool:
        try:
            return Path(segment_path(str(self.folder), first)).stat().st_size == size
        except FileNotFoundError:
            return True


def read_delivered(folder: Path) -> tuple[Position, Echo | None]:
    """How far a producer's events were delivered, and its latest echo; the beginning where nothing says so."""
    try:
        told = json.loads((folder / "delivered").read_text())
        echo = Echo(*map(int, told["echo"])) if told["echo"] else None
        return Position(int(told["segment"]), int(told["offset"])), echo
    except (OSError, ValueError, KeyError, TypeError):
        return Position(0, 0), None


def producers(spool: Path) -> list[Path]:
    """The folders of all producers in a spool, this clock's last: older events go first."""
    try:
        folders = [path for path in spool.iterdir() if (path / "append.lock").exists() and path.name[0] != "."]
    except OSError:
        return []
    return sorted(folders, key=lambda path: (path.name.startswith(producer_prefix()), path.name))


def waiting(spool: Path) -> int:
    """How many events of a spool are not delivered yet."""
    return sum(len(Backlog(folder).read(1 << 30, 1 << 40)) for folder in producers(spool))


__all__ = ["SUFFIX", "Backlog", "Echo", "Entry", "Position", "producers", "read_delivered", "waiting"]
