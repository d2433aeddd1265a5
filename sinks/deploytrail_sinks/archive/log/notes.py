"""Signed notes and their keys (https://c2sp.org/signed-note, https://c2sp.org/tlog-cosignature). Pure but for new keys.

A verifier key is `NAME+KEYID+BASE64`, a signing key `PRIVATE+KEY+NAME+KEYID+BASE64`; both as Go's
golang.org/x/mod/sumdb/note writes them, the base64 being the kind's byte and the key.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from deploytrail_schemas.errors import ConfigurationError

NOTE_LIMIT = 256 << 10  # bytes; a post-quantum signature is 3.3 kB
SIGNATURES_LIMIT = 64
_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[^\s+\x00-\x1f]{1,255}")


class NoteError(Exception):
    """A note that is malformed, or is not signed by whom it should be."""


class KeyKind(IntEnum):
    """What a key signs: the byte that stands before it."""

    ED25519 = 0x01  # the text of a note
    COSIGNER_ED25519 = 0x04  # a checkpoint, with the time
    COSIGNER_MLDSA44 = 0x06  # a checkpoint's origin, size and root, with the time and the cosigner's name


PUBLIC_BYTES = {KeyKind.ED25519: 32, KeyKind.COSIGNER_ED25519: 32, KeyKind.COSIGNER_MLDSA44: 1312}


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `data`: what follows the key id."""

    name: str
    key_id: bytes
    data: bytes

    def line(self) -> str:
        """As it stands in a note, without the newline."""
        return f"— {self.name} {b64encode(self.key_id + self.data).decode()}"

    @property
    def time(self) -> int:
        """When a cosignature says it was made, seconds since the epoch; of other kinds nonsense."""
        return int.from_bytes(self.data[:8], "big")


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures below it. `text` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(s.line() + chr(10) for s in self.signatures)}"

    def encode(self) -> bytes:
        """The bytes of the note."""
        return str(self).encode()

    def also(self, signatures: Iterable[Signature]) -> Note:
        """The note with further signatures; one of a key that is there already is left out."""
        kept = list(self.signatures)
        for signature in signatures:
            if all((s.name, s.key_id) != (signature.name, signature.key_id) for s in kept):
                kept.append(signature)
        return Note(self.text, tuple(kept))


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that a signature is checked with. `end`: of a retired one, the largest tree that it still speaks for."""

    name: str
    kind: KeyKind
    public: bytes
    end: int | None = None

    def speaks_for(self, size: int) -> bool:
        """Whether the key counts below a tree of a size."""
        return self.end is None or size <= self.end

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"

    def signed(self, note: Note) -> Signature | None:
        """The key's signature below a note; None where there is none; NoteError where it is false."""
        own = [s for s in note.signatures if (s.name, s.key_id) == (self.name, self.key_id)]
        for signature in own:
            self._check(note.text, signature)
        return own[0] if own else None

    def _check(self, text: str, signature: Signature) -> None:
        signed = signature.data if self.kind is KeyKind.ED25519 else signature.data[8:]
        try:
            message = _message(self.kind, self.name, text, signature.time)
            if self.kind is KeyKind.COSIGNER_MLDSA44:
                from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

                MLDSA44PublicKey.from_public_bytes(self.public).verify(signed, message)
            else:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signed, message)
        except InvalidSignature:
            raise NoteError(f"the signature of {self.name} ({self.key_id.hex()}) is false") from None
        except (ImportError, UnsupportedAlgorithm, ValueError) as error:
            raise NoteError(f"the signature of {self.name} cannot be checked here: {error}") from error


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs, and the one that its signatures are checked with."""

    verifier: Verifier
    _seed: bytes

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"  # never the seed

    def sign(self, text: str, now: int) -> Signature:
        """Sign a note's text. `now`: seconds since the epoch, which cosignatures state."""
        kind, name = self.verifier.kind, self.verifier.name
        message = _message(kind, name, text, now)
        if kind is KeyKind.COSIGNER_MLDSA44:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

            signed = MLDSA44PrivateKey.from_seed_bytes(self._seed).sign(message)
        else:
            signed = Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)
        stamped = signed if kind is KeyKind.ED25519 else now.to_bytes(8, "big") + signed
        return Signature(name, self.verifier.key_id, stamped)

    def private_text(self) -> str:
        """The signing key as it is kept in a file: a secret."""
        secret = b64encode(bytes([self.verifier.kind]) + self._seed).decode()
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{secret}"


def _message(kind: KeyKind, name: str, text: str, time: int) -> bytes:
    if kind is KeyKind.ED25519:
        return text.encode()
    if kind is KeyKind.COSIGNER_ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    origin, size, root = text.split("\n")[:3]
    return b"".join(
        (
            b"subtree/v1\n\x00",
            _short(name),
            time.to_bytes(8, "big"),
            _short(origin),
            (0).to_bytes(8, "big"),
            int(size).to_bytes(8, "big"),
            b64decode(root),
        )
    )


def _short(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


def new_signer(name: str, kind: KeyKind) -> Signer:
    """A fresh key; ConfigurationError where the name is none, or this build of cryptography lacks the kind."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no key name: expected a word without space and plus, as example.com/log")
    try:
        if kind is KeyKind.COSIGNER_MLDSA44:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

            seed = MLDSA44PrivateKey.generate().private_bytes_raw()
        else:
            seed = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    except (ImportError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"this build of cryptography has no {kind.name}: {error}") from error
    return _signer(name, kind, seed)


def _signer(name: str, kind: KeyKind, seed: bytes) -> Signer:
    if kind is KeyKind.COSIGNER_MLDSA44:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

        public = MLDSA44PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    else:
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Signer(Verifier(name, kind, public), seed)


def read_verifier(text: str) -> Verifier:
    """The key of `NAME+KEYID+BASE64`; ConfigurationError."""
    name, key_id, kind, key = _key_parts(text.strip(), text.strip())
    verifier = Verifier(name, kind, key)
    if len(key) != PUBLIC_BYTES[kind] or verifier.key_id.hex() != key_id:
        raise ConfigurationError(f"{text.strip()[:80]!r} is no verifier key: its id or length does not fit its key")
    return verifier


def read_signer(text: str) -> Signer:
    """The signing key of a file's text; ConfigurationError, which never shows it."""
    if not text.startswith(_PRIVATE):
        raise ConfigurationError(f"not a signing key: expected {_PRIVATE}NAME+KEYID+BASE64")
    name, key_id, kind, seed = _key_parts(text.strip().removeprefix(_PRIVATE), "a signing key")
    try:
        signer = _signer(name, kind, seed)
    except (ImportError, UnsupportedAlgorithm, ValueError) as error:
        raise ConfigurationError(f"the signing key of {name} cannot be used: {type(error).__name__}") from None
    if signer.verifier.key_id.hex() != key_id:
        raise ConfigurationError(f"the signing key of {name} is damaged: its id does not fit its key")
    return signer


def _key_parts(text: str, shown: str) -> tuple[str, str, KeyKind, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        data = b64decode(encoded, validate=True)
        if not _NAME.fullmatch(name) or not data:
            raise ValueError
        return name, key_id, KeyKind(data[0]), data[1:]
    except (Base64Error, ValueError):
        kinds = ", ".join(f"{kind.value} ({kind.name})" for kind in KeyKind)
        raise ConfigurationError(f"{shown[:80]!r} is no key: expected NAME+KEYID+BASE64 of kind {kinds}") from None


def read_note(data: bytes) -> Note:
    """The note of bytes; NoteError."""
    if len(data) > NOTE_LIMIT:
        raise NoteError(f"has {len(data)} bytes; at most {NOTE_LIMIT}")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise NoteError("is not UTF-8") from None
    if any(char < " " and char != "\n" for char in whole):
        raise NoteError("has a control character")
    text, separator, below = whole.rpartition("\n\n")
    if not separator or not below.endswith("\n"):
        raise NoteError("has no signatures below an empty line")
    lines = below.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_LIMIT:
        raise NoteError(f"has {len(lines)} signatures; at most {SIGNATURES_LIMIT}")
    return Note(f"{text}\n", tuple(map(read_signature, lines)))


def read_signature(line: str) -> Signature:
    """The signature of a line; NoteError."""
    match line.split(" "):
        case ["—", name, encoded] if _NAME.fullmatch(name):
            try:
                data = b64decode(encoded, validate=True)
            except (Base64Error, ValueError):
                data = b""
            # One spelling only: base64 leaves bits of the last letter free.
            if len(data) > 4 and b64encode(data).decode() == encoded:
                return Signature(name, data[:4], data[4:])
    raise NoteError(f"has a line that is no signature: {line[:60]!r}")


def signers(verifiers: Iterable[Verifier], note: Note) -> dict[Verifier, Signature]:
    """Which of some keys signed a note; NoteError where one of theirs is false."""
    found = ((verifier, verifier.signed(note)) for verifier in verifiers)
    return {verifier: signature for verifier, signature in found if signature is not None}
