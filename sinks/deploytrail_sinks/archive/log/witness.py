"""A witness: remembers each log's last checkpoint and cosigns only what follows (https://c2sp.org/tlog-witness).

What is decided stands here; `witness_server.py` speaks HTTP around it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint, read_hash, read_size
from deploytrail_sinks.archive.log.merkle import Proof, ProofError, check_consistency
from deploytrail_sinks.archive.log.notes import Note, NoteError, Signer, Verifier, signers
from deploytrail_sinks.archive.log.objects import write_durably

PROOF_LIMIT = 63
SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


def write_request(old: int, proof: Sequence[str], note: Note) -> bytes:
    """The body of add-checkpoint. `proof`: hashes in base64."""
    return "".join((f"old {old}\n", *(f"{step}\n" for step in proof), "\n", str(note))).encode()


def read_request(body: bytes) -> tuple[int, Proof, Checkpoint, Note]:
    """Old size, proof and checkpoint of a body; NoteError."""
    head, separator, rest = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteError("the lines before the checkpoint are not ASCII") from None
    if not separator or not first.startswith("old "):
        raise NoteError("expected a line `old SIZE`, the proof's lines, an empty line and a checkpoint")
    if len(lines) > PROOF_LIMIT:
        raise NoteError(f"the proof has {len(lines)} lines; at most {PROOF_LIMIT}")
    checkpoint, note = open_checkpoint(rest)
    return read_size(first.removeprefix("old ")), tuple(map(read_hash, lines)), checkpoint, note


class Witness:
    """One witness. `folder`: its memory. `logs`: the keys of the logs that it knows. `clock`: seconds of the epoch."""

    def __init__(
        self, keys: Sequence[Signer], logs: Sequence[Verifier], folder: Path, clock: Callable[[], float]
    ) -> None:
        self._keys, self._logs, self._folder, self._clock = keys, logs, folder, clock
        self._lock = threading.Lock()  # comparing with the memory and replacing it are one step

    def add_checkpoint(self, body: bytes) -> Answer:
        """Judge a checkpoint; RetryLater where it cannot be remembered."""
        try:
            old, proof, checkpoint, note = read_request(body)
        except NoteError as error:
            return Answer(400, f"{error}\n")
        own = [verifier for verifier in self._logs if verifier.name == checkpoint.origin]
        if not own:
            return Answer(404, "this log is not known here\n")
        try:
            if not signers(own, note):
                return Answer(403, "no known key of the log signed this\n")
        except NoteError as error:
            return Answer(403, f"{error}\n")
        if old > checkpoint.size:
            return Answer(400, f"old size {old} is larger than the checkpoint's {checkpoint.size}\n")
        with self._lock:
            return self._follow(old, proof, checkpoint, note)

    def _follow(self, old: int, proof: Proof, checkpoint: Checkpoint, note: Note) -> Answer:
        last = self.remembered(checkpoint.origin)
        size = last.size if last else 0
        if old != size:
            return Answer(409, f"{size}\n", SIZE_TYPE)
        if last is not None and size == checkpoint.size and last.root != checkpoint.root:
            return Answer(409, f"{size}\n", SIZE_TYPE)
        try:
            if last is None or size == 0:
                if proof:
                    raise ProofError("a proof from size 0 must be empty")
            else:
                check_consistency(size, checkpoint.size, proof, last.root, checkpoint.root)
        except ProofError as error:
            return Answer(422, f"{error}\n")
        write_durably(self._path(checkpoint.origin), note.encode())
        now = int(self._clock())
        lines = [f"{key.sign(note.text, now).line()}\n" for key in self._keys]
        return Answer(200, "".join(lines))

    def remembered(self, origin: str) -> Checkpoint | None:
        """The last checkpoint of a log that was cosigned; ConfigurationError where the memory is damaged."""
        path = self._path(origin)
        try:
            checkpoint, _ = open_checkpoint(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, NoteError) as error:
            raise ConfigurationError(f"{path}, the memory of {origin}, cannot be read: {error}; restore it") from error
        return checkpoint

    def _path(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"
