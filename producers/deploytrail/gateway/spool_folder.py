"""One folder of the gateway's own spool: the records of one process, in order, fsynced.

    SPOOL/
      <random>/                            one process's
        lock                               held for as long as a process writes or drains it
        00000000000000000001.segment       records in the producers' frames (`_spool`), named by the first number
        delivered                          how far they are in Kafka
      damaged/                             stretches that are no record, with their bytes

The name of the folder stands before each record too: what a caller says, and a crash cuts in two,
cannot pass for a record of our own.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deploytrail_schemas.topics import Topic

from deploytrail._backlog import Backlog, Position
from deploytrail._spool import (
    EVENT,
    HEADER,
    MAX_PAYLOAD,
    SUFFIX,
    Damage,
    Frame,
    frame,
    frames,
    segment_path,
    segments,
    set_aside,
    sync_folder,
)
from deploytrail.gateway import metrics
from deploytrail.gateway.publisher import Outgoing

_log = logging.getLogger(__name__)
LOCK = "lock"
_UNFINISHED = ".new-"
_NAME_BYTES = 16
# Partition, length of the topic's name, number of headers, length of the key; each header: length of name and value.
_HEAD = struct.Struct("<iBBI")
_HEADER = struct.Struct("<BI")
OVERHEAD = HEADER.size + _NAME_BYTES + _HEAD.size
READ_RECORDS, READ_BYTES = 2_000, 1 << 20


class Batch(NamedTuple):
    """Records in order, and the position behind them."""

    records: list[Outgoing]
    behind: Position


class SpoolFolder:
    """One folder, whose lock this process holds. One thread may append while another reads."""

    def __init__(self, path: Path, lock: int, segment_bytes: int) -> None:
        self.path = path
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._name = path.name.encode()
        self._descriptor = -1
        self._next = 1
        # The segment that is written to, and how much of it is durable. None: nobody writes here any more.
        self._written: tuple[int, int] | None = (0, 0)
        self._backlog = _Backlog(path, lambda: self._written)

    @classmethod
    def create(cls, root: Path, segment_bytes: int) -> SpoolFolder:
        """A new folder of this process; OSError where there can be none."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(_NAME_BYTES // 2)
        made = root / f"{_UNFINISHED}{name}"
        made.mkdir(0o700)
        lock = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(str(made))
        made.rename(root / name)
        sync_folder(str(root))
        return cls(root / name, lock, segment_bytes)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFolder | None:
        """The folder of a process that is gone, to be drained; None where its process lives."""
        if len(path.name) != _NAME_BYTES:
            return None
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = not os.fstat(lock).st_nlink
        except OSError:
            gone = True
        if gone:
            os.close(lock)
            return None
        found = cls(path, lock, 0)
        found._written = None
        found._cut_torn_tail()
        return found

    @property
    def size(self) -> int:
        """Bytes of its segments."""
        total = 0
        for entry in os.scandir(self.path):
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):  # published meanwhile
                    total += entry.stat().st_size
        return total

    def count(self) -> int:
        """How many records are not in Kafka yet."""
        found = 0
        at = self._backlog.position
        for first in segments(str(self.path)):
            if first >= at.segment:
                data = Path(segment_path(str(self.path), first)).read_bytes()
                start = at.offset if first == at.segment else 0
                found += sum(isinstance(one, Frame) and one.kind == EVENT for one in frames(data, start))
        return found

    def packed(self, record: Outgoing) -> bytes:
        """The bytes by which a record stands here; ValueError where it is too large for that."""
        topic = record.topic.value.encode()
        parts = [self._name, _HEAD.pack(record.partition, len(topic), len(record.headers), len(record.key)), topic]
        for name, value in record.headers:
            parts += _HEADER.pack(len(name), len(value)), name.encode(), value
        packed = b"".join((*parts, record.key, record.value))
        if len(packed) > MAX_PAYLOAD:
            raise ValueError(f"a record of {len(packed)} bytes; at most {MAX_PAYLOAD} can be kept")
        return packed

    def append(self, packed: Sequence[bytes]) -> None:
        """Store records; returns once they are fsynced, together. OSError where they are not: then none counts."""
        assert self._written is not None
        if self._descriptor < 0 or self._written[1] >= self._segment_bytes:
            self._new_segment()
        first, size = self._written
        data = b"".join(frame(EVENT, self._next + index, one) for index, one in enumerate(packed))
        try:
            _write_whole(self._descriptor, data)
            getattr(os, "fdatasync", os.fsync)(self._descriptor)  # macOS has no fdatasync
        except OSError:
            self._give_up_segment(size)
            raise
        self._next += len(packed)
        self._written = first, size + len(data)

    def read(self) -> Batch:
        """The next records that are not in Kafka; none where all are. What cannot be read is set aside."""
        while True:
            entries = self._backlog.read(READ_RECORDS, READ_BYTES)
            records = []
            for entry in entries:
                record = self._unpacked(entry.payload)
                if record is None:
                    self.set_aside(entry.payload, "a record that this gateway did not write")
                else:
                    records.append(record)
            if records or not entries:
                return Batch(records, entries[-1].behind if entries else self._backlog.position)
            self._backlog.delivered(entries[-1].behind, None)

    def published(self, behind: Position) -> None:
        """Records up to there are in Kafka; segments wholly before it are removed."""
        try:
            self._backlog.delivered(behind, None)
        except OSError as error:  # the disk is full: what is published again later is known by its id
            _log.warning("how far the spool %s is drained cannot be written: %s", self.path, error)

    def clear(self) -> None:
        """Forget everything, all of which is in Kafka."""
        self._close_segment()
        self._next += 1
        for first in segments(str(self.path)):
            Path(segment_path(str(self.path), first)).unlink(missing_ok=True)

    def set_aside(self, data: bytes, what: str) -> None:
        """Keep bytes that cannot be published, and say so."""
        metrics.SPOOL_DAMAGED.inc()
        folder = self.path.parent / "damaged"
        kept = folder / f"{self.path.name}-{secrets.token_hex(8)}.bin"
        _log.error("%s (%d bytes) stands in the spool; it is kept in %s", what, len(data), kept)
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            kept.write_bytes(data)

    def close(self, *, remove: bool) -> None:
        """Let go of it; `remove`: all of it is in Kafka."""
        self._close_segment()
        if remove:
            # The lock goes last: what a kill leaves of this is found, and removed, by the next process.
            for path in self.path.iterdir():
                if path.name != LOCK and path.is_file():
                    path.unlink(missing_ok=True)
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _unpacked(self, data: bytes) -> Outgoing | None:
        at = _NAME_BYTES + _HEAD.size
        if data[:_NAME_BYTES] != self._name or len(data) < at:
            return None
        partition, topic_length, count, key_length = _HEAD.unpack_from(data, _NAME_BYTES)
        try:
            topic = Topic(data[at : at + topic_length].decode())
            at += topic_length
            headers = []
            for _ in range(count):
                name_length, length = _HEADER.unpack_from(data, at)
                at += _HEADER.size
                name = data[at : at + name_length].decode()
                headers.append((name, data[at + name_length : at + name_length + length]))
                at += name_length + length
        except (struct.error, ValueError):
            return None
        return Outgoing(partition, data[at : at + key_length], data[at + key_length :], tuple(headers), topic)

    def _new_segment(self) -> None:
        self._close_segment()
        path = segment_path(str(self.path), self._next)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(str(self.path))
        except OSError:
            os.close(descriptor)
            Path(path).unlink(missing_ok=True)
            raise
        self._descriptor, self._written = descriptor, (self._next, 0)

    def _give_up_segment(self, size: int) -> None:
        """Cut what may not be durable, and write elsewhere from now on: after a failed fsync nobody knows."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, size)
        self._close_segment()
        self._next += 1

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _cut_torn_tail(self) -> None:
        """Cut what a crash left at the end: whoever sent it was never told that it is kept."""
        existing = segments(str(self.path))
        if not existing:
            return
        path = Path(segment_path(str(self.path), existing[-1]))
        data = path.read_bytes()
        for found in frames(data):
            if isinstance(found, Damage) and found.tail:
                if found.end - found.start >= HEADER.size:
                    set_aside(str(self.path.parent), self.path.name, existing[-1], found, data)
                os.truncate(path, found.start)


class _Backlog(Backlog):
    """Reads no further than what is durable."""

    def __init__(self, folder: Path, written: Callable[[], tuple[int, int] | None]) -> None:
        super().__init__(folder)
        self._written = written

    def _segment(self, first: int) -> bytes | None:
        written = self._written()
        try:
            data = Path(segment_path(str(self.folder), first)).read_bytes()
        except FileNotFoundError:
            return None
        return data[: written[1]] if written is not None and written[0] == first else data

    def _set_aside(self, first: int, damage: Damage, data: bytes) -> None:
        metrics.SPOOL_DAMAGED.inc()
        _log.error(
            "bytes %d to %d of %s are no record; they are kept in %s",
            *(damage.start, damage.end, segment_path(str(self.folder), first), self.folder.parent / "damaged"),
        )
        super()._set_aside(first, damage, data)


def _write_whole(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
