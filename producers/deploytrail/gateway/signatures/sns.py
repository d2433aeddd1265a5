"""Messages of Amazon SNS: what is signed, with whose certificate, and which URLs may be asked. Pure.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. The secrets of such a
source are the ARNs of topics, which are no secret: whoever signs with AWS's key may speak for them.
What is no ARN is a bearer token, which API destinations of EventBridge send.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deploytrail_schemas.json_values import JsonError, parse_json

from deploytrail._reported import FORM, MAX_BODY_BYTES, media_type
from deploytrail.adapters.base import instant
from deploytrail.gateway.signatures.scheme import Delivery

# SNS gives up an HTTPS endpoint after at most an hour; behind that a message is a replay.
# https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
OLDEST_SECONDS, AHEAD_SECONDS = 3600 + 5 * 60, 5 * 60
CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(CONFIRMATIONS, ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")),
}
# Not just any name between the dots: sns.s3.amazonaws.com is a bucket that anybody may have made.
_REGION = r"[a-z]{2,4}(?:-[a-z]+){1,2}-[0-9]{1,2}"
_HOST = re.compile(rf"sns\.({_REGION})\.amazonaws\.com(?:\.cn)?")
_TOPIC = re.compile(rf"arn:aws(?:-[a-z]+)*:sns:({_REGION}):[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem")
_SHORTEST_TOKEN = 16


def is_no_topic(secret: str) -> str:
    """Why a secret is neither the ARN of a topic nor a token; "" where it is one."""
    if secret.startswith("arn:"):
        return "" if _TOPIC.fullmatch(secret) else "is no ARN of an SNS topic; expected arn:aws:sns:REGION:ACCOUNT:NAME"
    return "" if len(secret) >= _SHORTEST_TOKEN else f"is too short for a token; expected {_SHORTEST_TOKEN} characters"


def tokens_of(secrets: Sequence[str]) -> list[str]:
    """Those that are bearer tokens: an ARN is known to many."""
    return [secret for secret in secrets if not secret.startswith("arn:")]


def message_of(delivery: Delivery, secrets: Sequence[str]) -> Mapping[str, str] | None:
    """The message of a delivery, still unproven; None where it is none, too old, or of a topic that is not allowed."""
    if media_type(delivery.headers.get("content-type", "")) == FORM:
        return None  # SNS sends none, and fields of a form within an unsigned part of a message are not signed
    try:
        given = parse_json(delivery.body, MAX_BODY_BYTES)
    except JsonError:
        return None
    if not isinstance(given, dict):
        return None
    message = {name: value for name, value in given.items() if isinstance(value, str)}
    sent_at = instant(message.get("Timestamp"))
    if sent_at is None or not -AHEAD_SECONDS <= delivery.at - sent_at / 1e6 <= OLDEST_SECONDS:
        return None
    if message.get("TopicArn") not in secrets or not _TOPIC.fullmatch(message["TopicArn"]):
        return None
    return message if message.get("Type") in _SIGNED else None


def certificate_url(message: Mapping[str, str]) -> str:
    """Where the signer's certificate lies; "" where that is not where SNS keeps its own."""
    url = message.get("SigningCertURL") or message.get("SigningCertUrl") or ""
    return url if _CERTIFICATE.fullmatch(_path_at_sns(url)) and "?" not in url else ""


def subscription_url(message: Mapping[str, str]) -> str:
    """Where a subscription is confirmed; "" where the message asks for nothing, or for something else."""
    url, topic = message.get("SubscribeURL", ""), message.get("TopicArn", "")
    if message.get("Type") != "SubscriptionConfirmation" or _path_at_sns(url) != "/":
        return ""
    asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
    wanted = {"Action": ["ConfirmSubscription"], "TopicArn": [topic], "Token": [message.get("Token", "")]}
    region = _HOST.fullmatch(urlsplit(url).netloc)
    of_topic = _TOPIC.fullmatch(topic)
    is_its_own = region is not None and of_topic is not None and region[1] == of_topic[1]
    return url if asked == wanted and is_its_own else ""


def _path_at_sns(url: str) -> str:
    """The path of an https URL of SNS; "" for any other URL: another scheme, host or port, or with a user."""
    if not url.isascii() or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    # netloc holds user and port too: the whole of it must be the host's name.
    return parts.path if parts.scheme == "https" and _HOST.fullmatch(parts.netloc) and not parts.fragment else ""


def is_signed(message: Mapping[str, str], certificate: Any, at: float) -> bool:
    """Whether the key of an x509.Certificate that holds at `at` (seconds) has signed a message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    digests = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # SNS signs so unless told otherwise
    digest, key = digests.get(message.get("SignatureVersion", "")), certificate.public_key()
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    holds = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    if digest is None or not holds or not isinstance(key, RSAPublicKey):
        return False
    try:
        signature = base64.b64decode(message.get("Signature", ""), validate=True)
        key.verify(signature, text_to_sign(message), PKCS1v15(), digest)
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


def text_to_sign(message: Mapping[str, str]) -> bytes:
    """The fields that are signed, each name and value on lines of their own; a missing Subject is left out."""
    names = [name for name in _SIGNED[message["Type"]] if name != "Subject" or name in message]
    return "".join(f"{name}\n{message.get(name, '')}\n" for name in names).encode("utf-8", "surrogatepass")
