"""Legal holds: who put what under which, and who let it go. A hold is released by two people. Pure.

| a hold is | when |
|---|---|
| held | it was added |
| half released | one principal asked for its release |
| released | another principal asked too |

An addition counts whoever signed it, since it destroys nothing; a release counts only with a principal's signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from deploytrail_sinks.archive.acts import Act

ADDED, RELEASED = "hold_added", "hold_release_asked"
NEEDED = 2


@dataclass(frozen=True, slots=True)
class Hold:
    """What lies below a prefix may not be purged. `released_by`: who asked for its release, in order."""

    name: str
    prefix: str
    reason: str
    by: str
    at: str
    released_by: tuple[str, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it still holds."""
        return len(self.released_by) < NEEDED

    @property
    def state(self) -> str:
        """In a word or two."""
        if not self.is_active:
            return "released"
        return "half released" if self.released_by else "held"

    def covers(self, name: str) -> bool:
        """Whether an object is under it."""
        return name == self.prefix or name.startswith(f"{self.prefix.rstrip('/')}/") or not self.prefix


def holds_of(acts: Iterable[Act]) -> dict[str, Hold]:
    """Every hold by its name, released ones too."""
    found: dict[str, Hold] = {}
    for act in acts:
        if act.kind == ADDED:
            name = name_of(act)
            found[name] = Hold(name, str(act.said.get("prefix", "")), str(act.said.get("reason", "")), act.by, act.at)
        elif act.kind == RELEASED and act.verified:
            hold = found.get(str(act.said.get("hold", "")))
            if hold is not None and act.by not in hold.released_by:
                found[hold.name] = replace(hold, released_by=(*hold.released_by, act.by))
    return found


def name_of(added: Act) -> str:
    """The name of the hold that an act adds."""
    return f"hold-{added.number}"


def active_on(name: str, holds: Iterable[Hold]) -> list[str]:
    """The holds that are on an object."""
    return [hold.name for hold in holds if hold.is_active and hold.covers(name)]
