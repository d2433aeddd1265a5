"""What reporting says to people: on stderr, each thing once a process, never an exception."""

from __future__ import annotations

import sys

USAGE_ERROR = 64  # EX_USAGE of sysexits.h

_said: set[str] = set()


def say_once(topic: str, message: str) -> None:
    """Write one line to stderr, unless this process spoke of the topic before."""
    if topic in _said:
        return
    _said.add(topic)
    try:
        said = _without_secrets(message)
        # One line: what others wrote stands in it, and CI systems take orders from lines of a log.
        said = "".join([char if char.isprintable() else " " for char in said])
        sys.stderr.write(f"deploytrail: {said}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # stderr is closed or full: the deploy matters more than what we have to say


def _without_secrets(message: str) -> str:
    try:
        from deploytrail_schemas.redaction import redact_text

        return redact_text(message)
    except ImportError:
        return message  # a broken installation, of which the message speaks


def forget() -> None:
    """Speak again of everything: for tests, which share one process."""
    _said.clear()
