"""`deploytrail gateway`: serve until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

from deploytrail_schemas import logs
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

_MEMORY_SECONDS = 3.0  # what the start waits at most for the memory of deliveries


def main(argv: list[str]) -> int:
    """Exit code 0 after a clean stop; 69 where the port is taken or something is away, 78 where a setting is wrong."""
    made = argparse.ArgumentParser(prog="deploytrail gateway", description="Serve the HTTP gateway.")
    made.add_argument("--openapi", action="store_true", help="print what its routes take (OpenAPI 3.1) instead")
    if made.parse_args(argv).openapi:
        return _describe()
    logs.configure(logging.WARNING)
    try:
        settings = Settings.load()
        listeners = _listen(settings)
        if len(listeners) == 1:
            return _work(settings, 0, listeners[0], lambda: _say_ready(settings))
        from deploytrail.gateway.workers import supervise

        def work(index: int, listener: socket.socket, ready: Callable[[], None]) -> int:
            return _work(settings, index, listener, ready)

        return supervise(listeners, work, lambda: _say_ready(settings))
    except DeploytrailError as error:
        print(f"deploytrail gateway: {redact_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return 0


def _describe() -> int:
    import json

    from deploytrail.gateway.openapi import document

    print(json.dumps(document(), indent=1, ensure_ascii=False))
    return 0


def _work(settings: Settings, index: int, listener: socket.socket, ready: Callable[[], None]) -> int:
    import uvloop

    try:
        code: int = uvloop.run(_serve(settings, index, listener, ready))
        return code
    except DeploytrailError as error:
        print(f"deploytrail gateway: {redact_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)


def _say_ready(settings: Settings) -> None:
    print(f"deploytrail gateway: ready on {settings.gateway_host}:{settings.gateway_port}", file=sys.stderr, flush=True)


def _listen(settings: Settings) -> list[socket.socket]:
    """A listening socket for each worker; DeploytrailError where the port cannot be had."""
    host, port = settings.gateway_host, settings.gateway_port
    count = max(1, settings.gateway_workers)
    try:
        first = socket.create_server((host, port), backlog=512, family=_family(host))
        if count > 1:
            # Several sockets may share a port only among themselves: the first, alone, has found out that it is free.
            first.close()
        shared = [
            socket.create_server((host, port), backlog=512, family=_family(host), reuse_port=True)
            for _ in range(count if count > 1 else 0)
        ]
    except OSError as error:
        raise DeploytrailError(
            f"port {port} of {host} cannot be had ({error.strerror}); free it or set DEPLOYTRAIL_GATEWAY_PORT"
        ) from error
    listeners = shared or [first]
    for listener in listeners:
        # asyncio sets it only on sockets that say IPPROTO_TCP; without it an answer waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listeners


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _serve(settings: Settings, index: int, listener: socket.socket, ready: Callable[[], None]) -> int:
    import uvicorn

    from deploytrail.gateway.app import create_app
    from deploytrail.gateway.connections import Connection
    from deploytrail.gateway.deliveries import Deliveries
    from deploytrail.gateway.delivery_topic import DeliveryTopic
    from deploytrail.gateway.durable import DurablePublisher
    from deploytrail.gateway.publisher import KafkaPublisher
    from deploytrail.gateway.spool import open_spool
    from deploytrail.gateway.syslog_server import SyslogServer

    publisher = DurablePublisher(KafkaPublisher(settings), open_spool(settings))
    deliveries = Deliveries(publisher, is_read=False)
    topic = DeliveryTopic(settings, deliveries)
    app = create_app(settings, publisher, deliveries)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=10,
        proxy_headers=False,
        http=Connection,
        ws="none",
    )

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own raises the signal again behind itself, which would end us before the flush.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
            yield

    syslog = SyslogServer(settings, publisher) if settings.syslog_port and not index else None
    if syslog is not None:
        try:
            await syslog.open()
        except OSError as error:
            raise DeploytrailError(
                f"port {settings.syslog_port} of {settings.gateway_host} cannot be had for syslog ({error.strerror}); "
                "free it or set DEPLOYTRAIL_SYSLOG_PORT"
            ) from error
    # What is here now stays: the collector need not look at it again, nor so often at what requests leave behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    publisher.start()
    server = Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    topic.start()
    # Served meanwhile; only whoever waits for us waits a little longer, not for a Kafka that is away.
    deadline = time.monotonic() + _MEMORY_SECONDS
    while not deliveries.is_read and not serving.done() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    ready()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        if syslog is not None:
            await syslog.close()
        await topic.close()
        await app.state.refusals.close()
        publisher.close()
    return 0
