"""The table of what runs in the embedded stack: every program, its environment, when it is ready.

The same commands run in production; here only their addresses differ.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from deploytrail_schemas.settings import PREFIX, Settings, variable

from deploytrail_local import ports
from deploytrail_local.gate_key import ensure_gate_key
from deploytrail_local.kafka_broker import KafkaBroker, Progress
from deploytrail_local.log_keys import ensure_log_keys, with_log
from deploytrail_local.own_command import own_command
from deploytrail_local.supervisor import Child, Stage

# Processes of processors, and their apps. Two, since one process keeps no more than one core busy: what judges further
# and answers at the gate does not hold up what most questions are about.
PROCESSES = {
    "processors": ("intake", "lifecycle", "change_window", "overdue", "correlation", "governance"),
    "verdicts": (
        *("approval", "gate", "suppression", "rollback_verification"),
        *("success_criteria", "impact", "reconciliation"),
    ),
}
# In whose name the embedded gate issues permits.
PERMIT_ISSUER = "deploytrail-local"
GATE_KEYS = "gate-keys"
STORES = ("kafka", "clickhouse")
ARCHIVE = ("sink-archive", "archive-sequence", "archive-sign")
APPS = ("gateway", *PROCESSES, "sink-clickhouse", *ARCHIVE, "sink-on-call")
_DEFAULTS = Settings()


def pinned_names(environ: Mapping[str, str]) -> frozenset[str]:
    """Names of the settings that an environment sets."""
    return frozenset(f.name for f in fields(Settings) if environ.get(variable(f.name)))


def environment_of(settings: Settings, names: Collection[str] = ()) -> dict[str, str]:
    """The variables that give these settings: those that differ from the defaults, and `names`."""
    values = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    return {
        variable(name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if name in names or value != getattr(_DEFAULTS, name)
    }


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without any DEPLOYTRAIL_* variable."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def effective_settings(home: Path, settings: Settings, numbers: Mapping[str, int]) -> Settings:
    """The settings of clients and children: real ports, and folders below `home` where none were set."""
    host = ports.LOOPBACK if settings.gateway_host in ("", "0.0.0.0", "::") else settings.gateway_host
    found = replace(
        settings,
        home=home,
        kafka=f"{ports.LOOPBACK}:{numbers['kafka']}",
        clickhouse_url=f"http://{ports.LOOPBACK}:{numbers['clickhouse']}",
        gateway_port=numbers["gateway"],
        url=f"http://{host}:{numbers['gateway']}",
        gate_port=numbers["gate"],
        gate_url=f"http://{ports.LOOPBACK}:{numbers['gate']}",
        gate_keys=settings.gate_keys or str(home / GATE_KEYS),
        permit_issuer=settings.permit_issuer or PERMIT_ISSUER,
        permit_keys=settings.permit_keys or f"http://{ports.LOOPBACK}:{numbers['gate']}/v1/keys",
        state=home / "state" if settings.state == _DEFAULTS.state else settings.state,
        gateway_spool=home / "gateway-spool"
        if settings.gateway_spool == _DEFAULTS.gateway_spool
        else settings.gateway_spool,
        archive=f"file:{home / 'archive'}" if settings.archive == _DEFAULTS.archive else settings.archive,
        metrics_port=0,
    )
    return with_log(home, found)


def stages_of(
    settings: Settings, numbers: Mapping[str, int], progress: Progress, only: Collection[str] = APPS
) -> list[Stage]:
    """What to start, in order, for effective settings. Kafka's jars are fetched and its storage formatted here.

    MissingDependencyError without Java or jars.
    """
    home = settings.home
    broker = KafkaBroker(
        home / "kafka", port=numbers["kafka"], controller_port=numbers["kafka-controller"], progress=progress
    )
    with _heartbeat(progress, "still fetching what Kafka needs"):
        command = broker.command()
    if Path(settings.gate_keys) == home / GATE_KEYS:  # in another folder the keys are somebody's own
        ensure_gate_key(home / GATE_KEYS)
    environ = without_settings(os.environ) | {"PYTHONUNBUFFERED": "1"}
    if {"archive-sequence", "archive-sign"} & {*only}:
        ensure_log_keys(home, settings, environ)
    logs = home / "logs"
    # -P: a json.py in the folder where somebody calls us is none of ours.
    engine = [sys.executable, "-P", "-m", "deploytrail_local.clickhouse_server", str(home / "clickhouse")]
    stores = (
        Child("kafka", command, environ, logs / "kafka.log", _kafka_answers(settings)),
        Child(
            "clickhouse",
            [*engine, str(numbers["clickhouse"])],
            environ,
            logs / "clickhouse.log",
            _http_answers(f"{settings.clickhouse_url}/ping"),
        ),
    )

    def app(name: str, *words: str) -> Child:
        # The gateway tells about itself on its own port, the others on a port of their own.
        number = numbers.get(f"{name}-metrics", 0)
        # Who appends to the archive's log cannot sign, and who signs cannot append; no other program does either.
        sequencer_key = settings.archive_sequencer_key if name == "archive-sequence" else ""
        signer_keys = settings.archive_signer_keys if name == "archive-sign" else ""
        allowed = replace(settings, archive_sequencer_key=sequencer_key, archive_signer_keys=signer_keys)
        own = environment_of(replace(allowed, metrics_port=number))
        host = f"http://{ports.LOOPBACK}:{number}" if number else settings.url
        return Child(name, own_command(*words), environ | own, logs / f"{name}.log", _http_answers(f"{host}/readyz"))

    apps = [
        app("gateway", "gateway"),
        *(app(name, "processor", *names) for name, names in PROCESSES.items()),
        app("sink-clickhouse", "sink", "clickhouse"),
        app("sink-archive", "sink", "archive"),
    ]
    if settings.archive_sequencer_key:
        apps.append(app("archive-sequence", "archive", "sequence"))
    if settings.archive_signer_keys:
        apps.append(app("archive-sign", "archive", "sign"))
    if settings.oncall_url:
        apps.append(app("sink-on-call", "sink", "on-call"))
    return [
        Stage(stores, then=lambda: _make_topics(settings)),
        Stage([child for child in apps if child.name in only]),
    ]


@contextlib.contextmanager
def _heartbeat(progress: Progress, what: str, every: float = 5.0) -> Iterator[None]:
    """Say every few seconds that something goes on, while the block runs."""
    done = threading.Event()
    begun = time.monotonic()

    def tell() -> None:
        while not done.wait(every):
            progress(f"{what} ({time.monotonic() - begun:.0f} s)")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _make_topics(settings: Settings) -> None:
    from confluent_kafka.admin import AdminClient
    from deploytrail_schemas.kafka import client_config
    from deploytrail_schemas.topics import ensure_topics

    ensure_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings, timeout=120.0)


def _kafka_answers(settings: Settings) -> Callable[[], bool]:
    def answers() -> bool:
        if not ports.answers(int(settings.kafka.rpartition(":")[2])):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            admin = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 0})
            return len(admin.list_topics(timeout=2).brokers) == 1
        except KafkaException:
            return False

    return answers


def _http_answers(url: str) -> Callable[[], bool]:
    # Never by a proxy of the environment: these are addresses of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers() -> bool:
        try:
            with opener.open(url, timeout=1.0) as response:
                return bool(response.status == 200)
        except OSError:  # urllib's errors are OSErrors, refused connections too
            return False

    return answers
