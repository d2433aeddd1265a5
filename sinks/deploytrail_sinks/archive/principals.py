"""Who may act on the archive: names with Ed25519 keys, kept by whoever runs it and not in the archive itself.

    {"ada": "<32 bytes, base64>", "grace": "<PEM of a public key>"}

in the file of DEPLOYTRAIL_ARCHIVE_PRINCIPALS. Everybody keeps the private key to himself:
`openssl genpkey -algorithm ed25519 -out ada.pem`, and `openssl pkey -in ada.pem -pubout` for the file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from deploytrail_schemas.errors import ConfigurationError

_LABEL = b"deploytrail archive act v1\n"  # a signature of something else must not pass for one of an act


@dataclass(frozen=True, slots=True)
class Signer:
    """Somebody who acts, with his private key."""

    name: str
    key: Ed25519PrivateKey

    def sign(self, statement: bytes) -> bytes:
        """The signature of a statement."""
        return self.key.sign(_LABEL + statement)


class Principals:
    """Names and public keys. No key may have two names: one person would be two."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)
        raw = [key.public_bytes_raw() for key in self._keys.values()]
        if len(set(raw)) != len(raw):
            raise ConfigurationError("two principals have the same key; expected one key a person")

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def signed(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a statement is signed by whom it names."""
        key = self._keys.get(name)
        if key is None:
            return False
        try:
            key.verify(signature, _LABEL + statement)
        except InvalidSignature:
            return False
        return True

    def signer(self, name: str, path: Path) -> Signer:
        """Somebody of these, with the private key of a PEM file; ConfigurationError where it is another's."""
        try:
            key = load_pem_private_key(path.expanduser().read_bytes(), password=None)
        except OSError as error:
            raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError(f"{path} is no PEM of an unencrypted private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(f"{path} is no Ed25519 key; make one: openssl genpkey -algorithm ed25519")
        known = self._keys.get(name)
        if known is None:
            raise ConfigurationError(
                f"{name!r} is no principal; DEPLOYTRAIL_ARCHIVE_PRINCIPALS names {sorted(self._keys)}"
            )
        if known.public_bytes_raw() != key.public_key().public_bytes_raw():
            raise ConfigurationError(f"{path} is not the key of {name}")
        return Signer(name, key)


def read_principals(path: Path) -> Principals:
    """The principals of a file; ConfigurationError where it cannot be read."""
    try:
        given = json.loads(path.expanduser().read_text())
        return Principals({str(name): _public(text) for name, text in given.items()})
    except OSError as error:
        raise ConfigurationError(f"DEPLOYTRAIL_ARCHIVE_PRINCIPALS: {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"DEPLOYTRAIL_ARCHIVE_PRINCIPALS: {path} is no JSON of names and Ed25519 public keys (base64 or PEM)"
        ) from None


def _public(text: str) -> Ed25519PublicKey:
    if "BEGIN" not in text:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    key = load_pem_public_key(text.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError
    return key
