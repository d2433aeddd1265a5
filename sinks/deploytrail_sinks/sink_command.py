"""`deploytrail sink NAME`: one consumer, into ClickHouse, the archive, on-call or Alertmanager.

Hands over to it, importing only that.
"""

from __future__ import annotations

import importlib
import sys

from deploytrail_schemas.arguments import did_you_mean

SINKS = {
    "clickhouse": ("deploytrail_sinks.clickhouse.serve", "the trail into ClickHouse's tables"),
    "archive": ("deploytrail_sinks.archive.serve", "every topic into write-once segments"),
    "on-call": ("deploytrail_sinks.on_call.serve", "findings and failed deployments to DEPLOYTRAIL_ONCALL_URL"),
    "silences": ("deploytrail_sinks.silences.serve", "suppressed alerts to DEPLOYTRAIL_SILENCES_URL, an Alertmanager"),
    "grants": ("deploytrail_sinks.clickhouse.grants_command", "who may do what into ClickHouse, once, for reviews"),
}
EXIT_USAGE = 64  # EX_USAGE of sysexits.h


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    if argv and argv[0] in SINKS:
        code: int = importlib.import_module(SINKS[argv[0]][0]).main(argv[1:])
        return code
    asked = bool(argv) and argv[0] in ("-h", "--help")
    lines = ["usage: deploytrail sink NAME", "", *(f"  {name:<12}{text}" for name, (_, text) in SINKS.items())]
    if argv and not asked:
        meant = did_you_mean(argv[0], SINKS)
        lines = [f"deploytrail sink: there is no sink {argv[0]!r}; there are {', '.join(SINKS)}{meant}"]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else EXIT_USAGE
