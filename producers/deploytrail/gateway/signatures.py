"""Signatures of deliveries, checked in constant time. Pure: time is an argument.

Each check takes every current secret, so that secrets can be rotated without losing a delivery.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence

from deploytrail_schemas.errors import ConfigurationError

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 5 * 60
_PREFIX = "whsec_"


def secrets_of(setting: str) -> list[str]:
    """The secrets of a setting: several, separated by commas, while one is being replaced."""
    return [secret.strip() for secret in setting.split(",") if secret.strip()]


def is_github(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """X-Hub-Signature-256.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    given = headers.get("x-hub-signature-256", "")
    return _any(given, ("sha256=" + hmac.new(s.encode(), body, hashlib.sha256).hexdigest() for s in secrets))


def is_standard_webhook(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], *, now: float) -> bool:
    """webhook-id, webhook-timestamp and webhook-signature; within 5 minutes of `now` (seconds)."""
    identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not identity or not stamp.isdecimal() or len(stamp) > 12 or abs(now - int(stamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{identity}.{stamp}.".encode() + body
    expected = [base64.b64encode(hmac.new(key_of(s), signed, hashlib.sha256).digest()).decode() for s in secrets]
    given = headers.get("webhook-signature", "").split()
    return any(_any(part.removeprefix("v1,"), expected) for part in given[:16] if part.startswith("v1,"))


def is_bearer(headers: Mapping[str, str], tokens: Sequence[str]) -> bool:
    """Authorization: Bearer TOKEN."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _any(given.strip(), tokens)


def key_of(secret: str) -> bytes:
    """The key of a Standard Webhooks secret, whsec_BASE64; ConfigurationError for any other."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not key:
        raise ConfigurationError("DEPLOYTRAIL_CDEVENTS_SECRET is no Standard Webhooks secret; expected whsec_BASE64")
    return key


def _any(given: str, expected: Iterable[str]) -> bool:
    # Every comparison is made, so that time does not tell which secret was near.
    matches = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
    return any(matches) and bool(given)
