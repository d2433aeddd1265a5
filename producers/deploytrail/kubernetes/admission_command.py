"""`deploytrail admission`: serve the admission webhook over TLS until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from deploytrail_schemas import logs
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail._names import names_of, pairs_of
from deploytrail._outbox import Outbox
from deploytrail.kubernetes.admission import AdmissionPolicy
from deploytrail.kubernetes.admission_keys import Keys

log = logging.getLogger(__name__)
PORT = 8443
_LOOK_SECONDS = 2.0
_LAST_TRY_SECONDS = 5.0


def main(argv: list[str]) -> int:
    """0 after a clean stop; 69 where the port is taken, 78 where a setting or the certificate is wrong."""
    options = _parser().parse_args(argv)
    logs.configure(logging.WARNING)
    try:
        settings = Settings.load()
        if not settings.url:
            raise ConfigurationError("DEPLOYTRAIL_URL says where used permits and refusals are reported; set it")
        keys = Keys(settings)
        context = _context(options.certificate, options.key)
        listener = _listen(options.host, options.port)
        return asyncio.run(_serve(settings, keys, context, listener, options))
    except (DeploytrailError, OSError) as error:
        print(f"deploytrail admission: {redact_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return 0


def policy_of(settings: Settings) -> AdmissionPolicy:
    """What the settings say, without keys. ConfigurationError for a setting that cannot be read."""
    return AdmissionPolicy(
        authority=None,
        region=settings.region,
        environment=settings.environment,
        cluster=settings.cluster,
        environments=pairs_of(settings.namespace_environments, "DEPLOYTRAIL_NAMESPACE_ENVIRONMENTS"),
        regulated_namespaces=frozenset(names_of(settings.regulated_namespaces)),
        exempt_images=names_of(settings.exempt_images),
        controllers=names_of(settings.admission_controllers),
    )


class Certificate:
    """Takes the files again once they have changed: connections made after that have the new ones."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context, self._files = context, (certificate, key)
        self._mark = self._marks()

    def look(self) -> None:
        """Load them where they changed; what is wrong is said, and the certificate from before stands."""
        mark = self._marks()
        if mark == self._mark:
            return
        try:
            # Into a context of its own first: a key that does not fit must not break the one that serves.
            _context(*self._files)
            self._context.load_cert_chain(*self._files)
            self._mark = mark
        except (OSError, ConfigurationError) as error:
            log.error("the certificate cannot be renewed: %s; the one from before stands", error)

    def _marks(self) -> list[tuple[int, int] | None]:
        marks: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                found = path.stat()
                marks.append((found.st_mtime_ns, found.st_ino))
            except OSError:
                marks.append(None)
        return marks


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{certificate} and {key} are no certificate with its key: {error}") from error
    return context


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), backlog=512, family=family)
    except OSError as error:
        raise DeploytrailError(
            f"port {port} of {host} cannot be had ({error.strerror}); give another --port"
        ) from error
    # asyncio sets it only on sockets that say IPPROTO_TCP; without it an answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _serve(
    settings: Settings, keys: Keys, context: ssl.SSLContext, listener: socket.socket, options: argparse.Namespace
) -> int:
    import uvicorn

    from deploytrail.gateway.connections import Connection
    from deploytrail.kubernetes.admission_app import Admission

    policy = policy_of(settings)
    outbox = Outbox(settings).start()
    app = Admission(keys, policy, outbox.put).app()
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
        ssl_context_factory=lambda *_: context,
    )

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own raises the signal again behind itself, which would end us before the flush.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
            yield

    server = Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    looking = asyncio.create_task(_look(keys, Certificate(context, options.certificate, options.key)))
    print(f"deploytrail admission: ready on {options.host}:{options.port}", file=sys.stderr, flush=True)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        looking.cancel()
        left = await asyncio.to_thread(outbox.close, _LAST_TRY_SECONDS)
    if left:
        waiting = counted(left, "record is not delivered; it waits", "records are not delivered; they wait")
        print(f"deploytrail admission: {waiting} in the spool", file=sys.stderr)
    return 0


async def _look(keys: Keys, certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.to_thread(certificate.look)
        if keys.is_due(wanted=False):
            await asyncio.to_thread(keys.renew)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="deploytrail admission", description="Serve the admission webhook over TLS.")
    made.add_argument("--host", default="0.0.0.0", help="default: every address of the pod")
    made.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    made.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM; read again when it changes")
    made.add_argument("--key", type=Path, required=True, metavar="FILE", help="PEM")
    return made
