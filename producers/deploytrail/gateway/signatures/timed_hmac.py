"""HMACs of the body and of when it was sent: what comes more than 5 minutes off is refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from deploytrail.gateway.signatures.body_hmac import MAX_SIGNATURES
from deploytrail.gateway.signatures.scheme import Delivery, is_any, is_recent

_PREFIX = "whsec_"


def is_standard_webhook(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """webhook-id, webhook-timestamp and webhook-signature; within 5 minutes of the delivery.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    headers = delivery.headers
    identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not identity or not is_recent(stamp, delivery.at):
        return False
    signed = identity.encode("utf-8", "surrogatepass") + f".{stamp}.".encode() + delivery.body
    keys = [key for secret in secrets if (key := _key_of(secret))]
    expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys]
    given = headers.get("webhook-signature", "").split()
    shown = [part.removeprefix("v1,") for part in given[:MAX_SIGNATURES] if part.startswith("v1,")]
    return any([is_any(part, expected) for part in shown])


def is_no_standard_webhook(secret: str) -> str:
    """Why a secret is none of `whsec_BASE64`."""
    if secret.startswith(_PREFIX) and _key_of(secret):
        return ""
    return "is no Standard Webhooks secret; expected whsec_BASE64"


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def is_gitlab(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """X-Gitlab-Token for a secret token; for a signing token (`whsec_…`) the Standard Webhooks' signature.

    https://docs.gitlab.com/user/project/integrations/webhooks/
    """
    shown = is_any(delivery.headers.get("x-gitlab-token", ""), [s for s in secrets if not s.startswith(_PREFIX)])
    signed = is_standard_webhook(delivery, [s for s in secrets if s.startswith(_PREFIX)])
    return shown or signed


def is_no_gitlab(secret: str) -> str:
    """Only a signing token can be wrong."""
    return is_no_standard_webhook(secret) if secret.startswith(_PREFIX) else ""


def is_slack(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """X-Slack-Signature over `v0:timestamp:body`.

    https://docs.slack.dev/authentication/verifying-requests-from-slack
    """
    stamp = delivery.headers.get("x-slack-request-timestamp", "")
    if not is_recent(stamp, delivery.at):
        return False
    expected = [f"v0={_hex(secret, f'v0:{stamp}:'.encode() + delivery.body)}" for secret in secrets]
    return is_any(delivery.headers.get("x-slack-signature", ""), expected)


def is_buildkite(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """X-Buildkite-Signature: timestamp=…,signature=… over `timestamp.body`; or the secret itself in X-Buildkite-Token.

    Which of them a service sends is chosen there. https://buildkite.com/docs/apis/webhooks/pipelines#webhook-signature
    """
    given = delivery.headers.get("x-buildkite-signature", "")
    if not given:
        return is_any(delivery.headers.get("x-buildkite-token", ""), secrets)
    parts = dict(part.strip().partition("=")[::2] for part in given.split(",", 4)[:4])
    stamp = parts.get("timestamp", "")
    if not is_recent(stamp, delivery.at):
        return False
    expected = [_hex(secret, f"{stamp}.".encode() + delivery.body) for secret in secrets]
    return is_any(parts.get("signature", ""), expected)


def is_grafana(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """X-Grafana-Alerting-Signature over the body, or `timestamp:body` where the contact point sends a timestamp.

    The name of that header is the contact point's to choose; the two of Grafana's examples are read here:
    X-Grafana-Alerting-Signature-Timestamp and X-Grafana-Alerting-Timestamp.
    https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
    """
    headers = delivery.headers
    stamp = headers.get("x-grafana-alerting-signature-timestamp") or headers.get("x-grafana-alerting-timestamp", "")
    if stamp and not is_recent(stamp, delivery.at):
        return False
    signed = f"{stamp}:".encode() + delivery.body if stamp else delivery.body
    return is_any(headers.get("x-grafana-alerting-signature", ""), [_hex(s, signed) for s in secrets])


def _hex(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
