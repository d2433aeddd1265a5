"""One round: ask, read as the webhook would have been read, publish what is new, remember.

The order is the promise: published (durable), then remembered. What two rounds both find is
published once, since its id is remembered for as long as it is met.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploytrail_schemas.headers import POLLED_BY
from deploytrail_schemas.records import RecordType

from deploytrail import adapters
from deploytrail.adapters.base import AdapterError
from deploytrail.polling.api import Api
from deploytrail.polling.config import Watched
from deploytrail.polling.found import Asked, Found, Poll
from deploytrail.polling.memory import Memory, Progress

log = logging.getLogger(__name__)
BATCH = 500
# Records that were not met again for so long cannot be found again: they lie before every look back.
FORGET = 2 * 86_400_000_000
_SECOND = 1_000_000

Record = tuple[RecordType, dict[str, Any]]
Publish = Callable[[str, Sequence[Record]], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """Of one project's round."""

    found: int = 0
    published: int = 0
    unreadable: int = 0
    open: dict[str, int] = field(default_factory=dict)


async def one_round(
    api: Api, watched: Watched, project: str, poll: Poll, memory: Memory, publish: Publish, *, now: int
) -> Outcome:
    """Bring a project up to `now` (µs). RetryLater and ConfigurationError leave what was reached as it was."""
    progress = memory.of(watched.name, project)
    asked = _asked(watched, project, progress, now)
    outcome = Outcome()
    fresh: dict[str, Record] = {}
    held: dict[str, int] = {}
    for found in await _all(poll, api, watched, asked):
        is_open = found.is_open
        for kind, value in _adapted(watched, found, now, outcome):
            outcome.found += 1
            record_id = value[kind.id_field]
            if record_id in progress.published:
                progress.published[record_id] = now
            elif min(value["occurred_at"], progress.held.get(record_id, now)) > now - int(watched.settle * _SECOND):
                held[record_id] = progress.held.get(record_id, now)
                is_open = True  # its webhook may be on the way
            else:
                fresh[record_id] = (kind, value)
        if is_open and found.thing:
            outcome.open[found.thing] = progress.open.get(found.thing, now)
    records = list(fresh.values())
    for begin in range(0, len(records), BATCH):
        part = records[begin : begin + BATCH]
        await publish(f"{POLLED_BY}{watched.kind}", part)
        outcome.published += len(part)
        progress.published |= {value[kind.id_field]: now for kind, value in part}
    progress.reached, progress.open, progress.held = now, outcome.open, held
    progress.published = {i: at for i, at in progress.published.items() if at > now - FORGET}
    memory.save()
    return outcome


async def _all(poll: Poll, api: Api, watched: Watched, asked: Asked) -> list[Found]:
    return await asyncio.to_thread(lambda: list(poll(api, watched, asked)))


def _asked(watched: Watched, project: str, progress: Progress, now: int) -> Asked:
    back = watched.overlap if progress.reached else watched.lookback
    oldest = now - int(watched.open_for * _SECOND)
    still_open = tuple(thing for thing, since in progress.open.items() if since > oldest)
    return Asked(project, (progress.reached or now) - int(back * _SECOND), still_open)


def _adapted(watched: Watched, found: Found, now: int, outcome: Outcome) -> Iterator[Record]:
    """What the source's adapter makes of it. One payload that it cannot read does not stop the others."""
    source = adapters.load(watched.kind)
    try:
        yield from source.adapt(found.payload, found.headers, watched.defaults, found.at or now).records
    except AdapterError as error:
        outcome.unreadable += 1
        log.warning("%s: something that was polled is left out: %s", watched.name, error)
