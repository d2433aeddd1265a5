"""What SNS must be asked for: the certificates of its messages, and to begin a subscription.

Nothing is fetched but from `https://sns.REGION.amazonaws.com`, whose name its TLS certificate must
prove, without redirects, and only for messages of topics that are allowed. So a name that resolves
elsewhere gives nothing, and nobody makes the gateway ask a host of his choice.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploytrail_schemas.errors import RetryLater

from deploytrail.gateway.signatures import sns
from deploytrail.gateway.signatures.scheme import Delivery
from deploytrail.gateway.signatures.shown import is_bearer

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 5.0
KEEP_SECONDS, FORGET_SECONDS = 24 * 3600.0, 60.0
MOST_KEPT, MOST_FETCHED, WINDOW_SECONDS = 32, 20, 60.0
MOST_BYTES = 64 << 10

Fetch = Callable[[str], bytes]


class NotThere(Exception):
    """The host answered that there is nothing, or elsewhere: asking again is in vain."""


def fetch(url: str) -> bytes:
    """The body at a URL, at most 64 KiB. NotThere, or OSError where the host cannot be reached."""
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(url, headers={"User-Agent": "deploytrail"})  # the caller checks it
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= 500:
                raise OSError(f"it answered {error.code}") from error
            raise NotThere(f"it answered {error.code}") from error
    if len(data) > MOST_BYTES:
        raise NotThere(f"it has more than {MOST_BYTES} bytes")
    return data


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Sns:
    """Checks messages of SNS, and confirms subscriptions of allowed topics."""

    def __init__(self, fetch: Fetch = fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()  # URL → when, certificate or None
        self._fetched: deque[float] = deque()
        self._lock, self._counting = threading.Lock(), threading.Lock()

    async def check(self, delivery: Delivery, secrets: Sequence[str]) -> bool:
        """Whether a delivery shows a token, or is a message that SNS has signed for an allowed topic.

        RetryLater where the certificate cannot be had now. A raw delivery (without envelope) is not
        signed: it needs the token.
        """
        return is_bearer(delivery.headers, sns.tokens_of(secrets)) or await self._proven(delivery, secrets) is not None

    async def confirm(self, delivery: Delivery, secrets: Sequence[str]) -> str:
        """Begin the subscription that a signed message asks for, and say so; "" where it asks for none."""
        if b"SubscriptionConfirmation" not in delivery.body:
            return ""  # as nearly always, and proven once already
        message = await self._proven(delivery, secrets)
        if message is None or not (url := sns.subscription_url(message)):
            return ""
        topic = message["TopicArn"]
        try:
            await asyncio.to_thread(self._get, url)
        except NotThere as error:
            log.warning("the subscription of %s could not be confirmed: %s", topic, error)
            return f"the subscription of {topic} could not be confirmed: {error}; subscribe again"
        return f"the subscription of {topic} is confirmed"

    async def _proven(self, delivery: Delivery, secrets: Sequence[str]) -> Mapping[str, str] | None:
        message = sns.message_of(delivery, secrets)
        if message is None or not (url := sns.certificate_url(message)):
            return None
        certificate = self._known(url)
        if certificate is _UNKNOWN:
            certificate = await asyncio.to_thread(self._load, url)
        return message if certificate is not None and sns.is_signed(message, certificate, delivery.at) else None

    def _known(self, url: str) -> Any:
        at, certificate = self._kept.get(url, (0.0, _UNKNOWN))
        keep = FORGET_SECONDS if certificate is None else KEEP_SECONDS
        return certificate if self._clock() - at < keep else _UNKNOWN

    def _load(self, url: str) -> Any:
        """The certificate at a URL; None where there is none. In a thread: whoever comes second finds it kept."""
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm

        with self._lock:
            if (certificate := self._known(url)) is not _UNKNOWN:
                return certificate
            try:
                certificate = x509.load_pem_x509_certificate(self._get(url))
                certificate.public_key()
            except (NotThere, ValueError, UnsupportedAlgorithm) as error:
                log.warning("%s is no certificate: %s", url, error)
                certificate = None
            self._kept[url] = (self._clock(), certificate)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return certificate

    def _get(self, url: str) -> bytes:
        with self._counting:
            now = self._clock()
            while self._fetched and now - self._fetched[0] > WINDOW_SECONDS:
                self._fetched.popleft()
            if len(self._fetched) >= MOST_FETCHED:
                raise RetryLater("SNS was asked too often within a minute")
            self._fetched.append(now)
        try:
            return self._fetch(url)
        except OSError as error:
            raise RetryLater(f"SNS does not answer: {error}") from error


_UNKNOWN = object()
SNS = Sns()
