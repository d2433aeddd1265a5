"""`deploytrail sink silences`."""

from __future__ import annotations

import time

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.serving import serve
from deploytrail_sinks.silences.alertmanager import Silences
from deploytrail_sinks.silences.sink import SilencesSink


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    return serve("silences", argv, _make)


def _make(settings: Settings) -> SilencesSink:
    sources = frozenset(name.strip() for name in settings.silences_sources.split(",") if name.strip())
    if not sources:
        raise ConfigurationError(
            "DEPLOYTRAIL_SILENCES_SOURCES is empty; expected sources of signals that still tell us of alerts which are "
            "silenced. Alertmanager's own webhook tells nothing of these, not even that they resolved"
        )
    return SilencesSink(settings, Silences(settings.silences_url), sources, lambda: time.time_ns() // 1000)
