"""One JSON request over HTTP, with an error that says what to do. Nothing of an address that may be secret is told."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.errors import DeploytrailError, RetryLater

TIMEOUT = 10.0
# RFC 9110, 15.5.9 and RFC 6585, 4: asked to come again; everything of 5xx too.
AGAIN = frozenset({408, 425, 429})
_LONGEST = 64 << 20


class Refused(DeploytrailError):
    """The receiver will never take this request."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


def request(method: str, url: str, body: Any = None) -> Any:
    """The answer's JSON; None for an empty one. RetryLater or Refused."""
    _, text = send(method, url, body)
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        raise RetryLater(f"{shown(url)} does not answer in JSON") from None


def send(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Send JSON; status and body of the answer, whatever that is. RetryLater or Refused."""
    data = json.dumps(body).encode() if body is not None else None
    said = {"Content-Type": "application/json", "User-Agent": "deploytrail", **(headers or {})}
    asked = urllib.request.Request(url, data, said, method=method)
    try:
        with _opener(url).open(asked, timeout=TIMEOUT) as response:
            return response.status, response.read(_LONGEST)
    except urllib.error.HTTPError as error:
        with error:
            answer = error.read(300).decode("utf-8", "replace")
        if error.code >= 500 or error.code in AGAIN:
            raise RetryLater(f"{shown(url)} answers {error.code}: {answer}") from None
        raise Refused(error.code, answer) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # what answers does not speak HTTP
        raise RetryLater(f"{shown(url)} does not answer: {error}") from None


def shown(url: str) -> str:
    """The URL without what may be secret in it."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _opener(url: str) -> urllib.request.OpenerDirector:
    if urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1"):
        return urllib.request.build_opener(_NoRedirect(), urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(_NoRedirect())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn a POST into a GET, and what it says into nothing: it counts as refused."""

    def redirect_request(self, *_: Any) -> None:
        return None
