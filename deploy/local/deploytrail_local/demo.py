"""`deploytrail demo`: the embedded stack, a company's first day on it, and a summary of what was found.

At a terminal it keeps running afterwards and says where to look, until Ctrl-C. Without one it stops
everything; exit code 0 only if the summary holds.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import UNAVAILABLE
from deploytrail_schemas.settings import Settings

from deploytrail_local.demo_day import DAY_APPS, FirstDay, demo_settings
from deploytrail_local.demo_receiver import PageReceiver
from deploytrail_local.stack import Stack
from deploytrail_local.stack_state import is_held, unusable

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_DIFFERS = 1


def main(argv: list[str]) -> int:
    """Exit code 0 if everything planted was found; 1 if not; 69 where the stack cannot run."""
    parser = argparse.ArgumentParser(
        prog="deploytrail demo",
        description="Start a stack of its own, play a company's first day on it, and compare what was planted with "
        "what was found. Of the settings only DEPLOYTRAIL_HOME counts.",
    )
    parser.add_argument("--seed", type=int, default=1, help="another day (default 1)")
    parser.add_argument(
        "--home", type=Path, help="folder for the demo's data; emptied first (default: DEPLOYTRAIL_HOME/demo)"
    )
    parser.add_argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        default=sys.stdin.isatty() and sys.stdout.isatty(),
        help="keep running until Ctrl-C (default: at a terminal)",
    )
    options = parser.parse_args(argv)
    _interrupt_once()
    try:
        return _demo(options.home or Settings.load().home / "demo", options.seed, options.keep)
    except DeploytrailError as error:
        sys.stderr.write(f"deploytrail demo: {error}\n")
        return UNAVAILABLE
    except KeyboardInterrupt:
        say("stopped")
        return 128 + signal.SIGINT


def say(text: str) -> None:
    """A line of progress, with the time since the start."""
    sys.stdout.write(f"[{time.monotonic() - _BEGAN:5.1f} s] {text}\n")
    sys.stdout.flush()


_BEGAN = time.monotonic()


def _demo(home: Path, seed: int, keep: bool) -> int:
    # A day that is played twice on one trail would find yesterday's ids beside its own.
    try:
        _empty(home)
    except OSError as error:
        raise DeploytrailError(unusable(error)) from error
    with (
        PageReceiver() as receiver,
        # Nothing of the caller's: a shell that points to a stack would have the day archived among what is real.
        Stack(home, demo_settings(Settings(), receiver), progress=say, apps=DAY_APPS) as stack,
    ):
        say("the stack is ready")
        day = FirstDay(stack.settings, home / "day", receiver, seed=seed, progress=say)
        summary = day.play()
        summary.times.insert(0, ("everything, start of the stack included", time.monotonic() - _BEGAN))
        sys.stdout.write(f"\n{summary.text()}\n")
        sys.stdout.flush()
        if keep:
            _stay(_where_to_look(stack.settings, home))
        say("stopping")
    return 0 if summary.holds else EXIT_DIFFERS


def _stay(told: str) -> None:
    """Wait for Ctrl-C, which is the good way out from the moment that it is told of."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(told)
        sys.stdout.flush()
        threading.Event().wait()


def _empty(home: Path) -> None:
    marker = home / ".deploytrail-demo"
    if is_held(home):
        raise DeploytrailError(
            f"a stack runs in {home}: stop it (Ctrl-C there, or `deploytrail down`), or give another folder with --home"
        )
    if home.exists() and any(home.iterdir()) and not marker.exists():
        raise DeploytrailError(f"{home} holds something that is not the demo's; give an empty folder with --home")
    if home.exists():
        # The archive is write-once: its files and folders carry read-only bits.
        for path in home.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(home)
    home.mkdir(parents=True)
    marker.touch()


def _where_to_look(settings: Settings, home: Path) -> str:
    lines = [
        "",
        "It keeps running; look at",
        f"  ClickHouse   curl '{settings.clickhouse_url}/?database={settings.clickhouse_database}' "
        "-d 'SELECT * FROM active_deployments FORMAT Vertical'",
        f"  gateway      http://{settings.gateway_host}:{settings.gateway_port}",
        f"  Kafka        {settings.kafka}",
        f"  archive      DEPLOYTRAIL_ARCHIVE={settings.archive} "
        f"deploytrail archive verify --trust {settings.archive_trust}",
        f"  logs         {home}",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _interrupt_once() -> None:
    """The first signal unwinds, which stops everything; what comes while stopping is not heard."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as signal calls it
        for each in _ENDS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _ENDS:
        signal.signal(number, handle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
