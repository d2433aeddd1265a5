"""Signatures of deliveries, checked in constant time. Pure: time is an argument.

Each check takes every current secret, so that secrets can be rotated without losing a delivery.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 5 * 60
_PREFIX = "whsec_"


def secrets_of(setting: str) -> list[str]:
    """The secrets of a setting: several, separated by commas, while one is being replaced."""
    return [secret.strip() for secret in setting.split(",") if secret.strip()]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a webhook brought: its raw body, its headers by lower-case name, and when (seconds)."""

    body: bytes
    headers: Mapping[str, str]
    at: float


def _any_text(_: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How deliveries of a source are signed: `what` names the header for people.

    `check(delivery, secrets)`: whether it was made with one of the secrets. `problem_of(secret)`:
    why a secret cannot be one of this scheme; empty where it can.
    """

    what: str
    check: Callable[[Delivery, Sequence[str]], bool]
    problem_of: Callable[[str], str] = _any_text


def is_github(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """X-Hub-Signature-256.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    given = delivery.headers.get("x-hub-signature-256", "")
    return _any(given, ("sha256=" + hmac.new(s.encode(), delivery.body, hashlib.sha256).hexdigest() for s in secrets))


def is_standard_webhook(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """webhook-id, webhook-timestamp and webhook-signature; within 5 minutes of the delivery."""
    headers = delivery.headers
    identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not identity or not stamp.isdecimal() or len(stamp) > 12 or abs(delivery.at - int(stamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{identity}.{stamp}.".encode() + delivery.body
    expected = [base64.b64encode(hmac.new(_key_of(s), signed, hashlib.sha256).digest()).decode() for s in secrets]
    given = headers.get("webhook-signature", "").split()
    return any(_any(part.removeprefix("v1,"), expected) for part in given[:16] if part.startswith("v1,"))


def is_bearer(headers: Mapping[str, str], tokens: Sequence[str]) -> bool:
    """Authorization: Bearer TOKEN."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _any(given.strip(), tokens)


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_no_standard_webhook(secret: str) -> str:
    if secret.startswith(_PREFIX) and _key_of(secret):
        return ""
    return "is no Standard Webhooks secret; expected whsec_BASE64"


def _any(given: str, expected: Iterable[str]) -> bool:
    # Every comparison is made, so that time does not tell which secret was near.
    matches = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
    return any(matches) and bool(given)


SCHEMES = {
    "bearer": Scheme("the bearer token", lambda delivery, secrets: is_bearer(delivery.headers, secrets)),
    "github": Scheme("X-Hub-Signature-256", is_github),
    "standard_webhooks": Scheme("the Standard Webhooks signature", is_standard_webhook, _is_no_standard_webhook),
}
