"""A checkpoint: how large a log is and what its root is (https://c2sp.org/tlog-checkpoint). Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

from deploytrail_sinks.archive.log.merkle import HASH_BYTES
from deploytrail_sinks.archive.log.notes import Note, NoteError, read_note

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. `origin` names the log."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def read_size(text: str) -> int:
    """A decimal number without leading zeros; NoteError."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0") or len(text) > 19:
        raise NoteError(f"size {text[:30]!r} is no decimal number without leading zeros")
    if int(text) > _LARGEST:
        raise NoteError(f"size {text} is too large")
    return int(text)


def read_hash(text: str) -> bytes:
    """A hash in base64; NoteError."""
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        data = b""
    # One spelling only: base64 leaves two bits of the last letter free.
    if len(data) != HASH_BYTES or b64encode(data).decode() != text:
        raise NoteError(f"hash {text[:60]!r} is not {HASH_BYTES} bytes in base64")
    return data


def read_checkpoint(note: Note) -> Checkpoint:
    """The checkpoint that a note's text is; NoteError. Lines after the third are refused: nobody could audit them."""
    match note.text.split("\n"):
        case [origin, size, root, ""] if origin.strip():
            return Checkpoint(origin, read_size(size), read_hash(root))
    raise NoteError("is no checkpoint: expected three lines, origin, size and root")


def open_checkpoint(data: bytes) -> tuple[Checkpoint, Note]:
    """The checkpoint of a note's bytes; NoteError. Signatures are not checked."""
    note = read_note(data)
    return read_checkpoint(note), note
