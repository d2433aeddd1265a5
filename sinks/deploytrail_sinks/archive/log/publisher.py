"""Publishes signed checkpoints: cosigned by the quorum, kept for good, stamped now and then, then the newest."""

from __future__ import annotations

import logging
from collections.abc import Callable

from deploytrail_schemas.errors import RetryLater

from deploytrail_sinks.archive.log.checkpoint import open_checkpoint, read_checkpoint
from deploytrail_sinks.archive.log.cosigning import Cosigners
from deploytrail_sinks.archive.log.names import CHECKPOINT, numbered
from deploytrail_sinks.archive.log.notes import Note, NoteError, signers
from deploytrail_sinks.archive.log.objects import LogConflict, kept_until, read_or_none
from deploytrail_sinks.archive.log.timestamps import request_stamp
from deploytrail_sinks.archive.log.trust import Trust
from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Policy
from deploytrail_sinks.archive.store import ObjectExists, ObjectStore

log = logging.getLogger(__name__)


class Publisher:
    """One log's publisher. `clock`: seconds since the epoch; `stamp_every`: seconds between two time stamps."""

    def __init__(
        self,
        store: ObjectStore,
        trust: Trust,
        clock: Callable[[], float],
        *,
        stamp_url: str = "",
        stamp_every: float = 3600.0,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self._policy = policy
        self._store, self._trust, self._clock = store, trust, clock
        self._cosigners = Cosigners(trust, store.read)
        self._stamp_url, self._stamp_every = stamp_url, stamp_every
        self._stamped_at: float | None = None
        self._waits = False
        self.size = 0  # entries that the newest published checkpoint covers, as far as it was seen here
        self.published_at: float | None = None  # when it was, as we or its witnesses know; None where nobody does

    def resume(self) -> None:
        """Find what was published before us, and when: by what its witnesses say. RetryLater."""
        found = None if self.size else self._current()
        if found is None:
            return
        try:
            checkpoint, note = open_checkpoint(found)
            cosigned = signers([witness.verifier for witness in self._trust.witnesses.values()], note)
        except NoteError:
            return  # the next to be published is put in its place
        self.size = checkpoint.size
        self.published_at = max((signature.time for signature in cosigned.values()), default=None)

    def publish(self, note: Note) -> Note | None:
        """Publish a signed checkpoint; None where the quorum does not cosign it yet. RetryLater, LogConflict."""
        size = read_checkpoint(note).size
        name = numbered("checkpoints", size)
        kept = read_or_none(self._store, name)
        at = self.published_at if size == self.size else None
        if kept is None:
            cosigned = self._cosigners.cosign(note)
            if not self._trust.is_enough(self._trust.cosigners(cosigned)):
                if not self._waits:
                    log.error("checkpoint %s is not published: too few witnesses cosigned it; asking again", size)
                self._waits = True
                return None
            self._waits = False
            kept = cosigned.encode()
            try:
                self._store.create(name, kept, kept_until(self._clock(), self._policy))
                at = self._clock()
            except ObjectExists:
                kept = self._store.read(name)
        published = self._same_tree(name, kept, note)
        if self._current() != kept:
            self._store.replace(CHECKPOINT, kept)
        self.size, self.published_at = size, at
        self._stamp(size, kept)
        return published

    def _same_tree(self, name: str, kept: bytes, note: Note) -> Note:
        try:
            _, published = open_checkpoint(kept)
        except NoteError as error:
            raise LogConflict(f"{name} {error}") from error
        if published.text != note.text:
            raise LogConflict(f"{name} is another tree than the one that was signed")
        return published

    def _current(self) -> bytes | None:
        try:
            return self._store.newest(CHECKPOINT)
        except KeyError:
            return None

    def _stamp(self, size: int, kept: bytes) -> None:
        now = self._clock()
        if not self._stamp_url or (self._stamped_at is not None and now - self._stamped_at < self._stamp_every):
            return
        name = numbered("timestamps", size)
        if read_or_none(self._store, name) is None:
            try:
                self._store.create(name, request_stamp(self._stamp_url, kept), kept_until(now, self._policy))
            except ObjectExists:
                pass
            except RetryLater as error:  # the next checkpoint asks again; this one is published without
                log.warning("checkpoint %s is not time-stamped: %s", size, error)
                return
        self._stamped_at = now
