"""What one check of `deploytrail doctor` found."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, BROKEN = "ok", "warning", "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. BROKEN: events are lost or never arrive; WARNING: they arrive, and something is amiss."""

    state: str
    what: str
    detail: str
    fix: str = ""
