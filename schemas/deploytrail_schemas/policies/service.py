"""Policies of the kind `service`."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.reader import Reader

GRAINS = ("environment", "region", "instance")  # from coarse to fine


@dataclass(frozen=True, slots=True)
class Service:
    """A service: who owns it, what it depends on, how long its deployments take, what each covers."""

    team: str = ""
    tier: str = ""
    aliases: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    expected_duration_minutes: float | None = None
    regimes: tuple[str, ...] = ()
    grain: str = ""  # one of GRAINS; empty: any


def read_service(reader: Reader) -> Service:
    return Service(
        team=reader.text("team", "", about="Who owns it."),
        tier=reader.text("tier", "", about="How much hangs on it, in words of your own, such as 1."),
        aliases=reader.texts("aliases", about="Other names of it; * and ? stand for any characters and any one."),
        depends_on=reader.texts("depends_on", about="Services that it cannot do without."),
        expected_duration_minutes=reader.number(
            "expected_duration_minutes", None, about="How long a deployment may take before it is overdue."
        ),
        regimes=reader.texts("regimes", about="Rules of law or of customers that it is under, such as sox."),
        grain=reader.choice("grain", ("", *GRAINS), "", about="What one deployment of it covers; empty: any."),
    )
