"""Policies of the kind `approval`: whose approval a deployment needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope


@dataclass(frozen=True, slots=True)
class Approvals:
    """What must stand on the trail before a deployment begins.

    `count`: approvals of different people; 0: none is needed. `roles`: in one of which each of them must be given;
    none: any. `holders`: who has a role, as of this version of the policy; a role that is not listed is believed as
    the approval names it. `valid_minutes`: how long an approval holds that does not say so itself. `unbound`: whether
    an approval counts that names no digest and precedes the registration. `permit`: whether a deployment must also
    have a permit of the gate.
    """

    count: int = 1
    roles: tuple[str, ...] = ()
    holders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    four_eyes: bool = True
    valid_minutes: float = 24 * 60
    registration: bool = True
    unbound: bool = False
    permit: bool = False
    scope: Scope = field(default_factory=Scope)


def read_approvals(reader: Reader) -> Approvals:
    usual = Approvals()
    count = reader.count("count", usual.count, least=0, most=20, about="How many different people must approve.")
    return Approvals(
        count=usual.count if count is None else count,
        roles=reader.texts("roles"),
        holders=reader.texts_by_name(
            "holders", about="Who has a role; of roles left out, what an approval says holds."
        ),
        four_eyes=_flag(reader, "four_eyes", usual.four_eyes),
        valid_minutes=reader.number("valid_minutes", usual.valid_minutes) or usual.valid_minutes,
        registration=_flag(reader, "registration", usual.registration),
        unbound=reader.flag("unbound"),
        permit=reader.flag("permit"),
        scope=read_scope(reader),
    )


def _flag(reader: Reader, name: str, default: bool) -> bool:
    return reader.flag(name) if name in reader.raw else default
