"""`deploytrail sink NAME`: hands over to one sink, importing only that."""

from __future__ import annotations

import importlib
import sys

SINKS = {
    "clickhouse": "deploytrail_sinks.clickhouse.serve",
    "grants": "deploytrail_sinks.clickhouse.grants_command",
    "archive": "deploytrail_sinks.archive.serve",
    "on-call": "deploytrail_sinks.on_call.serve",
    "silences": "deploytrail_sinks.silences.serve",
}
EXIT_USAGE = 64  # EX_USAGE of sysexits.h


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    if not argv or argv[0] not in SINKS:
        print(f"usage: deploytrail sink {{{','.join(SINKS)}}}", file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else EXIT_USAGE
    code: int = importlib.import_module(SINKS[argv[0]]).main(argv[1:])
    return code
