"""Tokens `dtk_ID_SECRET`: text that scanners of leaked secrets know, and that stores keep only a digest of.

    dtk_ + id (12 of 0-9a-z) + _ + secret (32 random bytes, 43 characters of base 62) + checksum (6 of base 62)

The checksum (CRC-32 of all before it) tells a mistyped token from an unknown one, without a look-up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

from deploytrail_schemas.errors import DeploytrailError

PREFIX = "dtk_"
# What a scanner looks for.
PATTERN = r"dtk_[0-9a-z]{12}_[0-9A-Za-z]{49}"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECKSUM = 12, 43, 6
_TOKEN = re.compile(PATTERN, re.ASCII)
_SIGNING = b"deploytrail-record-signing"


class InvalidToken(DeploytrailError):
    """A text that cannot be a token: get the whole token again."""


@dataclass(frozen=True, slots=True)
class Token:
    """A whole token. Its text never shows where it is printed by mistake."""

    id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> str:
        """What a store keeps: SHA-256 of the text, in hexadecimal. The secret has 256 bits: no salt is needed."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def signing_seed(self) -> bytes:
        """32 bytes that an Ed25519 key is made of; the digest does not tell them."""
        secret = self.text[len(PREFIX) + _ID + 1 :][:_SECRET]
        return hmac.digest(_number(secret).to_bytes(32, "big"), _SIGNING, "sha256")


def make_token() -> Token:
    """A new one."""
    identity = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID))
    return _assembled(identity, secrets.token_bytes(32))


def read_token(text: str) -> Token:
    """The token of a text; InvalidToken, which does not repeat the text, where it can be none."""
    if not _TOKEN.fullmatch(text):
        raise InvalidToken("no token: expected dtk_, 12 characters, _, 49 characters")
    body, checksum = text[:-_CHECKSUM], text[-_CHECKSUM:]
    secret = body[-_SECRET:]
    if checksum != _checksum(body) or _number(secret) >= 1 << 256:
        raise InvalidToken("the token's checksum does not fit: it is cut short or mistyped")
    return Token(body[len(PREFIX) :][:_ID], text)


def is_token(text: str) -> bool:
    """Whether a text means to be a token, whole or not."""
    return text.startswith(PREFIX)


def _assembled(identity: str, secret: bytes) -> Token:
    body = f"{PREFIX}{identity}_{_base62(int.from_bytes(secret, 'big'), _SECRET)}"
    return Token(identity, body + _checksum(body))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _number(text: str) -> int:
    number = 0
    for char in text:
        number = number * 62 + _ALPHABET.index(char)
    return number
