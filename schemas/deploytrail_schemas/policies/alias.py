"""Policies of the kinds `environment` and `region`: other names of a place.

Which name wins: an exact one before a pattern, then the longest pattern, then the first of the
alphabet. Case and surrounding space never matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import NamedTuple

from deploytrail_schemas.policies.reader import Reader

# What every company says; policies win over these.
USUAL_ENVIRONMENTS = {
    "prod": "production",
    "prd": "production",
    "live": "production",
    "stg": "staging",
    "stage": "staging",
    "preprod": "staging",
    "pre-production": "staging",
    "uat": "staging",
    "qa": "test",
    "testing": "test",
    "dev": "development",
    "develop": "development",
}


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names of an environment or a region."""

    aliases: tuple[str, ...] = ()
    production: bool | None = None  # None: it does not say


def read_alias(reader: Reader) -> Alias:
    about = "Whether what happens there is production; left out: where its names usually say so."
    aliases = reader.texts("aliases", about="Other names of it; * and ? stand for any characters and any one.")
    production = reader.flag("production", about=about)
    if reader.is_wrong("production"):
        return Alias(aliases, production=True)  # what cannot be read excuses nothing from what production asks
    return Alias(aliases, production if "production" in reader.raw else None)


class Match(NamedTuple):
    """The canonical name that a reported one means, and the alias that says so."""

    name: str
    alias: str


class Aliases:
    """The names of a kind, looked up by what was reported."""

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self._exact: dict[str, Match] = {}
        patterns: list[tuple[int, str, str]] = []
        for name, aliases in sorted(names.items()):
            for alias in map(plain, aliases):
                if is_pattern(alias):
                    patterns.append((-len(alias), alias, name))
                else:
                    self._exact.setdefault(alias, Match(name, alias))
        # The own name of one is never the alias of another.
        self._exact |= {plain(name): Match(name, plain(name)) for name in names}
        self._patterns = [(_compiled(alias), Match(name, alias)) for _, alias, name in sorted(patterns)]

    def __bool__(self) -> bool:
        return bool(self._exact)

    def find(self, reported: str) -> Match | None:
        """What a reported name means; None where no alias says it."""
        wanted = plain(reported)
        found = self._exact.get(wanted)
        if found is None:
            found = next((match for pattern, match in self._patterns if pattern.fullmatch(wanted)), None)
        return found


def usual_environment(reported: str) -> Match | None:
    """The environment that every company means by a name, without the digits behind it; None where none does."""
    name = plain(reported)
    if name in USUAL_ENVIRONMENTS.values():
        return Match(name, name)
    usual = next((one for one in (name, name.rstrip("0123456789")) if one in USUAL_ENVIRONMENTS), None)
    return Match(USUAL_ENVIRONMENTS[usual], usual) if usual is not None else None


def plain(name: str) -> str:
    """A name by which names compare."""
    return name.strip().lower()


def is_pattern(alias: str) -> bool:
    """Whether an alias stands for many names."""
    return "*" in alias or "?" in alias


def _compiled(alias: str) -> re.Pattern[str]:
    # translate() matches each part once, so that no name takes long; it would take [ for a set of characters.
    return re.compile(translate(alias.replace("[", "[[]")))
