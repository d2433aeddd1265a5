"""Keys of an issuer (JWKS, RFC 7517): from a file, or fetched and kept.

A fetched set is renewed once an hour, and at once for a key it does not hold, but never more than
once a minute: whoever makes up key ids cannot make us ask the issuer all the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError, RetryLater

log = logging.getLogger(__name__)
RENEW_SECONDS, PAUSE_SECONDS, KEEP_SECONDS = 3600.0, 60.0, 24 * 3600.0
TIMEOUT_SECONDS = 5.0
_MOST_BYTES, _MOST_KEYS = 512 << 10, 200
_KINDS = ("RSA", "EC", "OKP")

Jwk = dict[str, Any]


class KeySet:
    """The keys of one issuer by key id."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`source`: a URL or the path of a file. ConfigurationError where the file holds no keys."""
        self._source, self._clock = source, clock
        self._keys: dict[str, Jwk] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()
        self._is_url = "://" in source
        self._mark = 0
        if not self._is_url:
            self._read_file()

    async def key(self, kid: str) -> Jwk | None:
        """The key of an id; None where the issuer has none. RetryLater where its keys cannot be had at all."""
        if not self._is_url:
            self._read_file_again()
        elif self._must_ask(kid):
            async with self._lock:
                if self._must_ask(kid):
                    await self._fetch()
        if self._is_url and (self._fetched is None or self._clock() - self._fetched > KEEP_SECONDS):
            raise RetryLater(f"the keys of {self._source} cannot be fetched")
        return self._keys.get(kid)

    def _must_ask(self, kid: str) -> bool:
        now = self._clock()
        if self._tried is not None and now - self._tried < PAUSE_SECONDS:
            return False
        return self._fetched is None or kid not in self._keys or now - self._fetched > RENEW_SECONDS

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            self._keys = read_jwks(await asyncio.to_thread(_download, self._source))
            self._fetched = self._clock()
        except (OSError, ValueError) as error:  # URLError is an OSError
            log.error("the keys of %s cannot be fetched: %s; those from before stand for a day", self._source, error)

    def _read_file(self) -> None:
        try:
            self._mark = Path(self._source).stat().st_mtime_ns
            self._keys = read_jwks(Path(self._source).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"DEPLOYTRAIL_OIDC: the keys {self._source} cannot be read: {error}") from error

    def _read_file_again(self) -> None:
        try:
            if Path(self._source).stat().st_mtime_ns != self._mark:
                self._read_file()
        except (OSError, ConfigurationError) as error:
            log.error("%s; the keys from before stand", error)


def source_bytes(source: str) -> bytes:
    """What a URL or the path of a file holds; OSError, ValueError where it is too large."""
    return _download(source) if "://" in source else Path(source).read_bytes()


def read_jwks(data: bytes) -> dict[str, Jwk]:
    """The public keys for signatures of a JWKS by their ids; what has no id, or is symmetric, is left out.

    ValueError where it is no JWKS or no key of it can be used.
    """
    value = json.loads(data)
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list):
        raise ValueError("no JWKS: expected an object with keys")
    found = {
        key["kid"]: key
        for key in keys[:_MOST_KEYS]
        if isinstance(key, dict)
        and isinstance(key.get("kid"), str)
        and key.get("kty") in _KINDS
        and key.get("use", "sig") == "sig"
        and "d" not in key  # a private one
    }
    if not found:
        raise ValueError("the JWKS has no key that can check a signature")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _download(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "deploytrail"})
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        data: bytes = answer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"the JWKS has more than {_MOST_BYTES} bytes")
    return data
