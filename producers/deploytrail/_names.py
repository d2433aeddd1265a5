"""The settings' lists of names, read. Pure."""

from __future__ import annotations

from deploytrail_schemas.errors import ConfigurationError


def names_of(setting: str) -> tuple[str, ...]:
    """The names of `a,b`."""
    return tuple(name.strip() for name in setting.split(",") if name.strip())


def pairs_of(setting: str, variable: str) -> dict[str, str]:
    """The pairs of `a=b,c=d`; ConfigurationError, naming the variable, for what is none."""
    found: dict[str, str] = {}
    for pair in names_of(setting):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals or not value:
            raise ConfigurationError(f"{variable} has {pair!r}; expected namespace=environment,…")
        found[name] = value
    return found
