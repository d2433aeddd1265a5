"""The signer: turns the sequencer's states into checkpoints. It trusts neither sequencer nor store.

It signs a tree only where its own memory of the last one is shown to be the beginning of it, and remembers what it
signs before anybody sees the signature. So there are never two signed roots of one size, and never a smaller one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from deploytrail_sinks.archive.log.merkle import ProofError, check_consistency, consistency_proof
from deploytrail_sinks.archive.log.names import CHECKPOINT, PREFIX
from deploytrail_sinks.archive.log.notes import Note, NoteError, Signer, Verifier, read_note, signers
from deploytrail_sinks.archive.log.objects import write_durably
from deploytrail_sinks.archive.log.sequencer import newest_state
from deploytrail_sinks.archive.log.tiles import TileError, Tree
from deploytrail_sinks.archive.store import ObjectStore

log = logging.getLogger(__name__)


class SigningRefused(DeploytrailError):
    """What should be signed does not follow from what was: somebody must look; nothing is signed."""


class CheckpointSigner:
    """One log's signer. `folder`: its memory, which nobody else uses. `clock`: seconds since the epoch.

    Several `keys` sign side by side while one replaces the other; several `sequencers` likewise.
    """

    def __init__(
        self,
        store: ObjectStore,
        origin: str,
        keys: Sequence[Signer],
        sequencers: Sequence[Verifier],
        folder: Path,
        clock: Callable[[], float],
    ) -> None:
        if not keys or any(key.verifier.name != origin for key in keys):
            raise ConfigurationError(f"the signer's keys must be named {origin!r}, as the log is")
        self._store, self._origin, self._clock = store, origin, clock
        self._keys, self._sequencers = keys, sequencers
        self._path = folder / "checkpoint"
        self.last = self._remembered()
        self.seen = 0 if self.last is None else read_checkpoint(self.last).size  # entries of the newest state found

    @property
    def signed_at(self) -> float:
        """When the last checkpoint was signed, seconds since the epoch; now where none was."""
        return self._path.stat().st_mtime if self.last is not None else self._clock()

    def _remembered(self) -> Note | None:
        try:
            note = read_note(self._path.read_bytes())
            read_checkpoint(note)
            return note
        except FileNotFoundError:
            return None
        except (OSError, NoteError) as error:
            raise ConfigurationError(
                f"{self._path}, the signer's memory, cannot be read: {error}; restore it, or adopt a checkpoint"
            ) from error

    def adopt(self, data: bytes) -> None:
        """Begin from a checkpoint that one of the keys signed, after the memory was lost. ConfigurationError."""
        try:
            checkpoint, note = open_checkpoint(data)
            if checkpoint.origin != self._origin or not signers([key.verifier for key in self._keys], note):
                raise NoteError(f"is not signed by a key of {self._origin}")
            if self.last is not None and read_checkpoint(self.last).size > checkpoint.size:
                raise NoteError("is older than what the signer remembers")
            if self.last is not None:
                self._check_follows(checkpoint)
        except (NoteError, SigningRefused) as error:
            raise ConfigurationError(f"the checkpoint cannot be adopted: {error}") from error
        write_durably(self._path, data)
        self.last = note

    def sign_next(self) -> Note | None:
        """Sign the newest state; None where it is signed. Durable before it returns. SigningRefused, RetryLater."""
        if self.last is None:
            self._refuse_amnesia()
        size = 0 if self.last is None else read_checkpoint(self.last).size
        found = newest_state(self._store, size)
        if found is None:
            return None
        self.seen = found[0]
        state = self._state(*found)
        self._check_follows(state)
        text = state.text()
        now = int(self._clock())
        note = Note(text, tuple(key.sign(text, now) for key in self._keys))
        write_durably(self._path, note.encode())
        self.last = note
        return note

    def _refuse_amnesia(self) -> None:
        """A signer without memory must not sign a log that has checkpoints: it could sign another history."""
        kept = next(iter(self._store.list(f"{PREFIX}/checkpoints")), None)
        if kept is None:
            try:
                self._store.newest(CHECKPOINT)
                kept = CHECKPOINT
            except KeyError:
                return
        raise SigningRefused(
            f"the signer remembers nothing, and {kept} is there: restore {self._path}, "
            "or start with --adopt and the newest checkpoint that you trust"
        )

    def _state(self, size: int, data: bytes) -> Checkpoint:
        try:
            state, note = open_checkpoint(data)
            if not signers([key for key in self._sequencers if key.speaks_for(size)], note):
                raise NoteError("is not signed by the sequencer")
        except NoteError as error:
            raise SigningRefused(f"the state of size {size} {error}") from error
        if state.origin != self._origin or state.size != size:
            raise SigningRefused(f"the state of size {size} is that of {state.origin} and size {state.size}")
        return state

    def _check_follows(self, state: Checkpoint) -> None:
        """SigningRefused unless the tiles make the tree, and the one remembered is its beginning."""
        tree = Tree(self._store.read, state.size)
        try:
            if tree.root() != state.root:
                raise ProofError("its tiles make another root")
            if self.last is None:
                return
            last = read_checkpoint(self.last)
            if state.size < last.size:
                raise ProofError(f"size {last.size} was signed before")
            if last.size == 0:
                return
            proof = consistency_proof(last.size, state.size, tree.node)
            check_consistency(last.size, state.size, proof, last.root, state.root)
        except (ProofError, TileError) as error:
            raise SigningRefused(f"the tree of size {state.size} is not signed: {error}") from error
