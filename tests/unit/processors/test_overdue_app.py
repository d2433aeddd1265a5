"""The overdue app: it learns how long deployments take, and holds each against those before it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.apps.overdue import Overdue
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event

Value = dict[str, Any]


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def deploy(name: str, begin: float, end: float, **fields: Any) -> list[Value]:
    return [
        event(kind, at(when), deployment_id=name, **fields) for kind, when in (("started", begin), ("succeeded", end))
    ]


def history(count: int, minutes: float = 4, **fields: Any) -> list[Value]:
    """So many deployments before noon, each an hour behind the other."""
    return [record for n in range(count, 0, -1) for record in deploy(f"old-{n}", -60 * n, -60 * n + minutes, **fields)]


def reasons(told: Handled) -> dict[str, str]:
    return {found["deployment_id"]: found["reason"] for found in told.standing}


@pytest.mark.requirement("M4.2")
def test_a_deployment_is_overdue_by_what_its_service_usually_takes() -> None:
    told = Handled(Overdue).tell(*history(20), event("started", at(0)), tick(at(5.9)))
    assert told.findings == []
    told.tell(tick(at(6.5)))

    [found] = told.findings
    assert (found["reason"], found["occurred_at"]) == ("running_longer_than_expected", at(6))
    assert (
        found["evidence"] | {"expected_minutes": "6", "expected_from": "learnt", "samples": "20"} == found["evidence"]
    )
    assert found["evidence"]["usual_minutes"] == "4"
    assert "by what its last 20 took" in found["explanation"]


@pytest.mark.requirement("M4.2")
def test_other_kinds_services_and_environments_teach_it_nothing() -> None:
    for fields in ({"kind": "hotfix"}, {"service": "cart"}, {"environment": "staging"}):
        started = event("started", at(0), kind="release")
        told = Handled(Overdue).tell(*history(20, **({"kind": "release"} | fields)), started, tick(at(59)))

        assert told.findings == []
        [found] = told.tell(tick(at(60))).findings
        assert found["evidence"]["expected_from"] == "general_limit"
        assert "samples" not in found["evidence"]


def test_what_is_learnt_while_it_runs_does_not_move_its_limit() -> None:
    told = Handled(Overdue).tell(*history(20, 4), event("started", at(0)))
    told.tell(*(record for n in range(60) for record in deploy(f"long-{n}", -3000 - n, -2000 - n)), tick(at(7)))

    assert reasons(told) == {"shop-1": "running_longer_than_expected"}
    assert told.findings[0]["occurred_at"] == at(6)


def test_lost_deployments_teach_nothing() -> None:
    lost = [event("started", at(-3000 - n), deployment_id=f"lost-{n}") for n in range(30)]
    told = Handled(Overdue).tell(*lost, tick(at(-1)), event("started", at(0)), tick(at(61)))

    found = next(f for f in told.findings if f["deployment_id"] == "shop-1")
    assert found["evidence"]["expected_from"] == "general_limit"


def test_an_end_within_what_was_learnt_takes_it_back() -> None:
    told = Handled(Overdue).tell(*history(20), event("started", at(0)), tick(at(7)), event("succeeded", at(5)))

    assert reasons(told) == {"shop-1": "ended_in_time"}


def test_a_voided_deployment_is_not_overdue_any_more() -> None:
    told = Handled(Overdue).tell(event("started", at(0)), tick(at(61)), event("voided", at(62)))

    assert reasons(told) == {"shop-1": "deployment_voided"}


def test_after_a_restart_what_a_tick_decided_is_written_again() -> None:
    told = Handled(Overdue).tell(event("started", at(0)), tick(at(61)))
    before = list(told.written)
    told.handler.on_recovered()
    told.tell(tick(at(61.1)), tick(at(61.2)))

    assert len(before) == 1
    assert told.written == [*before, *before]


def test_a_redelivery_of_every_record_changes_nothing() -> None:
    trail = [*history(12), event("started", at(0)), tick(at(30)), *deploy("shop-2", 31, 33), tick(at(90))]
    twice = [again for record in trail for again in (record, record)]

    assert Handled(Overdue).tell(*twice).findings == Handled(Overdue).tell(*trail).findings


def test_the_ends_of_a_backfill_in_any_order_teach_the_same() -> None:
    past = history(30, 3)
    later = [event("started", at(0)), tick(at(200))]

    assert Handled(Overdue).tell(*past[::-1], *later).findings == Handled(Overdue).tell(*past, *later).findings


@pytest.mark.requirement("M4.2")
def test_what_a_newer_one_has_superseded_is_not_overdue() -> None:
    newer = deploy("shop-2", 10, 20)
    told = Handled(Overdue).tell(event("started", at(0)), *newer, tick(at(61)), tick(at(300)))

    assert told.findings == []
    # It had been overdue by then where the newer one ended after its time.
    late = Handled(Overdue).tell(event("started", at(0)), *deploy("shop-2", 61, 70), tick(at(71)))
    assert reasons(late) == {"shop-1": "running_longer_than_expected"}
    assert late.findings[0]["occurred_at"] == at(60)


@pytest.mark.requirement("M3.4", "M4.2")
def test_a_newer_one_that_is_heard_of_late_takes_it_back_and_its_voiding_brings_it_back() -> None:
    told = Handled(Overdue).tell(event("started", at(0)), tick(at(61)), *deploy("shop-2", 10, 20))

    assert reasons(told) == {"shop-1": "superseded_in_time"}
    [found] = [f for f in told.standing if f["deployment_id"] == "shop-1"]
    assert "was superseded by shop-2 within its 60 minutes after all" in found["explanation"]
    # One that is void superseded nothing: what had not been judged yet is judged.
    void = event("voided", at(25), deployment_id="shop-2")
    again = Handled(Overdue).tell(event("started", at(0)), *deploy("shop-2", 10, 20), tick(at(30)), void, tick(at(61)))
    assert reasons(again) == {"shop-1": "running_longer_than_expected"}
    # And what was taken back stands again, in place of that.
    told.tell(void, tick(at(62)))
    first, back, anew = [f for f in told.findings if f["deployment_id"] == "shop-1"]
    assert reasons(told) == {"shop-1": "running_longer_than_expected"}
    assert [back["supersedes"], anew["supersedes"]] == [first["finding_id"], back["finding_id"]]
    assert told.tell(void, tick(at(63))).findings == [first, back, anew]


@pytest.mark.requirement("M3.4", "M4.2")
def test_what_stands_is_the_same_in_whatever_order_a_newer_one_and_its_voiding_are_told() -> None:
    void = event("voided", at(25), deployment_id="shop-2")
    for order in permutations([*deploy("shop-2", 10, 20), void, tick(at(61))]):
        told = Handled(Overdue).tell(event("started", at(0)), *order, tick(at(62)), tick(at(80)))

        assert reasons(told) == {"shop-1": "running_longer_than_expected"}


def test_an_end_in_time_that_a_surer_source_corrects_takes_nothing_back() -> None:
    early = event("succeeded", at(50), source="github")
    late = event("succeeded", at(70))
    for order in permutations([early, late, tick(at(61))]):
        told = Handled(Overdue).tell(event("started", at(0)), *order, tick(at(80)))
        # Who heard of the end before the tick that was due found nothing to say.
        assert reasons(told) in ({"shop-1": "running_longer_than_expected"}, {})
    told = Handled(Overdue).tell(event("started", at(0)), tick(at(61)), early)
    assert reasons(told) == {"shop-1": "ended_in_time"}
    assert reasons(told.tell(late)) == {"shop-1": "running_longer_than_expected"}


def test_what_a_rollback_undid_while_it_ran_is_not_overdue() -> None:
    undo = deploy("undo", 10, 20, kind="rollback", rollback_of="shop-1")
    told = Handled(Overdue).tell(event("started", at(0)), *undo, tick(at(61)))

    assert told.findings == []


def test_a_parent_is_not_overdue_once_its_children_have_ended() -> None:
    child = deploy("child", 1, 5, service="cart", parent_deployment_id="shop-1")
    still = Handled(Overdue).tell(event("started", at(0)), child[0], tick(at(61)))
    ended = Handled(Overdue).tell(event("started", at(0)), *child, tick(at(61)))

    assert set(reasons(still)) == {"child", "shop-1"}
    assert ended.findings == []
    assert reasons(still.tell(child[1])) == {"child": "ended_in_time", "shop-1": "ended_in_time"}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_part_of_which_only_progress_is_known_keeps_the_whole_open_before_a_restart_and_after(restarts: bool) -> None:
    part = {"parent_deployment_id": "whole", "service": "cart"}
    told = Handled(Overdue).tell(event("started", at(0), deployment_id="whole"), *deploy("done", 1, 5, **part))
    told.tell(event("progressed", at(1), deployment_id="running", **part))
    if restarts:
        told.handler.on_recovered()

    assert reasons(told.tell(tick(at(61)))) == {"whole": "running_longer_than_expected"}
