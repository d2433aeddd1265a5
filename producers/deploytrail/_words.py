"""`deploytrail register`, `start`, `progress`, `succeed`, `fail`, `rollback`, `amend`, `void`: one event each.

Exit status 0 also where the event could not be delivered or even stored: reporting never breaks
the deploy. 64 where the words make no sense.
"""

from __future__ import annotations

import os
import sys

from deploytrail import _options
from deploytrail._options import DEPLOYMENT_ID, UsageError

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from deploytrail._tracker import Tracker


# Words about a deployment that began before, and what each reports.
_LATER = {
    "progress": "Report that a deployment goes on",
    "succeed": "Report that a deployment succeeded",
    "fail": "Report that a deployment failed",
    "rollback": "Report that a deployment was rolled back, and print the rollback's id; with -- CMD, run what does it",
    "amend": "Report what is right, where something else was said before",
    "void": "Report that there was no such deployment; its record stays, marked",
}


def start(argv: list[str]) -> int:
    """Report that a deployment began, and print its id."""
    made = _options.parser("start", "Report that a deployment began. Prints its id, for succeed or fail.")
    made.add_argument("--deployment-id", metavar="ID", help="default: a new one")

    def act(options: argparse.Namespace) -> None:
        _options.needs_service(options)
        from deploytrail import _tracker
        from deploytrail._size_of_change import with_size

        tracker = _tracker.start(deployment_id=options.deployment_id, **with_size(_options.facts(options)))
        sys.stdout.write(f"{tracker}\n")
        sys.stdout.flush()  # before the wait for delivery: a pipe's reader may go on

    return _word("start", made, argv, act)


def register(argv: list[str]) -> int:
    """Report that a deployment is intended, and print its id."""
    made = _options.parser(
        "register", "Report that a deployment is intended, for approvals to refer to. Prints its id, for start."
    )
    made.add_argument("--deployment-id", metavar="ID", help="default: a new one")
    made.add_argument(
        "--planned-start", metavar="TIME", help="not before, e.g. 2026-11-02T20:00:00Z: no permit is given"
    )
    made.add_argument("--planned-end", metavar="TIME", help="nor from then on")

    def act(options: argparse.Namespace) -> None:
        _options.needs_service(options)
        planned = _planned(options)
        from deploytrail import _tracker

        tracker = _tracker.Tracker(deployment_id=options.deployment_id, **_options.facts(options)).register(**planned)
        _tracker.remember(tracker)
        sys.stdout.write(f"{tracker}\n")
        sys.stdout.flush()

    return _word("register", made, argv, act)


def _planned(options: argparse.Namespace) -> dict[str, Any]:
    """When it is planned; UsageError where that makes no sense: an approval would be bound to what nobody meant."""
    from deploytrail_schemas.instants import parse_instant

    try:
        start, end = (parse_instant(text) if text else None for text in (options.planned_start, options.planned_end))
    except ValueError as error:
        raise UsageError(f"when is it planned? {error}") from error
    if end is not None and start is not None and end <= start:
        raise UsageError("--planned-end does not lie behind --planned-start")
    return {"planned_start": options.planned_start, "planned_end": options.planned_end}


def progress(argv: list[str]) -> int:
    """Report that a deployment goes on."""
    return _later("progress", argv, lambda tracker, facts: tracker.progress(**facts))


def succeed(argv: list[str]) -> int:
    """Report that a deployment succeeded."""
    return _later("succeed", argv, lambda tracker, facts: tracker.succeed(**facts))


def fail(argv: list[str]) -> int:
    """Report that a deployment failed."""
    return _later("fail", argv, lambda tracker, facts: tracker.fail(**facts))


def amend(argv: list[str]) -> int:
    """Report what is right, where something else was said of a deployment before."""
    return _later("amend", argv, lambda tracker, facts: tracker.amend(**facts))


def void(argv: list[str]) -> int:
    """Report that there was no such deployment."""
    return _later("void", argv, lambda tracker, facts: tracker.void(**facts))


def rollback(argv: list[str]) -> int:
    """Report that a deployment was rolled back; with `-- CMD`, run what does it, as a deployment of its own."""
    if "--" in argv:
        from deploytrail._run import run_rollback

        return run_rollback(argv)

    def act(tracker: Tracker, facts: dict[str, Any]) -> None:
        sys.stdout.write(f"{tracker.roll_back(**facts)}\n")
        sys.stdout.flush()

    return _later("rollback", argv, act)


def _later(word: str, argv: list[str], report: Callable[[Tracker, dict[str, Any]], Any]) -> int:
    made = later_parser(word)

    def act(options: argparse.Namespace) -> None:
        from deploytrail import _tracker

        report(_tracker.of(which(options)), facts(options))

    return _word(word, made, argv, act)


def later_parser(word: str) -> _options.Parser:
    """The parser of a word about a deployment that began before."""
    operands = " [ID] [-- CMD]" if word == "rollback" else " [ID]"
    made = _options.parser(word, f"{_LATER[word]}. By the id that start printed.", operands)
    made.add_argument("id", nargs="?", metavar="ID", help=f"default: {DEPLOYMENT_ID}, which run sets")
    made.add_argument("--deployment-id", metavar="ID", help="another way to give ID")
    if word in {"succeed", "fail"}:
        made.add_argument("--exit-code", type=int, metavar="NUMBER", help="of what was run")
    if word == "fail":
        made.add_argument("--error", metavar="TEXT", help="what went wrong")
    return made


def which(options: argparse.Namespace) -> str:
    """The id of the deployment that is meant; UsageError where none is."""
    found = options.id or options.deployment_id or os.environ.get(DEPLOYMENT_ID)
    if not found:
        raise UsageError(f"which deployment? Give the id that start printed, or set {DEPLOYMENT_ID}")
    return str(found)


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, the error and exit code of an end among it."""
    ends = {name: getattr(options, name, None) for name in ("error", "exit_code")}
    return _options.facts(options) | {name: item for name, item in ends.items() if item not in (None, "")}


def _word(word: str, made: _options.Parser, argv: list[str], act: Callable[[argparse.Namespace], None]) -> int:
    try:
        options = _options.parse(made, argv)
        act(options)
    except UsageError as error:
        return _options.usage_error(word, error)
    from deploytrail._reporter import finish

    finish(options.wait)
    return 0
