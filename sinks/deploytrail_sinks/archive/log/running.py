"""The loops of sequencer, signer and witness: settings in, until a signal."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploytrail_schemas import logs
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings

from deploytrail_sinks import metrics
from deploytrail_sinks.archive.log.commands import load_key, load_trust, read_file
from deploytrail_sinks.archive.log.notes import Signer
from deploytrail_sinks.archive.log.objects import LogConflict, sole_user
from deploytrail_sinks.archive.log.publisher import Publisher
from deploytrail_sinks.archive.log.sequencer import Sequencer
from deploytrail_sinks.archive.log.signer import CheckpointSigner, SigningRefused
from deploytrail_sinks.archive.log.trust import Trust
from deploytrail_sinks.archive.log.witness import Witness
from deploytrail_sinks.archive.log.witness_server import server
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.store import open_store

log = logging.getLogger(__name__)


def _say(who: str, text: str) -> None:
    sys.stderr.write(f"deploytrail archive {who}: {text}\n")
    sys.stderr.flush()


def _until_stopped(who: str, work: Callable[[], bool], settings: Settings, once: bool) -> int:
    """Do work every so often until a signal. `work` says whether all is done.

    What it refuses is said, counted and tried again, as what is away is: a process that ended would take with it
    the figure that an alert is made of.
    """
    logs.configure(logging.WARNING)
    stop, well = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    refusals = metrics.LOG_REFUSALS.labels(settings.archive_origin, who)
    if not once:
        metrics.serve(settings.metrics_port, well.is_set)
    told = ""
    ready = False
    while not stop.is_set():
        try:
            done = work()
            told = ""
            well.set()
        except (RetryLater, LogConflict, SigningRefused) as error:
            if once:
                raise
            if not isinstance(error, RetryLater):
                refusals.inc()
            if told != str(error):
                log.error("%s; trying again every %s s", error, settings.archive_log_seconds)
            told, done = str(error), True
            well.clear()
        if once:
            return 0 if done else 1
        if not ready and well.is_set():
            ready = True
            _say(who, "ready")
        stop.wait(settings.archive_log_seconds)
    return 0


def run_sequencer(settings: Settings, *, once: bool) -> int:
    """The exit code of `deploytrail archive sequence`."""
    if not settings.archive_sequencer_key:
        raise ConfigurationError(
            "DEPLOYTRAIL_ARCHIVE_SEQUENCER_KEY names no key file; see `deploytrail archive keygen`"
        )
    key, origin = load_key(Path(settings.archive_sequencer_key)), settings.archive_origin
    sequencer = Sequencer(open_store(settings.archive), origin, key, time.time, read_policy(settings.archive_retention))
    metrics.LOG_ENTRIES.labels(origin).set_function(lambda: sequencer.size)
    metrics.LOG_WAITING.labels(origin).set_function(lambda: sequencer.waiting)
    metrics.LOG_STOPPED.labels(origin).set_function(lambda: sequencer.stopped)
    gaps, counted = metrics.LOG_GAPS.labels(origin), 0

    def work() -> bool:
        nonlocal counted
        more = True
        while more:
            more = sequencer.step() is not None
            gaps.inc(sequencer.gaps - counted)
            counted = sequencer.gaps
        return True

    return _until_stopped("sequence", work, settings, once)


def run_signer(settings: Settings, *, once: bool, adopt: Path | None) -> int:
    """The exit code of `deploytrail archive sign`; with `once` 1 where too few witnesses cosigned."""
    names = [name.strip() for name in settings.archive_signer_keys.split(",") if name.strip()]
    if not names or not settings.archive_trust:
        raise ConfigurationError(
            "expected key files in DEPLOYTRAIL_ARCHIVE_SIGNER_KEYS and a trust file with the sequencer's key and the "
            "witnesses in DEPLOYTRAIL_ARCHIVE_TRUST"
        )
    trust = load_trust(Path(settings.archive_trust))
    if not trust.sequencers:
        raise ConfigurationError(f"{settings.archive_trust} has no line `#sequencer VKEY`: whose states are signed?")
    folder, origin = settings.archive_signer_folder, settings.archive_origin
    store = open_store(settings.archive)
    with sole_user(folder):
        keys = [load_key(Path(name)) for name in names]
        ended = {key.public for key in trust.retired}
        if any(key.verifier.public in ended for key in keys):
            raise ConfigurationError(
                f"DEPLOYTRAIL_ARCHIVE_SIGNER_KEYS names a key that {settings.archive_trust} says is retired; "
                "sign without it"
            )
        signer = CheckpointSigner(store, origin, keys, trust.sequencers, folder, time.time)
        if adopt is not None:
            signer.adopt(read_file(adopt))
        publisher = Publisher(
            store,
            trust,
            time.time,
            stamp_url=settings.archive_timestamp_url,
            stamp_every=settings.archive_timestamp_seconds,
            policy=read_policy(settings.archive_retention),
        )
        metrics.LOG_UNPUBLISHED.labels(origin).set_function(lambda: max(0, signer.seen - publisher.size))
        for witness in trust.witnesses:
            metrics.LOG_WITNESS_FAILURES.labels(origin, witness)  # from 0 on, so that the first failure is an increase

        def work() -> bool:
            publisher.resume()
            if publisher.published_at is not None:  # though nothing else may be published for long
                metrics.LOG_CHECKPOINT.labels(origin).set(publisher.published_at)
            note = signer.sign_next() or signer.last
            published = None if note is None else publisher.publish(note)
            if published is not None:
                metrics.LOG_CHECKPOINT.labels(origin).set(publisher.published_at or signer.signed_at)
            return note is None or published is not None

        return _until_stopped("sign", work, settings, once)


def run_witness(keys: Sequence[Signer], trust: Trust, memory: Path, host: str, port: int) -> int:
    """The exit code of `deploytrail archive witness`."""
    logs.configure(logging.WARNING)
    with sole_user(memory), server(Witness(keys, trust.logs, memory, time.time), host, port) as listening:
        for number in (signal.SIGTERM, signal.SIGINT):
            # From a thread of its own: shutdown waits for the loop that the signal interrupts.
            signal.signal(number, lambda *_: threading.Thread(target=listening.shutdown).start())
        _say("witness", f"ready on http://{host}:{listening.server_address[1]}")
        listening.serve_forever()
    return 0
