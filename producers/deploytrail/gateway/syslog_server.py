"""Syslog over TCP and UDP into the intake topic. What cannot be read goes to the dead letters with its bytes.

TCP: the next message is read when the one before is durable, so a slow Kafka slows the sender.
UDP knows no answer: what finds the queue full is counted as lost, and only there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from deploytrail_schemas import headers as names
from deploytrail_schemas.byte_redaction import redact_bytes
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail.gateway import metrics
from deploytrail.gateway.publisher import Outgoing, Publisher
from deploytrail.gateway.relay import Relay
from deploytrail.syslog import Framing, SyslogError, parse, record

_log = logging.getLogger(__name__)
MAX_QUEUED = 10_000  # UDP messages
_PAUSE = 0.5  # seconds before what Kafka did not take is tried again
_READ = 64 << 10


class SyslogServer:
    """Listens while it is open; needs a running event loop."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher
        self._relay = Relay(settings, publisher)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED)
        self._closing: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen on DEPLOYTRAIL_SYSLOG_PORT, TCP and UDP. OSError where it cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._settings.gateway_host, self._settings.syslog_port
        server = await asyncio.start_server(self._connection, host, port)
        self._closing.append(server)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._queue), local_addr=(host, port))
        self._closing.append(transport)
        self._tasks.add(asyncio.create_task(self._drain()))

    async def close(self) -> None:
        """Stop listening; what UDP brought is published first."""
        for listener in self._closing:
            listener.close()
        deadline = time.monotonic() + 5
        while not self._queue.empty() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for task in tuple(self._tasks):
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        framing = Framing()
        try:
            while data := await reader.read(_READ):
                for message in framing.feed(data):
                    await self._take(message, "tcp")
        except SyslogError as error:
            _log.warning("a syslog connection is closed: its stream cannot be read any more: %s", error)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _drain(self) -> None:
        while True:
            await self._take(await self._queue.get(), "udp")

    async def _take(self, data: bytes, transport: str) -> None:
        """Publish one message; returns when it is durable."""
        received_at = time.time_ns() // 1000
        try:
            found = record(parse(data), transport, received_at)
        except SyslogError as error:
            metrics.SYSLOG.labels(transport, "dead_letter").inc()
            why = str(error)
            await self._publish((), lambda: self._dead_letter(data, transport, why, received_at))
            return
        if found is None:
            metrics.SYSLOG.labels(transport, "ignored").inc()
            return
        kind, value = found
        given = ((names.RECEIVED_AT, str(received_at).encode()), (names.REPORTER, f"syslog:{transport}".encode()))

        def outgoing() -> Outgoing:
            clean = self._relay.cleaned(kind, value)
            return self._relay.outgoing(clean, encode(kind, clean), given)

        await self._publish((kind,), outgoing)
        metrics.SYSLOG.labels(transport, "accepted").inc()

    def _dead_letter(self, data: bytes, transport: str, why: str, received_at: int) -> Outgoing:
        detail = self._relay.cleaned_text(redact_text(f"syslog over {transport}: the message {why}"))
        clean, kinds = redact_bytes(data)
        clean = self._relay.cleaned_bytes(clean)
        headers = [
            (names.REASON, DeadLetterReason.MALFORMED.value.encode()),
            (names.DETAIL, detail.encode("ascii", "replace")[:1000]),
            (names.RECEIVED_AT, str(received_at).encode()),
        ]
        if kinds:
            headers.append((names.REDACTED, ",".join(kinds).encode()))
        return Outgoing(0, b"syslog", clean, tuple(headers), Topic.DEAD_LETTERS)

    async def _publish(self, kinds: Sequence[RecordType], outgoing: Callable[[], Outgoing]) -> None:
        said = False
        while True:
            try:
                await self._relay.prepare(kinds)
                return await self._publisher.publish([outgoing()])
            except RetryLater as error:
                if not said:
                    _log.warning("syslog waits: %s", error)
                    said = True
                await asyncio.sleep(_PAUSE)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, queue: asyncio.Queue[bytes]) -> None:
        self._queue = queue

    def datagram_received(self, data: bytes, _: Any) -> None:
        try:
            self._queue.put_nowait(data)
        except asyncio.QueueFull:
            metrics.SYSLOG.labels("udp", "lost").inc()
