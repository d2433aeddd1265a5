"""Policies of the kinds `environment` and `region`: other names of a place."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_processors.rules.policies.reader import Reader


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names of an environment or a region."""

    aliases: tuple[str, ...] = ()
    production: bool = False


def read_alias(reader: Reader) -> Alias:
    return Alias(aliases=reader.texts("aliases"), production=reader.flag("production"))
