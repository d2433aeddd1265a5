"""`deploytrail doctor`: says what works and what does not, with the fix.

It asks as a producer of this environment would: the same settings, spool and way to the other
side. It changes nothing but a file that it writes into the spool's folder and takes away again.
Exit status: 0 where nothing is broken, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from deploytrail_schemas.counted import counted
from deploytrail_schemas.redaction import redact_text

from deploytrail import _doctor_connection, _doctor_host, _doctor_serving
from deploytrail._doctor_check import BROKEN, OK, Check
from deploytrail._report import USAGE_ERROR

EXIT_BROKEN = 1
TIMEOUT = 5.0


def main(argv: list[str]) -> int:
    """0 where nothing is broken, 1 otherwise, 64 where the words make no sense."""
    made = argparse.ArgumentParser(prog="deploytrail doctor", description="Say what works and what does not.")
    made.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    made.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="for each answer (default: 5)")
    try:
        options = made.parse_args(argv)
    except SystemExit as ended:
        return USAGE_ERROR if ended.code else 0
    checks = list(examine(os.environ, options.timeout))
    broken = sum(check.state == BROKEN for check in checks)
    if options.json:
        told = {"ok": not broken, "checks": [asdict(_clean(check)) for check in checks]}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        for check in map(_clean, checks):
            sys.stdout.write(line(check) + "\n")
        warned = sum(check.state not in (OK, BROKEN) for check in checks)
        sys.stdout.write(f"{broken} broken, {counted(warned, 'warning')}, {len(checks) - broken - warned} ok\n")
    return EXIT_BROKEN if broken else 0


def examine(environ: Mapping[str, str], timeout: float) -> Iterator[Check]:
    """Every check of this environment, in the order in which to mend."""
    settings = _doctor_host.readable(environ)
    steps: list[Callable[[], Iterator[Check]]] = [
        _doctor_host.python,
        _doctor_host.packages,
        lambda: _doctor_host.variables(environ),
        lambda: _doctor_host.place(settings),
        lambda: _doctor_host.build(environ),
        lambda: _doctor_host.target(settings, environ),
        _doctor_host.clock,
        lambda: _doctor_host.spool(settings),
        lambda: _doctor_connection.connection(settings, timeout),
        lambda: _doctor_serving.serving(settings, environ, timeout),
    ]
    for step in steps:
        yield from _safely(step)


def _safely(step: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check that fails by itself is broken; the others go on."""
    try:
        yield from step()
    except Exception as error:
        yield Check(BROKEN, "doctor", f"a check ended: {type(error).__name__}: {error}", "report this, with this line")


def line(check: Check) -> str:
    """A check for people: its state, what it is about, what was found, and the fix below."""
    text = f"{check.state:<8} {check.what}: {check.detail}"
    return f"{text}\n         fix: {check.fix}" if check.fix else text


def _clean(check: Check) -> Check:
    return Check(check.state, check.what, redact_text(check.detail), redact_text(check.fix))
