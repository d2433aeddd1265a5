"""`deploytrail sink on-call`."""

from __future__ import annotations

import time

from deploytrail_schemas.settings import Settings

from deploytrail_sinks.on_call.senders import sender_for
from deploytrail_sinks.on_call.sink import OnCallSink
from deploytrail_sinks.serving import serve


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    return serve("on-call", argv, _make)


def _make(settings: Settings) -> OnCallSink:
    return OnCallSink(settings, sender_for(settings.oncall_url), lambda: time.time_ns() // 1000)
