"""Secrets that are sent along, unsigned: bearer tokens, Basic authentication. TLS is all that keeps them."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence

from deploytrail.gateway.signatures.scheme import Delivery, is_any


def is_bearer(headers: Mapping[str, str], tokens: Sequence[str]) -> bool:
    """Authorization: Bearer TOKEN."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_any(given.strip(), tokens)


def is_bearer_delivery(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """The same, of a webhook."""
    return is_bearer(delivery.headers, secrets)


def is_datadog(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """DD-API-KEY, https://docs.datadoghq.com/api/latest/authentication/: what Datadog's own clients send."""
    return is_any(delivery.headers.get("dd-api-key", ""), secrets)


def is_basic(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """Authorization: Basic, https://www.rfc-editor.org/rfc/rfc7617; a secret is `user:password`."""
    scheme, _, given = delivery.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        shown = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return any([hmac.compare_digest(shown, secret.encode()) for secret in secrets])


def is_no_basic(secret: str) -> str:
    """The user may be empty (Azure DevOps), the password not."""
    return "" if secret.partition(":")[2] else "has no user and password; expected user:password"
