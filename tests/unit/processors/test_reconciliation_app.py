"""What runs is held against what was deployed and declared: missing deployments are inferred, and taken back."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from deploytrail_processors.apps.reconciliation import Reconcile
from deploytrail_processors.rules import lifecycle
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from support.apps import Handled, tick
from support.values import MINUTE, NOON, event, observation

Value = dict[str, Any]


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def deploy(version: str, begin: float = 0, end: float = 5, *, last: str = "succeeded", **fields: Any) -> list[Value]:
    name = fields.pop("deployment_id", f"shop-{version}")
    return [
        event(what, at(when), deployment_id=name, version=version, **fields)
        for what, when in (("started", begin), (last, end))
    ]


def runs(minutes: float, version: str, instance: str = "pod-1", **fields: Any) -> Value:
    return observation(at(minutes), version=version, instance=instance, **{"cluster": "prod-1", **fields})


def gone(minutes: float, instance: str = "pod-1", **fields: Any) -> Value:
    return observation(at(minutes), observation_type="removed", instance=instance, **{"cluster": "prod-1", **fields})


def declares(minutes: float, version: str, **fields: Any) -> Value:
    return observation(at(minutes), observation_type="declared", version=version, **{"source": "git", **fields})


class World:
    """The app, on a trail on which it finds what it wrote itself."""

    def __init__(self, policies: tuple[Value, ...] = ()) -> None:
        self.handled = Handled(Reconcile, policies)
        self._read = 0

    def tell(self, *records: Value) -> World:
        for record in records:
            self.handled.tell(record)
            for written in self.handled.written[self._read :]:
                self._read += 1
                if "event_id" in written:
                    self.handled.tell(written)
        return self

    def until(self, minutes: float) -> World:
        """Ticks every minute up to a time."""
        return self.tell(*(tick(at(minute)) for minute in range(-90, int(minutes) + 1)))

    @property
    def inferred(self) -> list[Value]:
        """Records of what was inferred and not taken back, in order of their times."""
        facts: dict[str, lifecycle.Facts] = {}
        for written in self.handled.written:
            if "event_id" in written:
                name = written["deployment_id"]
                facts[name] = lifecycle.add(facts.get(name, lifecycle.new_facts(name)), written)
        found = [lifecycle.derive(one, 0, None) for one in facts.values()]
        return sorted((one for one in found if one["state"] != "voided"), key=lambda one: one["finished_at"])

    def events(self, word: str) -> list[Value]:
        return [one for one in self.handled.written if one.get("event_type") == word]

    def findings(self, rule: str) -> list[Value]:
        return [one for one in self.handled.findings if one["rule"] == rule]

    def standing(self, rule: str) -> list[tuple[str, str]]:
        return [(one["verdict"], one["reason"]) for one in self.handled.standing if one["rule"] == rule]


def said(record: Value) -> tuple[str, str, str]:
    return record["version"], record["kind"], record["provenance"]


BEFORE = deploy("1", -60, -55)


@pytest.mark.requirement("M3.5")
def test_what_runs_without_a_deployment_becomes_an_inferred_record_after_the_grace() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), gone(10), runs(10, "2", "pod-2"), runs(11, "2", "pod-3"))

    world.until(24)
    assert world.inferred == []
    world.until(26)

    [record] = world.inferred
    assert said(record) == ("2", "release", "inferred")
    assert (record["state"], record["started_at"], record["finished_at"]) == ("succeeded", at(10), at(10))
    assert record["confidence"] == pytest.approx(0.9 * 0.9 * 0.9, abs=0.001)  # no digest, nobody declares it
    [found] = world.findings("unreported_deployment")
    assert (found["verdict"], found["reason"]) == ("violation", "runs_without_deployment")
    assert found["deployment_id"] == record["deployment_id"]
    assert found["evidence"]["why"] == "0.9, no digest was seen (x 0.9), nobody declares it (x 0.9)"


@pytest.mark.requirement("M3.5")
def test_the_real_event_that_comes_late_supersedes_the_inferred_record_and_says_so() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), runs(10, "2", "pod-2")).until(30)
    assert len(world.inferred) == 1

    world.tell(*deploy("2", 8, 12, deployment_id="real")).until(32)

    assert world.inferred == []
    [void] = {v["event_id"]: v for v in world.events("voided")}.values()
    assert void["tags"] == {"because": "what was reported late explains it", "superseded_by": "real"}
    assert world.standing("unreported_deployment") == [("ok", "explained_by_late_report")]
    first, second = world.findings("unreported_deployment")
    assert second["supersedes"] == first["finding_id"]


def test_it_is_superseded_by_the_id_that_stands_for_the_real_one() -> None:
    run: Value = {"build_system": "github_actions", "build_id": "77"}
    real = [
        *deploy("2", 8, 12, deployment_id="github:5", source="github", **run),
        *deploy("2", 8, 12, deployment_id="lib", **run),
    ]
    world = World().tell(*BEFORE, runs(-57, "1"), gone(11), runs(10, "2", "pod-2")).until(30)

    world.tell(*real).until(60)

    assert {one["tags"]["superseded_by"] for one in world.events("voided")} == {"lib"}


def test_a_late_event_within_the_grace_leaves_nothing_behind() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), gone(11), runs(10, "2", "pod-2")).until(20)

    world.tell(*deploy("2", 8, 12)).until(60)

    assert world.handled.written == []


def test_a_real_event_that_says_only_its_end_explains_what_ran_before_that() -> None:
    world = World().tell(*BEFORE, runs(10, "2", "pod-2"), event("succeeded", at(20), deployment_id="ci", version="2"))

    assert world.until(60).handled.written == []


@pytest.mark.requirement("M3.5")
def test_going_back_by_hand_is_an_inferred_rollback_and_drift_from_what_git_says() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), declares(0, "2"), *deploy("2"), runs(4, "2", "pod-2"), gone(5))
    assert world.until(20).handled.written == []

    world.tell(gone(30, "pod-2"), runs(30, "1", "pod-3")).until(46)

    [record] = world.inferred
    assert said(record) == ("1", "rollback", "inferred")
    assert record["rollback_of"] == "shop-2"
    assert world.standing("drift") == [("violation", "earlier_version_runs_again")]
    [found] = world.findings("drift")
    assert found["explanation"] == (
        "git says 2, shop in prod-1 runs 1 on 1 of 1 (pod-3): "
        "somebody went back by hand, what is declared was not changed"
    )
    world.tell(declares(50, "1")).until(52)
    assert world.standing("drift") == [("ok", "runs_as_declared")]
    assert len(world.inferred) == 1


def test_going_back_in_one_cluster_alone_does_not_call_the_deployment_rolled_back() -> None:
    there = runs(4, "2", "pod-8", cluster="prod-2")
    world = World().tell(*BEFORE, runs(-57, "1"), *deploy("2"), runs(4, "2", "pod-2"), there, gone(5))
    world.tell(gone(30, "pod-2"), runs(30, "1", "pod-3")).until(60)

    assert [(*said(one), one["rollback_of"]) for one in world.inferred] == [("1", "rollback", "inferred", "")]


def test_an_old_instance_that_stays_is_a_stuck_rollout_and_no_deployment() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), runs(-57, "1", "pod-9"), declares(0, "2"), *deploy("2"))
    world.tell(gone(3), runs(3, "2", "pod-2")).until(19)
    assert world.findings("drift") == []

    world.until(21)

    assert world.inferred == []
    assert world.standing("drift") == [("violation", "rollout_stuck")]
    world.tell(gone(30, "pod-9"), runs(30, "2", "pod-3")).until(32)
    assert world.standing("drift") == [("ok", "runs_as_declared")]


def test_declared_and_never_rolled_out_is_found_after_the_grace_without_any_deployment() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), declares(0, "2", commit_sha="0123456789abcdef")).until(14)
    assert world.findings("drift") == []

    world.until(16)

    [found] = world.findings("drift")
    assert found["reason"] == "declared_but_not_running"
    assert (found["evidence"]["declared"], found["evidence"]["runs"]) == ("2", "1")
    assert found["evidence"]["commit"] == "0123456789abcdef"


def test_mixed_versions_are_no_drift_while_a_deployment_is_open() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), declares(0, "2"), event("started", at(0), deployment_id="slow"))
    world.tell(event("progressed", at(1), deployment_id="slow", version="2"), runs(5, "2", "pod-2")).until(90)
    assert world.handled.written == []

    world.tell(event("succeeded", at(90), deployment_id="slow", version="2")).until(106)

    assert world.standing("drift") == [("violation", "rollout_stuck")]


def test_clusters_are_compared_each_and_found_together() -> None:
    world = World().tell(
        *BEFORE, *deploy("2"), declares(0, "2"), runs(2, "2", "a"), runs(-50, "1", "b", cluster="prod-2")
    )
    world.until(30)

    [found] = world.findings("drift")
    assert found["evidence"]["clusters"] == "prod-2: declared_but_not_running, 1"


def test_what_the_platform_declares_holds_for_its_cluster_and_version_control_stands_above_it() -> None:
    own: Value = {"source": "kubernetes_watch", "cluster": "prod-1", "instance": "shop/Deployment/shop"}
    world = World().tell(*BEFORE, runs(-57, "1"), declares(-58, "1", **own)).until(0)
    assert world.handled.written == []

    world.tell(declares(0, "2")).until(20)

    assert world.standing("drift") == [("violation", "declared_but_not_running")]


def test_more_instances_of_what_ran_all_along_are_no_deployment() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), *deploy("2"), runs(100, "1", "scaled-up"))

    assert World.until(world, 130).inferred == []


def test_a_place_that_nobody_knew_is_recorded_without_a_start_and_less_surely() -> None:
    world = World().tell(runs(-10, "7")).until(10)

    [record] = world.inferred
    assert (record["kind"], record["started_at"], record["state"]) == ("unknown", None, "succeeded")
    assert record["confidence"] == pytest.approx(0.9 * 0.5 * 0.8 * 0.9 * 0.9, abs=0.001)


def test_an_instance_that_bears_the_id_of_a_deployment_is_explained_whatever_its_version() -> None:
    tags = {"deployment_id": "shop-2"}
    world = World().tell(*BEFORE, *deploy("release-2", deployment_id="shop-2"), runs(50, "4.2", "pod-2", tags=tags))

    assert World.until(world, 90).inferred == []


def test_what_cannot_be_compared_accuses_nobody() -> None:
    revision = "5e5ee0cbe0c4a0a4ff3f1ba8dd0ef9bd7dbd1e01"
    world = World().tell(*deploy(revision, -60, -55), runs(10, "4.2", "pod-2"), declares(0, revision)).until(60)

    assert world.handled.written == []


def test_an_old_instance_that_restarts_over_and_over_is_no_deployment() -> None:
    world = World().tell(*BEFORE, runs(-57, "1"), *deploy("2"))
    world.tell(*(runs(10 + n, "1", observation_id=f"restart-{n}") for n in range(60)))

    assert World.until(world, 100).inferred == []
    assert world.standing("drift") == [("violation", "declared_but_not_running")]


def test_sidecars_are_not_the_service() -> None:
    tags = {"image": "registry/shop:1"}
    world = World().tell(*BEFORE, runs(-57, "proxy-9", tags=tags), runs(-56, "1", tags=tags)).until(60)

    assert world.handled.written == []


def test_clocks_that_leave_open_who_came_first_accuse_nobody() -> None:
    late = deploy("2", 20, 25)
    world = World().tell(*BEFORE, runs(10, "2", "pod-2", uncertainty_ms=10 * 60_000), *late).until(60)

    assert world.inferred == []


def test_what_somebody_takes_back_is_not_inferred_again() -> None:
    world = World().tell(*BEFORE, runs(10, "2", "pod-2")).until(30)
    [record] = world.inferred

    void = event("voided", at(40), deployment_id=record["deployment_id"], source="cli")
    world.tell(void, runs(45, "2", "pod-3")).until(90)

    assert len({one["deployment_id"] for one in world.events("succeeded")}) == 1
    assert world.events("voided") == []


def test_when_the_real_one_is_taken_back_the_record_is_inferred_under_another_id() -> None:
    world = World().tell(*BEFORE, runs(10, "2", "pod-2")).until(30)
    world.tell(*deploy("2", 8, 12, deployment_id="real")).until(40)

    world.tell(event("voided", at(41), deployment_id="real")).until(45)

    [record] = world.inferred
    assert record["deployment_id"] not in {one["deployment_id"] for one in world.events("voided")}


def test_policy_says_how_long_to_wait_and_whether_at_all() -> None:
    def policy(**spec: Any) -> Value:
        return {"kind": "reconciliation", "name": "own", "spec": spec | {"scope": {"services": ["shop"]}}}

    records = (*BEFORE, runs(-57, "1"), declares(0, "3"), runs(10, "2", "pod-2"))

    assert len(World((policy(grace_minutes=1),)).tell(*records).until(12).inferred) == 1
    quiet = World((policy(infer=False, drift=False),)).tell(*records).until(60)
    assert quiet.handled.written == []


def test_everything_is_written_again_at_the_next_tick_and_then_no_more() -> None:
    world = World().tell(*BEFORE, runs(10, "2", "pod-2")).until(80)
    written = world.handled.written

    ids = [one.get("event_id") or one["finding_id"] for one in written]
    assert all(ids.count(one) == 2 for one in ids)
    assert all(first == again for first, again in zip(written[:3], written[3:6], strict=True))


def test_what_is_inferred_is_written_as_the_trail_has_it() -> None:
    [started, *_] = World().tell(*BEFORE, runs(10, "2", "pod-2", uncertainty_ms=70)).until(30).events("started")

    assert decode(encode(RecordType.DEPLOYMENT_EVENT, started))[1] == started
    assert (started["source"], started["provenance"], started["reporter"]) == ("reconciliation", "inferred", "")
    assert (started["corrected_at"], started["uncertainty_ms"]) == (at(10), 70)
    assert started["received_at"] == at(26)  # the tick that decided: never ahead of partition time


STORY = [
    *BEFORE,
    runs(-57, "1"),
    declares(0, "2"),
    *deploy("2"),
    runs(4, "2", "pod-2"),
    gone(5),
    gone(30, "pod-2"),
    runs(30, "1", "pod-3"),
    runs(33, "5", "pod-4"),
    *deploy("5", 32, 34, deployment_id="real"),
]


def outcome(records: list[Value]) -> Any:
    world = World().tell(*records).until(70)
    inferred = [(*said(one), one["finished_at"], one["confidence"]) for one in world.inferred]
    return inferred, world.standing("drift"), sorted(world.standing("unreported_deployment"))


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(chance: random.Random) -> None:
    records = [*STORY, *chance.sample(STORY, 4)]
    chance.shuffle(records)

    assert outcome(records) == outcome(STORY)


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_whatever_comes_when_the_end_is_the_same(chance: random.Random) -> None:
    world = World()
    arrives: dict[int, list[Value]] = {}
    for record in STORY:
        arrives.setdefault(
            int((record["corrected_at"] - NOON) / MINUTE) + chance.choice((0, 1, 10, 30, 90)), []
        ).append(record)
    for minute in range(-90, 180):
        world.tell(*arrives.get(minute, ()), tick(at(minute)))

    inferred = [said(one) for one in world.inferred]
    expected = outcome(STORY)
    assert (inferred, world.standing("drift")) == ([one[:3] for one in expected[0]], expected[1])
    for rule in ("drift", "unreported_deployment"):
        by_subject: dict[str, list[Value]] = {}
        for found in world.findings(rule):
            by_subject.setdefault(found["deployment_id"] if rule != "drift" else "", []).append(found)
        for chain in by_subject.values():
            assert all(later["supersedes"] == earlier["finding_id"] for earlier, later in pairwise(chain))


VERSIONS, INSTANCES, CLUSTERS = ("1", "2", "3"), ("a", "b", "c"), ("prod-1", "prod-2")


@st.composite
def stories(draw: st.DrawFn) -> list[Value]:
    """Deployments, instances that come and go, and declarations, in any combination."""
    found: list[Value] = []
    for number in range(draw(st.integers(1, 12))):
        minute, version = draw(st.integers(-60, 60)), draw(st.sampled_from(VERSIONS))
        what = draw(st.sampled_from(("deploy", "run", "run", "run", "remove", "declare")))
        where: Value = {"instance": draw(st.sampled_from(INSTANCES)), "cluster": draw(st.sampled_from(CLUSTERS))}
        if what == "deploy":
            last = draw(st.sampled_from(("succeeded", "succeeded", "failed", "rolled_back", "voided")))
            found += deploy(version, minute, minute + 5, last=last, deployment_id=f"d{number}")
        elif what == "run":
            found.append(runs(minute, version, **where))
        else:
            found.append(gone(minute, **where) if what == "remove" else declares(minute, version))
    return found


@settings(deadline=None, max_examples=60)
@given(stories(), st.randoms(use_true_random=False))
def test_any_story_ends_the_same_in_every_order(story: list[Value], chance: random.Random) -> None:
    shuffled = story + chance.sample(story, len(story) // 2)
    chance.shuffle(shuffled)

    assert outcome(shuffled) == outcome(story)
    assert outcome(story)[0] == outcome(sorted(story, key=lambda one: one["corrected_at"]))[0]
