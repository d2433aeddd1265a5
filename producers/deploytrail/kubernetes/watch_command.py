"""`deploytrail watch kubernetes`: finds what was deployed without a permit, and tells what runs, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from deploytrail_schemas import logs
from deploytrail_schemas.arguments import Parser
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail._names import names_of, pairs_of
from deploytrail._outbox import Outbox
from deploytrail.kubernetes.admission_keys import Keys
from deploytrail.kubernetes.api import Api, context_of, in_cluster
from deploytrail.kubernetes.rollouts import Place
from deploytrail.kubernetes.watch_state import COLLECTIONS, Trail
from deploytrail.kubernetes.watcher import Watcher

EXIT_SOFTWARE = 70  # EX_SOFTWARE
_SAVE_SECONDS = 2.0
_LAST_TRY_SECONDS = 5.0


def main(argv: list[str]) -> int:
    """0 after a clean stop; 69 where something is away, 70 where a watch broke, 78 where a setting is wrong."""
    options = _parser().parse_args(argv)
    logs.configure(logging.WARNING)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        settings = Settings.load()
        if not settings.url or not settings.cluster:
            raise ConfigurationError(
                "DEPLOYTRAIL_URL says where to report, DEPLOYTRAIL_CLUSTER of which cluster; set both"
            )
        return _run(settings, _api(options), options, stopping)
    except (DeploytrailError, OSError) as error:
        print(f"deploytrail watch: {redact_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)


def _run(settings: Settings, api: Api, options: argparse.Namespace, stopping: threading.Event) -> int:
    place = Place(
        settings.cluster,
        settings.region,
        settings.environment,
        pairs_of(settings.namespace_environments, "DEPLOYTRAIL_NAMESPACE_ENVIRONMENTS"),
    )
    # With the gate's keys a permit is checked; without, that one is shown is enough.
    keys = Keys(settings) if settings.permit_keys else None
    outbox = Outbox(settings).start()
    trail = Trail(
        lambda: replace(place, authority=keys.authority) if keys else place,
        outbox.put_waiting,
        since_seconds=options.since,
        ignored=frozenset(names_of(options.ignore)),
    )
    state = options.state or settings.spool.expanduser() / f"watch-{settings.cluster}.json"
    trail.load(state)
    watchers = [Watcher(api, collection, trail) for collection in COLLECTIONS]
    for watcher in watchers:
        watcher.start()
    said = False
    while not stopping.wait(0.1 if not said else _SAVE_SECONDS) and all(watcher.is_alive() for watcher in watchers):
        if not said and all(watcher.listed.is_set() for watcher in watchers):
            print(f"deploytrail watch: ready, watching {settings.cluster}", file=sys.stderr, flush=True)
            said = True
        trail.save(state)
        if keys is not None and keys.is_due(wanted=False):
            keys.renew()
    for watcher in watchers:
        watcher.stopping.set()
    trail.save(state)
    left = outbox.close(_LAST_TRY_SECONDS)
    if left:
        waiting = counted(left, "record is not delivered; it waits", "records are not delivered; they wait")
        print(f"deploytrail watch: {waiting} in the spool", file=sys.stderr)
    return 0 if stopping.is_set() else EXIT_SOFTWARE


def _api(options: argparse.Namespace) -> Api:
    if not options.server:
        return in_cluster()
    return Api(options.server, options.token_file, context_of(options.ca_file) if options.ca_file else None)


def _parser() -> argparse.ArgumentParser:
    made = Parser(prog="deploytrail watch", description="Find what was deployed without a permit.")
    add = made.add_argument
    add("platform", choices=["kubernetes"])
    add("--server", metavar="URL", help="API server; default: of the cluster that this pod runs in")
    add("--token-file", type=Path, metavar="FILE", help="token for --server")
    add("--ca-file", type=Path, metavar="FILE", help="certificate authority of --server")
    add("--since", type=float, default=3600.0, metavar="SECONDS", help="at the first start, how far back to look")
    add("--ignore", default="", metavar="NAMESPACE,…", help="beside kube-system, kube-public and kube-node-lease")
    add("--state", type=Path, metavar="FILE", help="what is known; default: in the spool's folder")
    return made
