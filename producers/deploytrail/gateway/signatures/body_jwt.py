"""JSON Web Tokens whose claims hold the digest of the body, signed with HS256.

What real sources do:

- Netlify's deploy notifications: X-Webhook-Signature, claim `sha256`
  (https://docs.netlify.com/deploy/deploy-notifications/#payload-signature);
- Vonage and Bird: Authorization: Bearer, or a header of their own, claim `payload_hash` and a time
  (https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks);
- Plaid: claim `request_body_sha256`, but ES256 with keys that it publishes: not this scheme;
- Atlassian Connect: Authorization: JWT, claim `qsh`, the hash of method, path and query. It does not cover the body,
  so whoever sees one delivery could send another with its token: refused here. Jira's and Bitbucket's own webhooks
  sign the body (`hub_signature`).

`none`, other algorithms and tokens without a digest of the body are refused. https://www.rfc-editor.org/rfc/rfc7519
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from deploytrail.gateway.signatures.scheme import TOLERANCE_SECONDS, Delivery, bytes_of, is_any

_MAX_LENGTH = 8192
_DIGESTS = ("payload_hash", "sha256", "request_body_sha256")


def is_jwt(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """Authorization: Bearer or JWT, or X-Webhook-Signature; its times, where it has them, within 5 minutes."""
    token = _shown(delivery)
    signed, _, signature = token.rpartition(".")
    expected = [_base64url(hmac.new(s.encode(), bytes_of(signed), hashlib.sha256).digest()) for s in secrets]
    if len(token) > _MAX_LENGTH or not is_any(signature, expected):
        return False
    head, _, body = signed.partition(".")
    claims = _part(body)
    if _part(head).get("alg") != "HS256" or not _holds(claims, delivery.at):
        return False
    digest = next((claims[name] for name in _DIGESTS if isinstance(claims.get(name), str)), "")
    return is_any(digest.lower(), [hashlib.sha256(delivery.body).hexdigest()])


def _shown(delivery: Delivery) -> str:
    scheme, _, token = delivery.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "jwt"):
        return token.strip()
    return delivery.headers.get("x-webhook-signature", "")


def _holds(claims: dict[str, Any], at: float) -> bool:
    """Whether it was issued now, holds already and is not over; a claim that is no number holds never."""
    issued, begins, ends = (claims.get(name) for name in ("iat", "nbf", "exp"))
    return all(
        moment is None
        or (isinstance(moment, (int, float)) and not isinstance(moment, bool) and earliest <= moment <= latest)
        for moment, earliest, latest in (
            (issued, at - TOLERANCE_SECONDS, at + TOLERANCE_SECONDS),
            (begins, float("-inf"), at + TOLERANCE_SECONDS),
            (ends, at - TOLERANCE_SECONDS, float("inf")),
        )
    )


def _part(given: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
