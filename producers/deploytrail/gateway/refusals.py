"""Every refusal goes on the trail, counted, so that whoever is refused cannot flood it.

The first refusal of a caller's address for a reason is told at once, the others of the same minute
together at its end. At most 60 addresses and reasons are told apart at a time; what comes beyond
them is counted by reason alone.

A refusal is a Signal of type `unknown` and source `deploytrail-gateway` about the gateway itself:
what was tried stands in its labels, so that nobody who was refused has said anything about the
service that he named. Rules look at alerts and incidents only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.settings import Settings

from deploytrail.adapters.base import OTHER_REGION, UNKNOWN_PLACE
from deploytrail.gateway import metrics

log = logging.getLogger(__name__)
SOURCE = "deploytrail-gateway"
WINDOW = 60_000_000
MOST_OPEN = 60
OTHERS = "others"
_LABEL_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was refused; `count` of them once they are told together. `tried`: what it was about."""

    reason: Refusal
    remote: str
    route: str
    caller: str = ""
    tried: tuple[tuple[str, str], ...] = ()
    count: int = 1


@dataclass(slots=True)
class _Window:
    began: int
    held: Attempt | None = None


@dataclass(slots=True)
class Ledger:
    """Which attempts to tell, and when. Times in µs are arguments."""

    _open: dict[tuple[str, Refusal], _Window] = field(default_factory=dict)

    def note(self, attempt: Attempt, at: int) -> list[Attempt]:
        """What to tell now: this one, where it is the first of its kind, and what is due."""
        told = self.due(at)
        key = (attempt.remote, attempt.reason)
        if key not in self._open and len(self._open) >= MOST_OPEN:
            attempt = replace(attempt, remote=OTHERS)
            key = (OTHERS, attempt.reason)
        if key not in self._open:
            self._open[key] = _Window(at)
            return [*told, attempt]
        self._hold(key, attempt)
        return told

    def due(self, at: int) -> list[Attempt]:
        """Attempts that were held back for a whole minute, together."""
        told = []
        for key, window in list(self._open.items()):
            if at - window.began < WINDOW:
                continue
            if window.held is None:
                del self._open[key]
            else:
                told.append(window.held)
                self._open[key] = _Window(at)
        return told

    def give_back(self, attempt: Attempt, at: int) -> None:
        """It could not be told: count it in with the next."""
        key = (attempt.remote, attempt.reason)
        self._open.setdefault(key, _Window(at))
        self._hold(key, attempt)

    def rest(self) -> list[Attempt]:
        """All that is held back; nothing is held any more."""
        told = [window.held for window in self._open.values() if window.held is not None]
        self._open.clear()
        return told

    @property
    def holds_back(self) -> bool:
        """Whether something will have to be told later."""
        return any(window.held is not None for window in self._open.values())

    def _hold(self, key: tuple[str, Refusal], attempt: Attempt) -> None:
        held = self._open[key].held
        self._open[key].held = attempt if held is None else replace(attempt, count=held.count + attempt.count)


def signal_of(attempt: Attempt, at: int, settings: Settings) -> dict[str, Any]:
    """The record of an attempt."""
    labels = {
        "reason": attempt.reason.value,
        "remote": attempt.remote,
        "route": attempt.route,
        "caller": attempt.caller,
        "count": str(attempt.count),
        **dict(attempt.tried),
    }
    times = "once" if attempt.count == 1 else f"{attempt.count} times"
    return {
        "signal_id": uuid7(),
        "signal_type": "unknown",
        "occurred_at": at,
        "region": settings.region or OTHER_REGION,
        "environment": settings.environment or UNKNOWN_PLACE,
        "service": SOURCE,
        "source": SOURCE,
        "fingerprint": f"refused:{attempt.reason}:{attempt.remote}"[:_LABEL_LIMIT],
        "severity": "warning",
        "title": f"{attempt.remote} was refused {times}: {attempt.reason}"[:_LABEL_LIMIT],
        "value": float(attempt.count),
        "labels": {name: text[:_LABEL_LIMIT] for name, text in labels.items() if text},
    }


class Refusals:
    """Tells refusals. `store` makes records durable; RetryLater where it cannot now."""

    def __init__(self, settings: Settings, store: Callable[[list[dict[str, Any]]], Awaitable[None]]) -> None:
        self._settings, self._store = settings, store
        self._ledger = Ledger()
        self._waiting: asyncio.Task[None] | None = None

    async def note(self, attempt: Attempt) -> None:
        """Count an attempt, and tell what is to be told. Never raises."""
        metrics.REFUSALS.labels(attempt.reason.value).inc()
        await self._tell(self._ledger.note(attempt, _now()))
        if self._ledger.holds_back and (self._waiting is None or self._waiting.done()):
            self._waiting = asyncio.create_task(self._wait())

    async def close(self) -> None:
        """Tell what is held back."""
        if self._waiting is not None:
            self._waiting.cancel()
        await self._tell(self._ledger.rest())

    async def _wait(self) -> None:
        while self._ledger.holds_back:
            await asyncio.sleep(1.0)
            await self._tell(self._ledger.due(_now()))

    async def _tell(self, attempts: list[Attempt]) -> None:
        if not attempts:
            return
        at = _now()
        try:
            await self._store([signal_of(attempt, at, self._settings) for attempt in attempts])
        except RetryLater:
            for attempt in attempts:
                self._ledger.give_back(attempt, at)
        except Exception:  # behind the answer nobody would hear of it
            log.exception("refusals could not be recorded: %s", attempts)


def _now() -> int:
    return time.time_ns() // 1000
