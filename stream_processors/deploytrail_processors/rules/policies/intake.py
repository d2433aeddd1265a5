"""Policies of the kind `intake`: where records are accepted that nobody signed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope


@dataclass(frozen=True, slots=True)
class Intake:
    """Whether records that nobody signed are accepted from Kafka, in some services, environments and regions."""

    accept_unsigned: bool
    scope: Scope


def read_intake(reader: Reader) -> Intake:
    about = "Whether records from Kafka are taken that nobody signed."
    unsigned = reader.choice("unsigned", ("accept", "refuse"), about=about)
    scope = read_scope(reader)
    for name in ("teams", "tiers", "kinds"):
        if getattr(scope, name):
            reader.wrong(f"scope.{name}", "cannot be asked of a reporter that nobody knows")
    return Intake(unsigned == "accept", replace(scope, teams=(), tiers=(), kinds=()))
