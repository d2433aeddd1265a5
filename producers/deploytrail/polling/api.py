"""One API over HTTP: conditional requests, pages, and the limits that it asks us to keep.

RFC 9110 (ETag, If-None-Match, Retry-After), RFC 8288 (Link). What is unchanged costs GitHub's
callers nothing: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from deploytrail_schemas.errors import ConfigurationError, RetryLater

TIMEOUT_SECONDS = 20.0
MAX_BYTES = 32 << 20
MAX_PAGES = 200
LONGEST_QUIET = 2 * 3600.0  # seconds; GitHub's limits are renewed within one hour
_KEPT = 2000
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?', re.ASCII)
# Remaining requests and when they are renewed: GitHub, GitLab.
_LIMITS = (("x-ratelimit-remaining", "x-ratelimit-reset"), ("ratelimit-remaining", "ratelimit-reset"))


class SlowDown(RetryLater):
    """The API asks to be left alone until `until`, seconds since the epoch."""

    def __init__(self, detail: str, until: float) -> None:
        super().__init__(detail)
        self.until = until


class NotThere(ConfigurationError):
    """The API has no such thing, or does not show it to this token."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its value, its headers by lower-case name, and whether it is as it was when last asked."""

    value: Any
    headers: Mapping[str, str]
    is_unchanged: bool


class Api:
    """Asks below one base URL, with one credential that goes to no other host."""

    def __init__(self, base: str, headers: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        self.base = base.rstrip("/")
        self.remaining: int | None = None  # requests that the API still grants, as far as it says
        self._headers = {"Accept": "application/json", "User-Agent": "deploytrail", **headers}
        self._clock = clock
        self._quiet_until = 0.0
        self._kept: OrderedDict[str, tuple[str, Page]] = OrderedDict()
        self._opener = urllib.request.build_opener(_NoRedirect)

    def get(self, path: str, **query: str | int) -> Page:
        """The answer to GET base/path. RetryLater, ConfigurationError: see `get_url`."""
        asked = f"?{urlencode(query)}" if query else ""
        return self.get_url(f"{self.base}/{path.lstrip('/')}{asked}")

    def get_url(self, url: str) -> Page:
        """The answer to GET url.

        SlowDown while the API wants no requests, RetryLater where it cannot be reached or fails,
        ConfigurationError where it refuses: the token, the name or the URL is wrong.
        """
        if self._clock() < self._quiet_until:
            raise SlowDown(f"{self._host} asks to wait", self._quiet_until)
        kept = self._kept.get(url)
        try:
            page = self._ask(url, {"If-None-Match": kept[0]} if kept else {})
        except urllib.error.HTTPError as error:
            headers = _lower(error.headers)
            self._heed(headers)
            if error.code == 304 and kept:
                self._kept.move_to_end(url)
                return Page(kept[1].value, kept[1].headers, True)
            raise self._problem(url, error.code, headers) from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise RetryLater(f"{self._host} cannot be asked: {error or type(error).__name__}") from error
        self._heed(page.headers)
        if tag := page.headers.get("etag"):
            self._kept[url] = (tag, page)
            self._kept.move_to_end(url)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return page

    def pages(self, path: str, **query: str | int) -> Iterator[Page]:
        """Every page of a list, by `Link: rel=next`. What lies on another host is not followed."""
        page = self.get(path, **query)
        url = f"{self.base}/{path.lstrip('/')}"
        for _ in range(MAX_PAGES):
            yield page
            following = _NEXT.search(page.headers.get("link", ""))
            if following is None:
                return
            try:
                url = urljoin(url, following[1])
            except ValueError as error:
                raise RetryLater(f"{self._host} names a next page that is no URL: {error}") from error
            if _origin(url) != _origin(self.base):
                raise RetryLater(f"{self._host} sends its callers on to {_origin(url)}, where its token must not go")
            page = self.get_url(url)

    @property
    def _host(self) -> str:
        return urlsplit(self.base).hostname or self.base

    def _ask(self, url: str, more: Mapping[str, str]) -> Page:
        request = urllib.request.Request(url, headers={**self._headers, **more})
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            data = answer.read(MAX_BYTES + 1)
            headers = _lower(answer.headers)
        if len(data) > MAX_BYTES:
            raise ValueError(f"an answer has more than {MAX_BYTES} bytes")
        return Page(_value_of(data), headers, False)

    def _heed(self, headers: Mapping[str, str]) -> None:
        for remaining, reset in _LIMITS:
            if (left := headers.get(remaining, "")).isdecimal():
                self.remaining = int(left)
                if self.remaining == 0 and headers.get(reset, "").isdecimal():
                    self._be_quiet_until(float(headers[reset]))

    def _be_quiet_until(self, at: float) -> None:
        """Heed what the API asks for, but not for ever: whatever it says by mistake is over some day."""
        self._quiet_until = max(self._quiet_until, min(at, self._clock() + LONGEST_QUIET))

    def _problem(self, url: str, status: int, headers: Mapping[str, str]) -> Exception:
        wait = self._retry_after(headers)
        now = self._clock()
        if wait is None and status in (403, 429) and self._quiet_until > now:
            wait = self._quiet_until - now
        if wait is not None or status == 429:
            self._be_quiet_until(now + (60.0 if wait is None else wait))
            return SlowDown(f"{self._host} answers {status} and asks to wait", self._quiet_until)
        path = urlsplit(url).path
        if 300 <= status < 400:
            target = headers.get("location", "another place")
            return ConfigurationError(f"{path} has moved to {target}: name it as it is called now")
        if status in (401, 403):
            return ConfigurationError(
                f"{self._host} answers {status} for {path}: the token is missing, wrong or too weak"
            )
        if status in (404, 410):
            return NotThere(f"{self._host} has no {path}, or does not show it to this token")
        return RetryLater(f"{self._host} answers {status} for {path}")

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        given = headers.get("retry-after", "").strip()
        if given.isdecimal():
            return float(given)
        try:
            return max(0.0, parsedate_to_datetime(given).timestamp() - self._clock()) if given else None
        except ValueError:
            return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # A redirect would carry the credential along.
    def redirect_request(self, *_: Any) -> None:
        return None


def _value_of(data: bytes) -> Any:
    """The value of a JSON text; halves of surrogate pairs, which no record can hold, become question marks."""
    value = json.loads(data)
    if b"\\ud" in data.lower():
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(text) for name, text in headers.items()}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
