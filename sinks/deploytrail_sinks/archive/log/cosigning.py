"""Ask witnesses to cosign a checkpoint. A witness that is away, slow or wrong delays nothing but itself."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

from deploytrail_sinks.archive.log.checkpoint import read_checkpoint
from deploytrail_sinks.archive.log.merkle import ProofError, consistency_proof
from deploytrail_sinks.archive.log.notes import Note, NoteError, Signature, read_signature
from deploytrail_sinks.archive.log.tiles import Read, TileError, Tree
from deploytrail_sinks.archive.log.trust import Trust, Witness
from deploytrail_sinks.archive.log.witness import write_request
from deploytrail_sinks.metrics import LOG_WITNESS_FAILURES

log = logging.getLogger(__name__)
_SECONDS = 10.0  # that one request may take
_ANSWER_LIMIT = 64 << 10


class Cosigners:
    """The witnesses of a trust file. Remembers how far each is, so that most need one request."""

    def __init__(self, trust: Trust, read: Read) -> None:
        self._trust, self._read = trust, read
        self._sizes: dict[str, int] = {}
        self._away: set[str] = set()

    def cosign(self, note: Note) -> Note:
        """The note with the cosignatures that could be had."""
        asked = [w for w in self._trust.witnesses.values() if w.url and w.verifier.signed(note) is None]
        if not asked:
            return note
        with ThreadPoolExecutor(len(asked)) as pool:
            return note.also(
                signature for found in pool.map(lambda w: self._one(w, note), asked) for signature in found
            )

    def _one(self, witness: Witness, note: Note) -> list[Signature]:
        try:
            found = self._ask(witness, note)
        except (OSError, ValueError, NoteError, ProofError, TileError) as error:
            LOG_WITNESS_FAILURES.labels(read_checkpoint(note).origin, witness.name).inc()
            if witness.name not in self._away:
                self._away.add(witness.name)
                log.warning("witness %s does not cosign: %s", witness.name, error)
            return []
        self._away.discard(witness.name)
        return found

    def _ask(self, witness: Witness, note: Note) -> list[Signature]:
        checkpoint = read_checkpoint(note)
        old = min(self._sizes.get(witness.name, 0), checkpoint.size)
        for _ in range(3):
            tree = Tree(self._read, checkpoint.size)
            proof = consistency_proof(old, checkpoint.size, tree.node) if old else ()
            body = write_request(old, [b64encode(step).decode() for step in proof], note)
            status, answer = _post(f"{witness.url.rstrip('/')}/add-checkpoint", body)
            if status == 409:
                theirs = int(answer.strip())
                if theirs > checkpoint.size or theirs == old:
                    raise NoteError(
                        f"it has seen {theirs} entries of this log and refuses the tree of {checkpoint.size}: "
                        "another history, or a newer one"
                    )
                old = theirs
                continue
            if status != 200:
                raise NoteError(f"it answers {status}: {answer[:200].strip()!r}")
            self._sizes[witness.name] = checkpoint.size
            return _checked(witness, note, answer)
        raise NoteError("its size changes with each request")


def _checked(witness: Witness, note: Note, answer: str) -> list[Signature]:
    given = [read_signature(line) for line in answer.removesuffix("\n").split("\n")]
    own = [s for s in given if (s.name, s.key_id) == (witness.verifier.name, witness.verifier.key_id)]
    if witness.verifier.signed(Note(note.text, tuple(own))) is None:
        raise NoteError("its answer has no signature of its key")
    return own


def _post(url: str, body: bytes) -> tuple[int, str]:
    """Status and text; OSError where there is no answer."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url.partition(':')[0]!r} is no address of a witness; expected http:// or https://")
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return answer.status, answer.read(_ANSWER_LIMIT).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(_ANSWER_LIMIT).decode(errors="replace")
