"""The gateway's own spool: this process's folder, and those of processes that are gone. Bounded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings, variable

from deploytrail.gateway import metrics
from deploytrail.gateway.publisher import Outgoing
from deploytrail.gateway.spool_folder import LOCK, OVERHEAD, Batch, SpoolFolder

_SEGMENT_BYTES = 4 << 20


class SpoolFull(RetryLater):
    """No room, or no disk that takes it."""


class Spool:
    """Records that wait for Kafka: oldest first, at most `max_bytes`.

    Its folder is its own, by a lock: a second process that is given the same root has another
    there, and what a process left behind is drained by whichever finds it.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        """OSError where nothing can be written below `root`."""
        self.root = root
        self.max_bytes = max_bytes
        self._own = SpoolFolder.create(root, max(1, min(_SEGMENT_BYTES, max_bytes // 8)))
        self._orphans: list[SpoolFolder] = []
        self._waiting = 0
        self._used = 0
        self._reserved = 0
        self._counting = threading.Lock()
        self.adopt()

    @property
    def waiting(self) -> int:
        """How many records are here."""
        return self._waiting

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to drain, not even an empty folder of a process that is gone."""
        return not self._waiting and not self._orphans

    @property
    def used(self) -> int:
        """Bytes that they take, those included that are being written."""
        return self._used + self._reserved

    @property
    def is_full(self) -> bool:
        """Whether not even a small record would find room."""
        return self.used + (64 << 10) > self.max_bytes

    def adopt(self) -> int:
        """Take over the folders of processes that are gone, the oldest first; how many."""
        found = 0
        for path in sorted(self.root.iterdir(), key=_made_at):
            if path == self._own.path or not (path / LOCK).exists():
                continue
            if (folder := SpoolFolder.adopt(path)) is not None:
                self._orphans.append(folder)
                self._count(folder.count())
                found += 1
        return found

    def reserve(self, records: Sequence[Outgoing]) -> list[bytes]:
        """The bytes of records, for which room is kept; SpoolFull where there is none."""
        try:
            packed = [self._own.packed(record) for record in records]
        except ValueError as error:
            metrics.SPOOL_REFUSED.labels("too_large").inc(len(records))
            raise SpoolFull(f"Kafka does not answer, and the spool cannot keep {error}") from error
        size = _size(packed)
        if self.used + size > self.max_bytes:
            metrics.SPOOL_REFUSED.labels("full").inc(len(records))
            raise SpoolFull(
                f"Kafka does not answer, and the gateway's spool holds {self.used} of {self.max_bytes} bytes"
            )
        with self._counting:
            self._reserved += size
        return packed

    def append(self, packed: Sequence[bytes]) -> None:
        """Store what was reserved, with one fsync. SpoolFull where the disk does not take it."""
        stored = 0
        try:
            self._own.append(packed)
            stored = len(packed)
        except OSError as error:
            metrics.SPOOL_REFUSED.labels("disk").inc(len(packed))
            raise SpoolFull(
                f"Kafka does not answer, and the gateway's spool cannot be written: {error.strerror}"
            ) from error
        finally:
            self._count(stored, _size(packed))
        metrics.SPOOLED.inc(stored)

    def read(self) -> Batch:
        """The oldest records; none where all are in Kafka. Folders of others that are drained are removed."""
        while self._orphans:
            batch = self._orphans[0].read()
            if batch.records:
                return batch
            self._orphans.pop(0).close(remove=True)
            self._count(0)
        return self._own.read()

    def published(self, batch: Batch) -> None:
        """The batch that was read is in Kafka."""
        self._oldest.published(batch.behind)
        metrics.DRAINED.inc(len(batch.records))
        self._count(-len(batch.records))

    def set_aside(self, record: Outgoing, why: str) -> None:
        """Keep a record that Kafka will never take, and say so."""
        self._oldest.set_aside(self._own.packed(record), f"a record that Kafka refuses ({why})")

    def clear(self) -> None:
        """Everything is in Kafka."""
        self._own.clear()
        self._count(-self._waiting)

    def close(self) -> None:
        """Let go of all folders; what they hold waits for the next process."""
        for folder in self._orphans:
            folder.close(remove=False)
        with contextlib.suppress(OSError):
            self._own.close(remove=not self._own.read().records)

    @property
    def _oldest(self) -> SpoolFolder:
        return self._orphans[0] if self._orphans else self._own

    def _count(self, records: int, reserved: int = 0) -> None:
        """So many records came, and what was reserved for some is used or free again."""
        with self._counting:
            self._reserved -= reserved
            self._waiting = max(0, self._waiting + records)
            self._used = self._own.size + sum(folder.size for folder in tuple(self._orphans))
            metrics.SPOOL_BYTES.set(self._used)
            metrics.SPOOL_WAITING.set(self._waiting)


def open_spool(settings: Settings) -> Spool | None:
    """The spool of the settings; None where there is to be none. ConfigurationError where it cannot be had."""
    if not settings.gateway_spool_max_bytes:
        return None
    folder = settings.gateway_spool.expanduser()
    try:
        return Spool(folder, settings.gateway_spool_max_bytes // max(1, settings.gateway_workers))
    except OSError as error:
        raise ConfigurationError(
            f"the gateway's spool {folder} cannot be had ({error.strerror}); set {variable('gateway_spool')}, or "
            f"{variable('gateway_spool_max_bytes')} to 0 for none"
        ) from error


def _made_at(path: Path) -> int:
    """When a folder was made, ns: its lock is never written to, the folder itself by whoever drains it."""
    try:
        return (path / LOCK).stat().st_mtime_ns
    except OSError:
        return 0


def _size(packed: Sequence[bytes]) -> int:
    return sum(map(len, packed)) + OVERHEAD * len(packed)
