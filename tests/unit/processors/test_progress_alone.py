"""A deployment of which only progress is known so far counts in every app, before a restart and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deploytrail_processors.apps.approval import Approval
from deploytrail_processors.apps.change_window import ChangeWindow
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_processors.apps.lifecycle import Lifecycle
from deploytrail_processors.apps.overdue import Overdue
from deploytrail_processors.apps.rollback_verification import Verification
from deploytrail_processors.apps.success_criteria import Success
from support.apps import Handled, tick
from support.values import MINUTE, NOON, approval, event, observation, signal

Value = dict[str, Any]
OFFICE = {
    "kind": "change_window",
    "name": "office",
    "spec": {
        "effect": "allow", "zone": "UTC", "start": "2026-11-02T09:00", "end": "2026-11-02T12:30", "overrun": "violation"
    },
}  # fmt: skip
QUICK = {"kind": "success_criteria", "name": "quick", "spec": {"max_duration_minutes": 10}}


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def deploy(name: str, begin: float, end: float, **fields: Any) -> list[Value]:
    return [
        event(what, at(when), deployment_id=name, **fields) for what, when in (("started", begin), ("succeeded", end))
    ]


def progress(name: str, minutes: float = 1, **fields: Any) -> Value:
    return event("progressed", at(minutes), deployment_id=name, **fields)


def health(minutes: float) -> Value:
    return signal("health_check", at(minutes), fingerprint="latency", healthy=True)


PART = {"parent_deployment_id": "whole", "service": "cart"}
WHOLE = [event("started", NOON, deployment_id="whole"), *deploy("done", 1, 5, **PART), progress("part", **PART)]
GLASS = {"kind": "break_glass", "name": "hotfixes", "spec": {"scope": {"kinds": ["hotfix"]}}}
HOTFIX = {"kind": "hotfix", "deployer": "dora"}
EMERGENCY = approval("approved", at(2), approver="ada", emergency=True, justification="down", valid_until=at(90))
UNDO = deploy("undo", 10, 12, kind="rollback", rollback_of="shop-2")
# App, policies, what is told before a restart and after it, and what is said in the end: of which deployment, and why.
CASES: dict[str, tuple[Callable[..., Any], list[Value], list[Value], list[Value], tuple[str, str]]] = {
    "record": (Lifecycle, [], WHOLE, [], ("whole", "running")),
    "overdue": (Overdue, [], WHOLE, [], ("whole", "running_longer_than_expected")),
    "overrun": (ChangeWindow, [OFFICE], WHOLE, [], ("whole", "still_running_after_close")),
    "emergency": (
        *(ChangeWindow, [OFFICE, GLASS], [progress("shop-1", **HOTFIX), EMERGENCY]),
        *([event("started", at(40), **HOTFIX)], ("shop-1", "break_glass")),
    ),
    "target of a rollback": (
        *(Verification, [], [progress("shop-2", previous_version="1"), observation(at(13), version="1"), *UNDO]),
        *([health(-9), health(-6), health(-3), health(15), health(18), health(21)], ("undo", "rollback_verified")),
    ),
    "undone": (
        *(Success, [QUICK], [progress("shop-2"), *UNDO], [event("succeeded", at(5), deployment_id="shop-2")]),
        ("shop-2", "deployment_rolled_back"),
    ),
    "cause": (
        *(Correlation, [], [progress("shop-1"), signal(at=at(6))], deploy("shop-1", 0, 5)),
        ("shop-1", "deployed_shortly_before"),
    ),
    "artifact": (
        *(Approval, [], [progress("shop-1", artifact_digest="sha256:a")], [event("started", NOON), tick(at(9))]),
        ("shop-1", "unregistered"),
    ),
}  # fmt: skip


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_what_only_progress_is_known_of_counts(name: str, restarts: bool) -> None:
    make, policies, before, after, expected = CASES[name]
    told = Handled(make, policies).tell(*before)
    if restarts:
        told.handler.on_recovered()
    told.tell(*after, tick(at(61)))
    found = {(f["deployment_id"], f["reason"]) for f in told.standing}
    records = {value["deployment_id"]: value["state"] for value in told.written if "revision" in value}

    assert expected in found | set(records.items())
