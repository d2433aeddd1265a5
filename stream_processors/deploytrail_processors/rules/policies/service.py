"""Policies of the kind `service`."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_processors.rules.policies.reader import Reader


@dataclass(frozen=True, slots=True)
class Service:
    """A service: who owns it, what it depends on, how long its deployments take."""

    team: str = ""
    tier: str = ""
    aliases: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    expected_duration_minutes: float | None = None
    regimes: tuple[str, ...] = ()


def read_service(reader: Reader) -> Service:
    return Service(
        team=reader.text("team", ""),
        tier=reader.text("tier", ""),
        aliases=reader.texts("aliases"),
        depends_on=reader.texts("depends_on"),
        expected_duration_minutes=reader.number("expected_duration_minutes", None),
        regimes=reader.texts("regimes"),
    )
