"""What stands against a deployment follows from what was reported of it, not from the order in which that came."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.apps.approval import Approval
from deploytrail_processors.apps.change_window import ChangeWindow
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, stable_id

CLOSED = {
    "kind": "change_window",
    "name": "freeze",
    "spec": {"effect": "deny", "zone": "UTC", "start": "2026-11-02T11:30", "duration": "PT23H"},
}
OFFICE = {
    "kind": "change_window",
    "name": "office",
    "spec": {
        "effect": "allow", "zone": "UTC", "start": "2026-11-02T09:00", "end": "2026-11-02T12:30", "overrun": "violation"
    },
}  # fmt: skip
STARTED, ENDED = event("started"), event("succeeded", NOON + 40 * MINUTE)
VOIDED = event("voided", NOON - 5 * MINUTE)
AMENDED = event("amended", NOON - MINUTE, event_id=stable_id("amended"), artifact_digest="sha256:a")
APPS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "window": (ChangeWindow, [CLOSED]),
    "overrun": (ChangeWindow, [OFFICE]),
    "approval": (Approval, []),
}


def against(app: Handled) -> set[tuple[str, ...]]:
    return {(one["rule"], one["verdict"], one["reason"]) for one in app.standing if one["verdict"] != "ok"}


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize("others", [[VOIDED], [AMENDED], [ENDED, AMENDED], [ENDED, VOIDED]])
@pytest.mark.parametrize("name", APPS)
def test_what_takes_a_deployment_back_or_corrects_it_counts_whenever_it_comes(
    name: str, others: list[dict[str, Any]]
) -> None:
    make, policies = APPS[name]
    found = []
    for order in permutations([STARTED, *others]):
        for told in (lambda one: [one], lambda one: [one, one, tick(NOON + 60 * MINUTE)]):
            app = Handled(make, policies)
            for one in order:
                app.tell(*told(one))
            found.append(against(app.tell(tick(NOON + 61 * MINUTE))))

    assert all(stands == found[0] for stands in found)
    assert bool(found[0]) == (VOIDED not in others)
    assert not any(reason == "no_artifact_digest" for _, _, reason in found[0])
