"""What was said, taken back and said again stands: no two findings supersede each other, so that none is lost."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.apps.approval import Approval
from deploytrail_processors.apps.change_window import ChangeWindow
from deploytrail_processors.apps.governance import Governance
from support.apps import Handled, tick
from support.values import MINUTE, NOON, approval, event, stable_id

PLACE = {"environments": ["production"]}
FREEZE = {
    "kind": "change_window",
    "name": "freeze",
    "spec": {"effect": "deny", "zone": "UTC", "start": "2026-11-02T00:00", "duration": "PT23H", "scope": PLACE},
}
OFFICE = {
    "kind": "change_window",
    "name": "office",
    "spec": {
        "effect": "allow", "zone": "UTC", "start": "2026-11-02T09:00", "end": "2026-11-02T12:30",
        "overrun": "violation", "scope": PLACE,
    },
}  # fmt: skip
REGIME = {"kind": "regime", "name": "sox", "spec": {"controls": ["approved"]}}
SHOP = {"kind": "service", "name": "shop", "spec": {"regimes": ["sox"]}}
APPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "change_window": (ChangeWindow, FREEZE),
    "change_window_overrun": (ChangeWindow, OFFICE),
    "unregistered_deployment": (Approval, {}),
    "missing_approval": (Approval, {}),
}


def moved(count: int) -> list[dict[str, Any]]:
    """Amendments by which a deployment was in another place, in its own again, and so on."""
    return [
        event("amended", NOON + n, event_id=stable_id(f"moved {n}"), environment=("production", "staging")[n % 2])
        for n in range(1, count + 1)
    ]


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("moves", [2, 3, 4])
@pytest.mark.parametrize("rule", APPS)
def test_a_violation_that_was_amended_away_and_back_stands(rule: str, moves: int) -> None:
    make, policy = APPS[rule]
    later = tick(NOON + 45 * MINUTE)
    app = Handled(make, [policy] if policy else []).tell(event("started"), later)
    [first] = [one for one in app.standing if one["rule"] == rule]
    for one in moved(moves):
        app.tell(one, later)

    [stands] = [one for one in app.standing if one["rule"] == rule]
    assert first["verdict"] == "violation"
    assert stands["verdict"] == ("ok" if moves % 2 else "violation")
    assert stands["finding_id"] == [one for one in app.written if one["rule"] == rule][-1]["finding_id"]


@pytest.mark.requirement("M1.5")
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_gap_that_was_closed_and_opened_again_stands(steps: int) -> None:
    app = Handled(Governance, [REGIME, SHOP]).tell(event("started", deployer="eve", artifact_digest="sha256:a"))
    for n in range(steps):  # reported late, one after the other, all of them before the start
        given = approval(
            "revoked" if n % 2 else "approved", NOON - (9 - n) * MINUTE, approver="ada", artifact_digest="sha256:a"
        )
        app.tell(given, given)

    [stands] = app.standing
    assert (stands["rule"], stands["verdict"]) == ("regime", "ok" if steps % 2 else "violation")
    assert len(app.findings) == steps + 1
