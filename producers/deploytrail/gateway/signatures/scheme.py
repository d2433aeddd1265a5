"""What every scheme is made of: a delivery, its check, and comparison in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

# Of the Standard Webhooks and of Slack; schemes that name no window of their own take it too.
TOLERANCE_SECONDS = 5 * 60


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a webhook brought: its raw body, its headers by lower-case name, and when (seconds)."""

    body: bytes
    headers: Mapping[str, str]
    at: float


def any_text(_: str) -> str:
    """No secret is wrong."""
    return ""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How deliveries of a source are signed: `what` names the header for people.

    `check(delivery, secrets)`: whether it was made with one of the secrets. `problem_of(secret)`:
    why a secret cannot be one of this scheme; empty where it can. `header`: the header with the
    signature over the body, "" where nothing is signed; `is_timed`: whether it covers the time too.

    A check that must ask somebody for a key is awaited, and raises RetryLater where it gets none.
    `answer(delivery, secrets)`: what a sender asks for before it delivers anything, once it is
    done, in words; "" where it asks for nothing.
    """

    what: str
    check: Callable[[Delivery, Sequence[str]], bool | Awaitable[bool]]
    problem_of: Callable[[str], str] = any_text
    header: str = ""
    is_timed: bool = False
    answer: Callable[[Delivery, Sequence[str]], Awaitable[str]] | None = None


def is_any(given: str, expected: Iterable[str]) -> bool:
    """Whether a header's text is one of those expected; every comparison is made, so that time tells nothing."""
    raw = bytes_of(given)
    matches = [hmac.compare_digest(raw, one.encode()) for one in expected]
    return any(matches) and bool(given)


def bytes_of(header: str) -> bytes:
    """A header's text as it came over the wire: servers read its bytes as Latin-1."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return header.encode("utf-8", "surrogatepass")


def is_recent(stamp: str, at: float) -> bool:
    """Whether the seconds since the epoch in a header are within the tolerance of `at`, before or behind."""
    return stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12 and abs(at - int(stamp)) <= TOLERANCE_SECONDS
