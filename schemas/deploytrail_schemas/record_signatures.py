"""Signatures of records that are written to Kafka: Ed25519 over where a record goes and all that is said with it.

The header `dt-signature` is `<token id>:<base64>`. Signed are topic, partition, key, value and the
headers that the intake app believes, each with its length before it, so that no two records share
their bytes. Needs `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from deploytrail_schemas.errors import ConfigurationError, MissingDependencyError
from deploytrail_schemas.headers import CLOCK, ECHO, RECEIVED_AT, REPORTER, SCOPE, SENT_AT, SENT_MONOTONIC, SIGNATURE
from deploytrail_schemas.tokens import InvalidToken, Token, read_token

SIGNED_HEADERS = (SENT_AT, ECHO, RECEIVED_AT, REPORTER)
# Believed since later: signed with their names where they are there, so that older signatures still hold.
_SIGNED_IF_GIVEN = (CLOCK, SENT_MONOTONIC, SCOPE)
_VERSION = b"deploytrail-record-1"


def signed_bytes(topic: str, partition: int, key: bytes, headers: Mapping[str, bytes], value: bytes) -> bytes:
    """What a signature is made of. A header that is missing counts as an empty one."""
    parts = [
        _VERSION,
        topic.encode(),
        str(partition).encode(),
        key,
        *(headers.get(name, b"") for name in SIGNED_HEADERS),
        *(part for name in _SIGNED_IF_GIVEN if name in headers for part in (name.encode(), headers[name])),
        value,
    ]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Signer:
    """Signs records with a token. `name`: the setting that the token comes from, for people."""

    def __init__(self, text: str, name: str) -> None:
        """ConfigurationError for a text that is no token; MissingDependencyError without `cryptography`."""
        try:
            token = read_token(text)
        except InvalidToken as error:
            raise ConfigurationError(f"{name} is {error}") from None
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise MissingDependencyError(
                f"{name} is a dtk_ token: records are signed with it, which needs pip install 'deploytrail[signing]'"
            ) from error
        self._id = token.id
        self._key = Ed25519PrivateKey.from_private_bytes(token.signing_seed)

    def header(
        self,
        topic: str,
        partition: int,
        key: bytes,
        headers: Sequence[tuple[str, bytes]],
        value: bytes,
    ) -> tuple[str, bytes]:
        """The header that proves who wrote a record; it goes beside `headers`."""
        signature = self._key.sign(signed_bytes(topic, partition, key, dict(headers), value))
        return SIGNATURE, f"{self._id}:{base64.b64encode(signature).decode()}".encode()


def public_key_of(token: Token) -> bytes:
    """The 32 bytes by which a token's signatures are checked. MissingDependencyError without `cryptography`."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingDependencyError("tokens need pip install 'deploytrail[signing]'") from error
    return Ed25519PrivateKey.from_private_bytes(token.signing_seed).public_key().public_bytes_raw()


def read_signature(header: str) -> tuple[str, bytes] | None:
    """Token id and signature of a header; None for one that is neither."""
    identity, _, text = header.partition(":")
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (identity, signature) if identity and len(signature) == 64 else None


def is_signed(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature over these bytes was made with the key's other half."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
