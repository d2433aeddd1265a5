"""The gate's keys: a folder of private Ed25519 keys, of which the newest signs and all are published.

A key's id is its file's name without `.pem`; the last in alphabetical order signs, so names begin with a date.
To rotate, put a new file beside the old one, and take the old one away once its last permit has expired, after
15 minutes. The folder is read again when it changes. No private key leaves this module.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.permits import ALGORITHM, TYPE

log = logging.getLogger(__name__)
_OTHERS = 0o077
Mark = tuple[tuple[str, int, int], ...]


class GateKeys:
    """The keys of a folder."""

    def __init__(self, folder: Path) -> None:
        """ConfigurationError where there is no key, one is none, or others than the owner may read one."""
        self._folder = folder
        self._mark = _mark(folder)
        self._keys = _read(folder)

    def sign(self, claims: Mapping[str, Any]) -> tuple[str, str]:
        """A permit in compact form (RFC 7515), and the id of the key that signed it."""
        self._renew()
        kid = max(self._keys)
        head = _base64url(_json({"alg": ALGORITHM, "typ": TYPE, "kid": kid}))
        signed = f"{head}.{_base64url(_json(claims))}"
        return f"{signed}.{_base64url(self._keys[kid].sign(signed.encode()))}", kid

    def published(self) -> dict[str, Any]:
        """The public keys as a JWKS (RFC 7517, RFC 8037)."""
        self._renew()
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": kid,
                    "use": "sig",
                    "alg": ALGORITHM,
                    "x": _base64url(key.public_key().public_bytes_raw()),
                }
                for kid, key in sorted(self._keys.items())
            ]
        }

    def _renew(self) -> None:
        mark = _mark(self._folder)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._keys = _read(self._folder)
        except ConfigurationError as error:
            log.error("%s; the keys that were read before stand", error)


def _mark(folder: Path) -> Mark:
    try:
        return tuple((p.name, (s := p.stat()).st_mtime_ns, s.st_ino) for p in sorted(folder.glob("*.pem")))
    except OSError:
        return ()


def _read(folder: Path) -> dict[str, Ed25519PrivateKey]:
    found = {path.stem: _read_key(path) for path in sorted(folder.glob("*.pem"))}
    if not found:
        hint = "openssl genpkey -algorithm ed25519 -out 2026-01.pem"
        raise ConfigurationError(f"the gate has no key in {str(folder)!r} (DEPLOYTRAIL_GATE_KEYS): make one, {hint}")
    return found


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & _OTHERS:
            raise ConfigurationError(f"the gate's key {path.name} can be read by others than its owner: chmod 600")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(f"the gate's key {path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:  # the text of these errors never holds the key
        raise ConfigurationError(f"{path.name} is no private key in PEM without password: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path.name} is no Ed25519 key; permits are signed with EdDSA alone")
    return key


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
