"""The word for a shell that nobody has pointed to the stack of its machine, wherever a command finds nothing."""

from __future__ import annotations

from deploytrail_schemas.settings import Settings

POINTS_A_SHELL = 'eval "$(deploytrail up --env)"'


def if_not_set(name: str, value: str) -> str:
    """The end of an error about a setting: how to find the local stack, where it has the value that nobody set."""
    if value != getattr(Settings(), name):
        return ""
    return f"; where `deploytrail up` made a stack on this machine, {POINTS_A_SHELL} points the shell to it"
