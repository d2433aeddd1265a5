"""Which ports a stack uses: those of the settings, else those of its last run, else free ones."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings, variable

from deploytrail_local import ports

PINNED_BY = {"kafka": "kafka", "clickhouse": "clickhouse_url", "gateway": "gateway_port", "gate": "gate_port"}
NAMES = (
    "kafka",
    "kafka-controller",
    "clickhouse",
    "gateway",
    "gate",
    "processors-metrics",
    "verdicts-metrics",
    "sink-clickhouse-metrics",
    "sink-archive-metrics",
    "archive-sequence-metrics",
    "archive-sign-metrics",
    "sink-on-call-metrics",
)


def choose_ports(
    settings: Settings,
    pinned: Collection[str],
    remembered: Mapping[str, int],
    is_free: Callable[[int], bool] = ports.is_free,
) -> dict[str, int]:
    """A port for each of NAMES. `pinned`: names of the settings that somebody set on purpose.

    ConfigurationError names a pinned port that is taken, and its variable.
    """
    chosen = {name: port for name, port in pinned_ports(settings, pinned).items() if port}
    for name, port in chosen.items():
        if not is_free(port):
            setting = variable(PINNED_BY[name])
            raise ConfigurationError(
                f"port {port} for {name} is in use by another program; free it, set another one in {setting}, "
                f"or unset {setting} and a free one is chosen"
            )
    for name in NAMES:
        if name not in chosen:
            last = remembered.get(name, 0)
            usable = last and last not in chosen.values() and is_free(last)
            chosen[name] = last if usable else _free_port(chosen.values(), is_free)
    return chosen


def pinned_ports(settings: Settings, pinned: Collection[str]) -> dict[str, int]:
    """The ports that these settings name; 0 means any. ConfigurationError for an address of another machine."""
    found: dict[str, int] = {}
    if "kafka" in pinned:
        found["kafka"] = _loopback_port(f"kafka://{settings.kafka}", "kafka", settings.kafka)
    if "clickhouse_url" in pinned:
        found["clickhouse"] = _loopback_port(settings.clickhouse_url, "http", settings.clickhouse_url)
    if "gateway_port" in pinned:
        found["gateway"] = settings.gateway_port
    if "gate_port" in pinned:
        found["gate"] = settings.gate_port
    return found


def _loopback_port(url: str, scheme: str, value: str) -> int:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme == scheme and parts.hostname in (ports.LOOPBACK, "localhost") and parts.port:
            return parts.port
    name, example = ("kafka", "") if scheme == "kafka" else ("clickhouse_url", "http://")
    raise ConfigurationError(
        f"{variable(name)} is {value!r}, but the embedded stack runs its own on {ports.LOOPBACK}: "
        f"unset it, or give a port as in {example}{ports.LOOPBACK}:{ports.FREE.start}"
    )


def _free_port(taken: Collection[int], is_free: Callable[[int], bool]) -> int:
    for port in random.sample(ports.FREE, 200):
        if port not in taken and is_free(port):
            return port
    raise ConfigurationError(f"no free port found between {ports.FREE.start} and {ports.FREE.stop}")
