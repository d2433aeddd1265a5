"""What a poll finds: a webhook that should have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail.polling.api import Api
from deploytrail.polling.config import Watched


@dataclass(frozen=True, slots=True)
class Found:
    """A payload as the source's webhook would have brought it.

    `at`: µs, when it happened, for payloads that do not say; None where they do. `thing` names
    what it is about, and `is_open` says whether more may come of that, however old it is by then.
    """

    payload: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    at: int | None = None
    thing: str = ""
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What one poll of a project is to look at: what happened since an instant (µs), and things that were open."""

    project: str
    since: int
    still_open: tuple[str, ...] = ()


Poll = Callable[[Api, Watched, Asked], Iterator[Found]]
