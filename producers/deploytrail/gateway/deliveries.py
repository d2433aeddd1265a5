"""Which deliveries of webhooks were accepted before: what comes again is answered, and publishes nothing.

A delivery is known by what its source calls it (`Source.delivery`), and by the bytes that were
signed, so that nobody gets a signed delivery in again under another id. What neither has an id nor
is signed is not remembered: the ids of its records, which follow from the source's own, tell
repeats. Keys also carry what the URL says that counts, and the caller: one event may be sent to two URLs.

Remembered is what is durable: first the records, then the keys, in `deploytrail.deliveries`. A crash
in between lets a repetition in, whose records are dropped downstream; never is one lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.topics import Topic
from starlette.responses import Response

from deploytrail.adapters.base import Source, delivery_id
from deploytrail.gateway import metrics
from deploytrail.gateway.publisher import Outgoing, Publisher
from deploytrail.gateway.signatures import SCHEMES, TOLERANCE_SECONDS

_log = logging.getLogger(__name__)
DIGEST_BYTES = 16
MINUTE = 60_000_000  # µs
DAYS = 7 * 24 * 60  # minutes
# Past this, what is signed together with its time is refused for its age; on both sides, and a minute for rounding.
SIGNED_TIME = 2 * TOLERANCE_SECONDS // 60 + 1  # minutes
_WRITTEN = re.compile(rb"[0-9]{1,9},[0-9]{1,19}")
MOST = 1_000_000  # keys of each length of time, 110 MB; the oldest are forgotten first


@dataclass(frozen=True, slots=True)
class Key:
    """What a delivery is known by, and for how many minutes."""

    digest: bytes
    keep: int


@dataclass(slots=True)
class Memory:
    """Digests of what was accepted within `keep` minutes. Pure: times in µs are arguments."""

    keep: int
    most: int = MOST
    _seen: dict[bytes, int] = field(default_factory=dict)  # → minute, oldest first
    _minute: int = 0  # one number for all of a minute

    def __len__(self) -> int:
        return len(self._seen)

    def knows(self, digest: bytes, now: int) -> bool:
        """Whether it was accepted, to the minute."""
        at = self._seen.get(digest)
        return at is not None and now // MINUTE - at < self.keep

    def note(self, digest: bytes, at: int, now: int) -> None:
        """Remember what was accepted at a time, and forget what is over, or too much."""
        minute = at // MINUTE
        if minute != self._minute:
            self._minute = minute
        if now // MINUTE - minute < self.keep:
            self._seen[digest] = self._minute
        self.forget(now)

    def forget(self, now: int) -> None:
        """Forget what is over."""
        oldest = now // MINUTE - self.keep
        while self._seen:
            digest = next(iter(self._seen))
            if self._seen[digest] > oldest and len(self._seen) <= self.most:
                return
            del self._seen[digest]


def keys_of(
    source: Source, caller: str, query: str, headers: Mapping[str, str], body: bytes, payload: Any
) -> tuple[Key, ...]:
    """The keys of a delivery. `caller`: who was authenticated; `query`: what of the URL's query says something, in one
    spelling, so that no word that says nothing makes a delivery another; `headers` by lower-case name."""
    keys = []
    if named := delivery_id(source, payload, headers):
        keys.append(Key(_digest("id", source.name, caller, query, named), DAYS))
    scheme = SCHEMES[source.signature]
    signature = headers.get(scheme.header.lower(), "") if scheme.header else ""
    if signature and caller == f"webhook:{source.name}":
        signed = hashlib.sha256(body).hexdigest()
        # A source may say the same again, and sign it anew.
        stamped = signature if scheme.is_timed else ""
        keep = SIGNED_TIME if scheme.is_timed else DAYS
        keys.append(Key(_digest("body", source.name, caller, query, stamped, signed), keep))
    return tuple(keys)


def _digest(*parts: str) -> bytes:
    told = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        told.update(len(data).to_bytes(4, "big") + data)
    return told.digest()


class Deliveries:
    """The memory of one gateway, shared with others by the topic. `is_read`: whether what they know is known here.

    Before that, deliveries are accepted all the same: what was accepted before has the same ids, while many
    sources do not send again what they were refused.
    """

    def __init__(self, publisher: Publisher, *, is_read: bool = True, most: int = MOST) -> None:
        self._publisher = publisher
        self._memories = {keep: Memory(keep, most) for keep in (DAYS, SIGNED_TIME)}
        self._open: dict[bytes, asyncio.Future[None]] = {}
        self.is_read = is_read

    async def once(self, keys: Sequence[Key], store: Callable[[], Awaitable[Response]]) -> Response | None:
        """The answer of `store`, which makes a delivery durable; None where it was accepted before.

        The same delivery twice at a time: the second waits for what becomes of the first.
        """
        while True:
            if any(self._memories[key.keep].knows(key.digest, _now()) for key in keys):
                return None
            running = next((self._open[key.digest] for key in keys if key.digest in self._open), None)
            if running is None:
                break
            await asyncio.wait([running])
        done = asyncio.get_running_loop().create_future()
        self._open |= dict.fromkeys((key.digest for key in keys), done)
        try:
            response = await store()
            await self._remember(keys)
            return response
        finally:
            for key in keys:
                del self._open[key.digest]
            done.set_result(None)

    def heard(self, digest: bytes | None, value: bytes | None) -> None:
        """What some gateway wrote into the topic: a digest, and `minutes to keep,µs when`; else it is passed over."""
        if digest is None or len(digest) != DIGEST_BYTES or value is None or not _WRITTEN.fullmatch(value):
            return
        keep, at = map(int, value.split(b","))
        if (memory := self._memories.get(keep)) is not None:
            now = _now()
            # A gateway whose clock is ahead must not make this one remember for longer.
            memory.note(digest, min(at, now), now)
            self._count()

    async def _remember(self, keys: Sequence[Key]) -> None:
        at = _now()
        for key in keys:
            self._memories[key.keep].note(key.digest, at, at)
        self._count()
        try:
            await self._publisher.publish(
                [Outgoing(0, key.digest, b"%d,%d" % (key.keep, at), (), Topic.DELIVERIES) for key in keys]
            )
        except RetryLater as error:
            # The records are durable, and a repetition of them is harmless: not worth refusing the delivery.
            _log.warning("a delivery was accepted, but other gateways do not learn of it: %s", error)

    def _count(self) -> None:
        metrics.DELIVERIES.set(sum(len(memory) for memory in self._memories.values()))


def _now() -> int:
    return time.time_ns() // 1000
