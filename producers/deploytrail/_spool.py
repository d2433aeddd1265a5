"""The spool: events on disk, fsynced before the deploy goes on, until they are delivered.

In: bytes of one event at a time, from any thread, process or fork. Out: the same bytes, in
order, to whoever drains (`_backlog`).

    SPOOL/
      spool.lock  drain.lock             advisory locks (flock), which a dead process gives back
      <producer id>/                     one clock: a host name, and one boot of one machine
        append.lock
        lost                             numbers given to events that could not be kept
        lost.told                        how many of these a spool_loss signal told of
        00000000000000000001.segment     records, named by the first sequence number
        delivered                        how far it was delivered, and the echo of the last record
      damaged/  rejected.jsonl           what was set aside, with its bytes

The sequence number of an event is the number of its record, so it is gapless across the many
short-lived processes of one host without a counter of its own: whoever appends holds the lock,
reads what others appended, and takes the next number. The newest segment is never removed: it
carries the number on. A segment ends with a record that says so, which is how the other
processes learn of the next one without looking for it at every append.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import struct
import threading
import time
import zlib

from deploytrail._clock import boot_id
from deploytrail._report import say_once

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGIC = b"dT"
# Magic, kind, flags, length of the payload, sequence number, CRC-32 of all but itself; little-endian.
HEADER = struct.Struct("<2sBBIQI")
CHECKED = HEADER.size - 4
EVENT, END_OF_SEGMENT = 1, 2
MAX_PAYLOAD = 2 << 20  # a length beyond it is damage, not an event
SEGMENT_BYTES = 256 << 10
MAX_EVENTS = 200_000
SUFFIX = ".segment"
LOST = struct.Struct("<QQI")  # next free number, how many were lost, CRC-32 of both
# Events that may be dropped first find the spool full at this share of its size.
DROPPABLE_SHARE = 0.75
LOCK_SECONDS = 1.0


class SpoolFullError(OSError):
    """The spool has reached its size; the event was not kept, its number is lost."""


class BusyError(OSError):
    """The lock of a spool was not to be had in time."""


class Frame:
    """One record read back: its kind, whether it may be dropped, number, payload, and where it lies."""

    __slots__ = ("droppable", "end", "kind", "payload", "seq", "start")

    def __init__(self, kind: int, flags: int, seq: int, payload: bytes, start: int, end: int) -> None:
        self.kind = kind
        self.droppable = bool(flags & 1)
        self.seq = seq
        self.payload = payload
        self.start = start
        self.end = end


class Damage:
    """Bytes that are no record. `tail`: no record follows them."""

    __slots__ = ("end", "start", "tail")

    def __init__(self, start: int, end: int, tail: bool) -> None:
        self.start = start
        self.end = end
        self.tail = tail


def frame(kind: int, seq: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """The bytes of one record."""
    head = HEADER.pack(MAGIC, kind, flags, len(payload), seq, 0)[:CHECKED]
    return head + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))) + payload


def frames(data: bytes, start: int = 0) -> Iterator[Frame | Damage]:
    """What `data` holds from an offset on: records, and the stretches between that are none."""
    at = start
    while at < len(data):
        found = _frame_at(data, at)
        if found is None:
            following = _next_frame(data, at + 1)
            yield Damage(at, len(data) if following is None else following.start, following is None)
            if following is None:
                return
            found = following
        yield found
        at = found.end


def _frame_at(data: bytes, at: int) -> Frame | None:
    if len(data) - at < HEADER.size:
        return None
    magic, kind, flags, length, seq, crc = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    if magic != MAGIC or length > MAX_PAYLOAD or end > len(data):
        return None
    payload = data[at + HEADER.size : end]
    if zlib.crc32(payload, zlib.crc32(data[at : at + CHECKED])) != crc:
        return None
    return Frame(kind, flags, seq, payload, at, end)


def _next_frame(data: bytes, at: int) -> Frame | None:
    while (at := data.find(MAGIC, at)) >= 0:
        if (found := _frame_at(data, at)) is not None:
            return found
        at += 1
    return None


@contextlib.contextmanager
def locked(descriptor: int, seconds: float | None = None) -> Iterator[None]:
    """Hold the flock of an open file; BusyError when another process keeps it for so long, LOCK_SECONDS by default."""
    seconds = LOCK_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BusyError(f"the spool has been locked for {seconds:g} s") from None
            time.sleep(0.001)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def segments(folder: str) -> list[int]:
    """First sequence numbers of a producer's segments, ascending."""
    names = (name.removesuffix(SUFFIX) for name in os.listdir(folder) if name.endswith(SUFFIX))  # noqa: PTH208
    return sorted(int(name) for name in names if name.isdecimal())


def segment_path(folder: str, first: int) -> str:
    """The file of a segment."""
    return f"{folder}/{first:020d}{SUFFIX}"


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(spool: str, producer_id: str, first: int, damage: Damage, data: bytes) -> None:
    """Keep the bytes of a damaged stretch and say so; nothing where that was done before."""
    folder = f"{spool}/damaged"
    path = f"{folder}/{producer_id}-{first:020d}-{damage.start}.bin"
    if os.path.exists(path):  # noqa: PTH110  # pathlib costs 3 ms to import
        return
    say_once("spool damage", f"{damage.end - damage.start} bytes of the spool are no event; they are kept in {path}")
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103  # as above
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, data[damage.start : damage.end])
        finally:
            os.close(descriptor)


def producer_prefix() -> str:
    """What the ids of this clock's producers begin with: the host's name and a digest of it and its boot.

    A reboot begins a new producer: its clock may have been set, and its monotonic time has.
    """
    host = os.uname().nodename
    digest = hashlib.sha256(f"{host}\n{boot_id()}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]', '-', host.partition('.')[0])[:48]}-{digest}-"


def _producer_folder(spool: str, *, fresh: bool) -> str:
    """The folder of this clock's producer: the one that is there, or a new one."""
    os.makedirs(spool, mode=0o700, exist_ok=True)  # noqa: PTH103  # pathlib costs 3 ms to import
    prefix = producer_prefix()
    if not fresh and (found := _existing(spool, prefix)):
        return found
    descriptor = os.open(f"{spool}/spool.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with locked(descriptor):
            if not fresh and (found := _existing(spool, prefix)):
                return found
            token = os.urandom(4).hex()
            made = f"{spool}/.new-{token}"
            os.mkdir(made, 0o700)  # noqa: PTH102  # as above
            # The loss count has its bytes before the disk is full: then they can only be overwritten.
            lost = os.open(f"{made}/lost", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(lost, _lost_bytes(1, 0))
                os.fsync(lost)
            finally:
                os.close(lost)
            os.close(os.open(f"{made}/append.lock", os.O_WRONLY | os.O_CREAT, 0o600))
            sync_folder(made)
            folder = f"{spool}/{prefix}{token}"
            os.rename(made, folder)  # noqa: PTH104  # as above
            sync_folder(spool)
            return folder
    finally:
        os.close(descriptor)


def _existing(spool: str, prefix: str) -> str | None:
    names = sorted(name for name in os.listdir(spool) if name.startswith(prefix))  # noqa: PTH208
    return f"{spool}/{names[0]}" if names else None


def _lost_bytes(following: int, count: int) -> bytes:
    both = struct.pack("<QQ", following, count)
    return both + struct.pack("<I", zlib.crc32(both))


def read_lost(folder: str) -> tuple[int, int]:
    """(first number that is free as far as losses go, how many events were lost) of a producer."""
    with open(f"{folder}/lost", "rb") as file:  # noqa: PTH123  # pathlib costs 3 ms to import
        return _parse_lost(file.read(LOST.size))


def _read_told(folder: str) -> int:
    try:
        with open(f"{folder}/lost.told") as file:  # noqa: PTH123  # pathlib costs 3 ms to import
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _parse_lost(data: bytes) -> tuple[int, int]:
    if len(data) == LOST.size:
        following, count, crc = LOST.unpack(data)
        if zlib.crc32(data[:16]) == crc:
            return int(following), int(count)
    return 1, 0


class Spool:
    """One process's hand on the spool. After a fork, the child needs one of its own."""

    def __init__(self, folder: str, max_bytes: int, max_events: int = MAX_EVENTS, *, fresh: bool = False) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_events = max_events
        self._segment_bytes = max(min(SEGMENT_BYTES, max_bytes // 8), 1)
        self._mutex = threading.Lock()
        self._owner = 0
        self._fallback: Spool | None = None
        self._descriptors: list[int] = []
        self._open_producer(fresh=fresh)

    @property
    def end(self) -> tuple[str, int, int]:
        """Where the events end that this process knows of: (producer folder, segment, offset)."""
        return self.producer_folder, self._first, self._size

    def append(self, encode: Callable[[str, int], bytes], *, droppable: bool = False) -> tuple[str, int, int]:
        """Number, encode and store one event; returns once it is fsynced: (producer folder, segment, offset behind it).

        `encode(producer_id, seq)` gives the event's bytes. OSError where it cannot be kept
        (SpoolFullError: the spool's own limit); the number is then counted as lost.
        """
        if self._owner == threading.get_ident():
            # A signal handler reports while this very thread is appending: it cannot wait for itself.
            return self._own().append(encode, droppable=droppable)
        if not self._mutex.acquire(timeout=LOCK_SECONDS):
            raise BusyError("another thread has been writing to the spool for too long")
        self._owner = threading.get_ident()
        try:
            if self._fallback is None:
                try:
                    return self._append(encode, droppable)
                except BusyError:
                    # A process that was stopped while it held the lock must not stop the others.
                    self._own()
        finally:
            self._owner = 0
            self._mutex.release()
        return self._own().append(encode, droppable=droppable)

    @property
    def untold(self) -> int:
        """How many events of this producer found no room, or made room for others, and nobody was told of it."""
        return max(0, self._lost_count - self._told_count)

    def told(self, count: int) -> None:
        """So many of the `untold` are told now."""
        self._told_count += count
        path = f"{self.producer_folder}/lost.told"
        with open(f"{path}.new", "w") as file:  # noqa: PTH123  # pathlib costs 3 ms to import
            file.write(str(self._told_count))
        os.replace(f"{path}.new", path)  # noqa: PTH105  # as above

    def close(self) -> None:
        """Close its files."""
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.pop())

    def _own(self) -> Spool:
        """A spool folder that no other process writes to."""
        if self._fallback is None:
            self._fallback = Spool(self.folder, self.max_bytes, self.max_events, fresh=True)
        return self._fallback

    def _open_producer(self, *, fresh: bool) -> None:
        self.close()
        self.producer_folder = _producer_folder(self.folder, fresh=fresh)
        self.producer_id = self.producer_folder.rpartition("/")[2]
        self._lock = os.open(f"{self.producer_folder}/append.lock", os.O_RDWR | os.O_CLOEXEC)
        self._descriptors.append(self._lock)
        self._lost = os.open(f"{self.producer_folder}/lost", os.O_RDWR | os.O_CLOEXEC)
        self._descriptors.append(self._lost)
        self._segment = -1
        self._first = self._size = self._others = self._oldest = 0
        self._next = 1
        self._closed = True
        _, self._lost_count = read_lost(self.producer_folder)
        self._told_count = _read_told(self.producer_folder)

    def _append(self, encode: Callable[[str, int], bytes], droppable: bool) -> tuple[str, int, int]:
        while True:
            with locked(self._lock):
                # Drained folders of earlier boots are removed; one that was ours meanwhile is no more.
                if os.fstat(self._lock).st_nlink:
                    return self._append_locked(encode, droppable)
            self._open_producer(fresh=False)

    def _append_locked(self, encode: Callable[[str, int], bytes], droppable: bool) -> tuple[str, int, int]:
        try:
            self._catch_up()
            data = frame(EVENT, self._next, encode(self.producer_id, self._next), int(droppable))
            self._check_room(len(data), droppable)
            if self._size and self._size + len(data) > self._segment_bytes:
                self._roll()
            self._write(data)
            os.fsync(self._segment)
        except OSError:
            self._note_lost()
            raise
        self._next += 1
        return self.end

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._segment, data)
            if written != len(data):
                # The next write says why: the disk is full, or a limit on file sizes was met.
                written += os.write(self._segment, data[written:])
            if written != len(data):
                raise OSError("the disk takes only a part of an event")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._segment, self._size)
            raise
        self._size += len(data)

    def _catch_up(self) -> None:
        """Read what other processes appended since; afterwards size and number are those of the disk."""
        while True:
            if self._segment < 0:
                self._open_newest()
            stat = os.fstat(self._segment)
            if stat.st_nlink == 0:
                self._forget_segment()
                continue
            if stat.st_size < self._size:
                self._size = 0
            if stat.st_size > self._size:
                self._read_on(stat.st_size)
            if not self._closed:
                break
            self._new_segment()
        following, lost = _parse_lost(os.pread(self._lost, LOST.size, 0))
        self._next = max(self._next, following)
        if lost != self._lost_count:  # another process may have told of its losses meanwhile
            self._lost_count, self._told_count = lost, _read_told(self.producer_folder)

    def _read_on(self, size: int) -> None:
        base = self._size
        data = os.pread(self._segment, size - base, base)
        for found in frames(data):
            if isinstance(found, Frame):
                self._closed = found.kind == END_OF_SEGMENT
                self._next = max(self._next, found.seq + (found.kind == EVENT))
                self._size = base + found.end
            elif found.tail:
                # Torn by a crash: whoever wrote it was never told that it is kept. More than one
                # record's head in disorder is damage of another kind, so the bytes are kept.
                shifted = Damage(base + found.start, base + found.end, True)
                if found.end - found.start >= HEADER.size:
                    set_aside(self.folder, self.producer_id, self._first, shifted, b"\0" * base + data)
                os.ftruncate(self._segment, shifted.start)

    def _open_newest(self) -> None:
        existing = segments(self.producer_folder)
        if not existing:
            following, _ = _parse_lost(os.pread(self._lost, LOST.size, 0))
            self._next = max(self._next, following)
            self._new_segment()
            return
        self._open_segment(existing[-1])
        self._next = max(self._next, existing[-1])
        self._others = self._used() - os.fstat(self._segment).st_size

    def _new_segment(self) -> None:
        existing = segments(self.producer_folder)
        if existing and existing[-1] > self._first:
            self._forget_segment()
            return  # another process was first: the caller reads that one
        path = segment_path(self.producer_folder, self._next)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        sync_folder(self.producer_folder)
        self._open_segment(self._next)
        self._others = self._used()
        self._oldest = 0

    def _open_segment(self, first: int) -> None:
        self._forget_segment()
        path = segment_path(self.producer_folder, first)
        self._segment = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._descriptors.append(self._segment)
        self._first, self._size, self._closed = first, 0, False

    def _forget_segment(self) -> None:
        if self._segment >= 0:
            self._descriptors.remove(self._segment)
            os.close(self._segment)
        self._segment = -1

    def _roll(self) -> None:
        self._write(frame(END_OF_SEGMENT, self._next))
        self._closed = True
        self._new_segment()

    def _check_room(self, size: int, droppable: bool) -> None:
        share = DROPPABLE_SHARE if droppable else 1.0
        if self._fits(size, share):
            return
        self._others = self._used() - self._size  # delivered segments may be gone by now
        self._oldest = 0
        if self._fits(size, share) or (not droppable and self._evict(size)):
            return
        raise SpoolFullError(
            f"the spool {self.folder} holds {self._others + self._size} of {self.max_bytes} bytes, and "
            f"{self._next - self._oldest} events of {self.max_events}"
        )

    def _fits(self, size: int, share: float) -> bool:
        if not self._oldest:
            self._oldest = segments(self.producer_folder)[0]
        return (
            self._others + self._size + size <= int(self.max_bytes * share)
            and self._next - self._oldest < self.max_events * share
        )

    def _evict(self, size: int) -> bool:
        """Take droppable events out of full segments, oldest first, until `size` bytes fit; whether they do.

        A segment that lost some is written anew under the next number, so that a reader whose place
        was in the old one begins it anew: what it sends again is known by its id.
        """
        from pathlib import Path

        from deploytrail._backlog import read_delivered

        delivered, _ = read_delivered(Path(self.producer_folder))
        for first in segments(self.producer_folder)[:-1]:
            path = segment_path(self.producer_folder, first)
            try:
                data = Path(path).read_bytes()
            except FileNotFoundError:
                continue  # delivered meanwhile
            found = [f for f in frames(data) if isinstance(f, Frame) and (first, f.start) >= delivered]
            dropped = [f for f in found if f.droppable]
            if not dropped:
                continue
            kept = b"".join(data[f.start : f.end] for f in found if not f.droppable)
            if any(f.kind == EVENT and not f.droppable for f in found):
                self._write_anew(first + 1, kept)
            Path(path).unlink(missing_ok=True)
            self._count_lost(len(dropped))
            self._others = self._used() - self._size
            self._oldest = 0
            if self._fits(size, 1.0):
                return True
        return False

    def _write_anew(self, first: int, data: bytes) -> None:
        fresh = f"{self.producer_folder}/.new-segment"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, segment_path(self.producer_folder, first))  # noqa: PTH104  # as above
        sync_folder(self.producer_folder)

    def _used(self) -> int:
        """Bytes of all segments of all producers."""
        total = 0
        for producer in os.scandir(self.folder):
            if not producer.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):  # removed meanwhile
                total += sum(e.stat().st_size for e in os.scandir(producer.path) if e.name.endswith(SUFFIX))
        return total

    def _note_lost(self) -> None:
        """Count the number that the event would have had: downstream sees the gap."""
        with contextlib.suppress(OSError):
            following, _ = _parse_lost(os.pread(self._lost, LOST.size, 0))
            self._next = max(self._next, following) + 1
            self._count_lost(1)

    def _count_lost(self, count: int) -> None:
        following, lost = _parse_lost(os.pread(self._lost, LOST.size, 0))
        self._lost_count = lost + count
        os.pwrite(self._lost, _lost_bytes(max(self._next, following), self._lost_count), 0)
