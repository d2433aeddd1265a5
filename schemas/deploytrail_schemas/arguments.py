"""What the parsers of commands share: a slip is told what may be meant, and a time is read the same way everywhere.

An argument that cannot be read is wrong words: argparse's own status, of which `deploytrail` makes 64 (EX_USAGE).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from deploytrail_schemas.instants import parse_instant


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean …?` with the one of the words that resembles it most; empty where none does."""
    from difflib import get_close_matches  # only slips pay for it

    near = get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Parser(argparse.ArgumentParser):
    """A parser, its subcommands' too, that says of a word that it does not know which one may be meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise


def instant(text: str) -> int:
    """The type of an option that is a time: µs since the epoch of an RFC 3339 date-time."""
    try:
        return parse_instant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
