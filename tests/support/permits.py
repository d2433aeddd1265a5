"""Permits for tests, issued by PyJWT: what we check is checked against somebody else's writing of the standard."""

from __future__ import annotations

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.permits import TYPE, Authority, Subject, read_keys

ISSUER, AUDIENCE, KID = "https://gate.example", "deploytrail", "2026-11"
# 2026-11-02T12:00:00Z, in seconds.
NOON = 1_793_620_800
DIGEST = "sha256:" + "1b" * 32
OTHER_DIGEST = "sha256:" + "2c" * 32
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SUBJECT = Subject(DIGEST, "checkout", "production", "eu-west-1", "checkout-42")


def jwk_of(key: Any = KEY, kid: str = KID, **more: Any) -> dict[str, Any]:
    """The public JWK of a private key."""
    algorithm = jwt.get_algorithm_by_name("EdDSA" if isinstance(key, Ed25519PrivateKey) else "RS256")
    return json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} | more


def jwks(*keys: dict[str, Any]) -> bytes:
    """A JWKS; default: of the gate's key."""
    return json.dumps({"keys": list(keys) or [jwk_of()]}).encode()


AUTHORITY = Authority(read_keys(jwks(), "keys"), ISSUER, AUDIENCE)


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good permit, issued at noon for five minutes; a claim that is None is left out."""
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "checkout-42",
        "service": "checkout",
        "environment": "production",
        "region": "eu-west-1",
        "artifact_digest": DIGEST,
        "change_ticket": "CHG0031337",
        "jti": "permit-1",
        "iat": NOON,
        "nbf": NOON,
        "exp": NOON + 300,
        **changed,
    }
    return {name: value for name, value in found.items() if value is not None}


def permit(key: Any = KEY, *, head: dict[str, Any] | None = None, alg: str = "EdDSA", **changed: Any) -> str:
    """A signed permit with changed claims or header."""
    header = {"typ": TYPE, "kid": KID, **(head or {})}
    said = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(claims(**changed), key, alg, said)
