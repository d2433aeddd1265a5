"""Records on the topic: one that counts for each deployment, whatever order and however often the trail is read."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from deploytrail_processors.apps.lifecycle import Lifecycle
from deploytrail_processors.rules.policies import Policies
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processors import MemoryContext
from support.values import MINUTE, NOON, SECOND, approval, event

Event = dict[str, Any]
DAY = 24 * 60 * MINUTE


class Trail:
    """The app over a partition, read event by event."""

    def __init__(self, now: int = NOON + 30 * MINUTE) -> None:
        self.context = MemoryContext(Policies())
        self.context.now = now
        self.app = Lifecycle(self.context)  # type: ignore[arg-type]  # what it asks of a Context

    def read(self, *events: Event) -> Trail:
        for one in events:
            kind = RecordType.DEPLOYMENT_EVENT if "event_id" in one else RecordType.APPROVAL
            self.app.on_record(1, kind, one)
        return self

    def tick(self, now: int) -> Trail:
        self.context.now = now
        self.app.on_tick(1, now)
        return self

    def restarted(self) -> Trail:
        """The same tables, read by an app that remembers nothing else; outputs before are gone."""
        other = Trail(self.context.now)
        other.context.tables.update(self.context.tables)
        other.app = Lifecycle(other.context)  # type: ignore[arg-type]
        return other

    def records(self) -> dict[str, Event]:
        """The newest record of each id, read from its bytes."""
        found = {value["deployment_id"]: value for _, _, value in self.context.forwarded}
        return {name: decode(encode(RecordType.RECORD, value))[1] for name, value in sorted(found.items())}

    def contents(self) -> dict[str, Event]:
        """The same without what tells how it came about."""
        return {value["deployment_id"]: _content(value) for _, _, value in self.context.forwarded}

    def states(self) -> dict[str, str]:
        return {name: record["state"] for name, record in self.records().items()}


def _content(record: Event) -> Event:
    return {name: value for name, value in record.items() if name not in ("revision", "recorded_at")}


RUN = {"build_system": "github_actions", "build_id": "77"}
STARTED = event("started", deployment_id="lib", **RUN, artifact_digest="a1")
SUCCEEDED = event("succeeded", NOON + 3 * MINUTE, deployment_id="lib", **RUN)
HOOK = event("started", NOON + SECOND, deployment_id="github:5", source="github", **RUN)
HOOK_ENDED = event("succeeded", NOON + 4 * MINUTE, deployment_id="github:5", source="github")
SYNC = event("started", NOON + MINUTE, deployment_id="argocd:1", source="argocd", parent_deployment_id="github:5")
SYNC_FAILED = event("failed", NOON + 5 * MINUTE, deployment_id="argocd:1", source="argocd", artifact_digest="a2")


@pytest.mark.requirement("M2.1")
def test_three_sources_report_one_deployment() -> None:
    records = Trail().read(STARTED, HOOK, SYNC, SUCCEEDED, HOOK_ENDED, SYNC_FAILED).records()

    assert [name for name, record in records.items() if not record["merged_into"]] == ["lib"]
    assert records["lib"]["state"] == "succeeded"
    assert records["lib"]["deployment_ids"] == ["argocd:1", "github:5", "lib"]
    assert records["lib"]["sources"] == ["argocd", "github", "library"]
    assert records["lib"]["conflicts"] == {"artifact_digest": "argocd=a2"}
    assert {records[name]["merged_into"] for name in ("argocd:1", "github:5")} == {"lib"}


def test_a_link_that_comes_last_merges_what_had_a_record_of_its_own() -> None:
    trail = Trail().read(STARTED, HOOK | {"build_id": ""})

    assert trail.states() == {"github:5": "running", "lib": "running"}
    assert trail.read(
        event("progressed", NOON + MINUTE, deployment_id="github:5", source="github", **RUN)
    ).states() == {
        "github:5": "merged",
        "lib": "running",
    }


def test_an_amendment_that_takes_the_link_away_parts_them_again() -> None:
    trail = Trail().read(STARTED, HOOK)
    amended = event("amended", NOON + MINUTE, deployment_id="github:5", source="github", build_id="78")

    assert trail.states() == {"github:5": "merged", "lib": "running"}
    assert trail.read(amended).states() == {"github:5": "running", "lib": "running"}
    assert trail.contents() == Trail().read(amended, HOOK, STARTED).contents()


@pytest.mark.requirement("M2.1", "M3.4")
def test_what_was_taken_for_one_is_two_once_another_artifact_is_heard_of_in_between() -> None:
    """Version 1, version 2 that fails, and Argo CD's way back to 1, all within minutes: three, whatever comes last."""
    one, two = {"artifact_digest": "sha256:a1"}, {"artifact_digest": "sha256:a2"}
    ours = [event("started", NOON, deployment_id="lib-1", **one),
            event("succeeded", NOON + MINUTE, deployment_id="lib-1", **one)]  # fmt: skip
    newer = event("started", NOON + 4 * MINUTE, deployment_id="lib-2", **two)
    back = event("started", NOON + 6 * MINUTE, deployment_id="argocd:1", source="argocd", **one)
    trail = Trail().read(*ours, back)
    merged = trail.states()
    states = {
        tuple(sorted(Trail().read(*order).states().items())) for order in itertools.permutations([*ours, newer, back])
    }

    assert merged == {"argocd:1": "merged", "lib-1": "succeeded"}
    assert trail.read(newer).states() == {"argocd:1": "running", "lib-1": "succeeded", "lib-2": "running"}
    assert states == {tuple(sorted(trail.states().items()))}
    # And one again, once it turns out that it was the same artifact in between.
    amended = event("amended", NOON + 7 * MINUTE, deployment_id="lib-2", **one)
    assert trail.read(amended).states()["argocd:1"] == "merged"


def test_a_pipeline_that_runs_again_is_another_deployment() -> None:
    again = [one | {"deployment_id": "lib-2", "event_id": one["event_id"][::-1], "corrected_at": at}
             for one, at in ((STARTED, NOON + 6 * MINUTE), (SUCCEEDED, NOON + 7 * MINUTE))]  # fmt: skip
    records = Trail().read(STARTED, HOOK, SUCCEEDED, HOOK_ENDED, *again).records()

    assert {name: record["merged_into"] for name, record in records.items()} == {
        "lib": "",
        "lib-2": "",
        "github:5": "lib",
    }
    assert records["lib"]["superseded_by"] == "lib-2"
    assert records["lib-2"]["superseded_by"] == ""


def test_a_newer_success_supersedes_what_had_not_ended() -> None:
    older, newer = event("started", deployment_id="a"), event("started", NOON + MINUTE, deployment_id="b")
    ended = event("succeeded", NOON + 2 * MINUTE, deployment_id="b")

    assert Trail().read(older, newer).states() == {"a": "running", "b": "running"}
    assert Trail().read(older, newer, ended).states() == {"a": "superseded", "b": "succeeded"}
    assert Trail().read(ended, newer, older).states() == {"a": "superseded", "b": "succeeded"}
    late = event("failed", NOON + 3 * MINUTE, deployment_id="a")
    assert Trail().read(older, newer, ended, late).states() == {"a": "failed", "b": "succeeded"}


def test_parts_of_one_do_not_hide_who_followed_them() -> None:
    first, second = (
        event("succeeded", NOON + at * MINUTE, deployment_id=name, parent_deployment_id="whole")
        for at, name in enumerate(("a", "b"))
    )
    newer = event("succeeded", NOON + 2 * MINUTE, deployment_id="c")
    records = Trail().read(first, second, newer).records()

    assert {name: record["superseded_by"] for name, record in records.items()} == {"a": "c", "b": "c", "c": ""}
    assert Trail().read(newer, first, second).contents() == Trail().read(first, second, newer).contents()


@pytest.mark.requirement("M2.2")
def test_the_next_release_does_not_hide_that_nobody_ended_one() -> None:
    older = event("started", deployment_id="a")
    newer = [event(kind, NOON + 2 * DAY + i, deployment_id="b") for i, kind in enumerate(("started", "succeeded"))]
    in_time = [event(kind, NOON + i * MINUTE, deployment_id="c") for i, kind in ((1, "started"), (2, "succeeded"))]
    lost = Trail().read(older).tick(NOON + 2 * DAY)
    assert lost.states() == {"a": "lost"}

    record = lost.read(*newer).tick(NOON + 3 * DAY).records()["a"]

    assert (record["state"], record["superseded_by"], record["finished_at"]) == ("lost", "b", None)
    assert Trail(NOON + 3 * DAY).read(*reversed(newer), older).contents() == lost.contents()
    # One that succeeded in time, but was reported after that.
    assert lost.read(*in_time).states()["a"] == "superseded"


@pytest.mark.parametrize(
    "other", [{"region": "elsewhere"}, {"service": "cart"}, {"cohort": "canary"}, {"kind": "database_migration"}]
)
def test_what_changes_something_else_supersedes_nothing(other: Event) -> None:
    older = event("started", deployment_id="a")
    newer = [event(k, NOON + i * MINUTE, deployment_id="b", **other) for i, k in ((1, "started"), (2, "succeeded"))]

    assert Trail().read(older, *newer).states()["a"] == "running"


def test_a_rollback_is_what_runs_now() -> None:
    lives = [
        event(kind, NOON + at * MINUTE, deployment_id=name, **more)
        for name, at, kind, more in (
            ("one", 0, "succeeded", {}),
            ("two", 1, "succeeded", {}),
            ("undo", 2, "started", {"rollback_of": "two", "kind": "rollback"}),
            ("undo", 3, "succeeded", {}),
        )
    ]
    records = Trail().read(*lives).records()

    assert {n: (r["state"], r["superseded_by"], r["rolled_back_by"]) for n, r in records.items()} == {
        "one": ("succeeded", "two", ""),
        "two": ("rolled_back", "", "undo"),
        "undo": ("succeeded", "", ""),
    }


def test_a_rollback_that_is_voided_undoes_nothing_after_all() -> None:
    one = event("succeeded", deployment_id="one")
    undo = event("succeeded", NOON + MINUTE, deployment_id="undo", rollback_of="one", kind="rollback")
    voided = event("voided", NOON + 2 * MINUTE, deployment_id="undo")

    assert Trail().read(one, undo).states()["one"] == "rolled_back"
    assert Trail().read(one, undo, voided).states() == {"one": "succeeded", "undo": "voided"}
    assert Trail().read(voided, undo, one).states() == {"one": "succeeded", "undo": "voided"}


@pytest.mark.requirement("M3.5")
def test_what_was_inferred_and_taken_back_does_not_take_the_real_one_with_it() -> None:
    told = {"artifact_digest": "a1", "confidence": 0.8, "provenance": "inferred", "source": "reconciliation"}
    guess = [event(word, NOON + MINUTE, deployment_id="guess", **told) for word in ("started", "succeeded")]
    void = event("voided", NOON + 5 * MINUTE, deployment_id="guess", **told)
    events = [STARTED, SUCCEEDED, *guess, void]

    assert Trail().read(*events[:-1]).states() == {"guess": "merged", "lib": "succeeded"}
    for some in itertools.permutations(events):
        trail = Trail().read(*some)
        assert trail.states() == {"guess": "voided", "lib": "succeeded"}
        assert (trail.records()["lib"]["provenance"], trail.records()["lib"]["confidence"]) == ("reported", 1.0)


@pytest.mark.requirement("M2.5")
def test_a_child_pipeline_counts_as_a_part_of_its_parent_once_that_is_known() -> None:
    child = event("started", deployment_id="child", service="cart", parent_deployment_id="parent")
    trail = Trail().read(child)

    assert trail.records()["child"]["part_of"] == ""
    assert trail.read(event("started", deployment_id="parent")).records()["child"]["part_of"] == "parent"


def child(name: str, kind: str = "succeeded", minute: int = 5, parent: str = "parent", **fields: Any) -> Event:
    return event(kind, NOON + minute * MINUTE, deployment_id=name, service=name, parent_deployment_id=parent, **fields)


PARENT = event("started", deployment_id="parent")


@pytest.mark.requirement("M2.5", "M3.2")
@pytest.mark.parametrize(
    ("children", "state", "reason", "minute"),
    [
        ([child("a"), child("b", minute=7)], "succeeded", "every_child_succeeded", 7),
        ([child("a", "failed"), child("b", minute=7)], "failed", "child_failed", 7),
        ([child("a", "cancelled"), child("b", minute=7)], "cancelled", "child_cancelled", 7),
        ([child("a", "failed", 7), child("b", "cancelled")], "failed", "child_failed", 7),
        ([child("a"), child("b", "started", 7)], "running", "reported", None),
        ([child("a"), child("b", "voided", 7)], "succeeded", "every_child_succeeded", 5),
        ([child("b", "voided", 7)], "running", "reported", None),
        # Children of children: one that tells of no end of its own has that of its children.
        ([child("a", "started", 1), child("b", minute=8, parent="a")], "succeeded", "every_child_succeeded", 8),
        ([child("a", "started", 1), child("b", "started", 8, parent="a")], "running", "reported", None),
        # One that was undone.
        ([child("a"), event("succeeded", NOON + 9 * MINUTE, deployment_id="undo", service="a", rollback_of="a")],
         "failed", "child_failed", 9),
        # Its own word counts more.
        ([child("a", "failed"), event("succeeded", NOON + 6 * MINUTE, deployment_id="parent")],
         "succeeded", "reported", 6),
        ([child("a"), event("voided", NOON + 6 * MINUTE, deployment_id="parent")], "voided", "reported", None),
        ([child("a"), event("started", NOON + MINUTE, deployment_id="parent", cohort="canary")],
         "running", "reported", None),
    ],
)  # fmt: skip
def test_a_parent_that_tells_of_no_end_has_that_of_its_children(
    children: list[Event], state: str, reason: str, minute: int | None
) -> None:
    for order in itertools.permutations([PARENT, *children]):
        record = Trail().read(*order).records()["parent"]

        assert (record["state"], record["outcome_reason"]) == (state, reason)
        assert record["finished_at"] == (None if minute is None else NOON + minute * MINUTE)


def test_a_child_that_comes_later_takes_the_outcome_back_and_so_does_what_corrects_one() -> None:
    trail = Trail().read(PARENT, child("a"))
    states = [trail.states()["parent"]]
    for one in (child("b", "started", 6), child("b", "failed", 7), child("b", "succeeded", 8)):
        states.append(trail.read(one).states()["parent"])

    assert states == ["succeeded", "running", "failed", "succeeded"]
    assert trail.restarted().read(child("b", "succeeded", 8)).contents()["parent"]["state"] == "succeeded"


def test_a_parent_whose_children_ended_is_not_lost_and_one_whose_child_is_lost_is() -> None:
    ended = Trail().read(PARENT, child("a")).tick(NOON + 3 * DAY)
    silent = Trail().read(PARENT, child("a", "started")).tick(NOON + 3 * DAY)

    assert ended.states() == {"a": "succeeded", "parent": "succeeded"}
    assert silent.states() == {"a": "lost", "parent": "lost"}


def test_parents_in_a_circle_have_no_end_of_each_other() -> None:
    circle = [event("started", deployment_id=a, service=a, parent_deployment_id=b) for a, b in ("ab", "bc", "ca")]
    ended = event("succeeded", NOON + MINUTE, deployment_id="a", service="a", parent_deployment_id="b")

    assert Trail().read(*circle, ended).states() == {"a": "succeeded", "b": "running", "c": "running"}


def test_parents_in_a_circle_count_for_themselves() -> None:
    circle = [event("started", deployment_id=a, service=a, parent_deployment_id=b) for a, b in ("ab", "bc", "ca")]
    records = Trail().read(*circle).records()

    assert {record["part_of"] for record in records.values()} == {""}


def test_it_waits_for_approval_and_is_not_lost_meanwhile() -> None:
    asked = approval("requested", NOON, deployment_id="a")
    trail = Trail().read(asked)

    assert trail.records() == {}
    assert trail.read(event("registered", deployment_id="a")).tick(NOON + 3 * DAY).states() == {"a": "waiting_approval"}


@pytest.mark.requirement("M2.2")
def test_lost_is_decided_by_a_tick_for_the_deployment_whatever_its_names() -> None:
    trail = Trail().read(STARTED, HOOK)

    assert trail.tick(NOON + SECOND + DAY - 1).states()["lib"] == "running"
    assert trail.tick(NOON + SECOND + DAY).states() == {"github:5": "merged", "lib": "lost"}


@pytest.mark.requirement("M2.2")
def test_what_a_tick_decided_is_told_again_after_a_crash() -> None:
    trail = Trail().read(STARTED)
    told = trail.tick(NOON + DAY).records()
    restarted = trail.restarted()
    restarted.app.on_tick(1, NOON + DAY + 1)  # the tick itself is old when it comes again

    assert told["lib"]["state"] == "lost"
    assert restarted.records() == told


def test_what_another_deployments_event_decided_is_told_again_after_a_crash() -> None:
    older, ended = event("started", deployment_id="a"), event("succeeded", NOON + 2 * MINUTE, deployment_id="b")
    trail = Trail().read(older, ended)
    restarted = trail.restarted().read(ended)

    assert restarted.records() == trail.records()


def test_a_merge_is_told_again_with_the_event_that_made_it() -> None:
    trail = Trail().read(STARTED, HOOK_ENDED, HOOK)
    restarted = trail.restarted().read(HOOK)

    assert restarted.records() == trail.records()


def test_a_deployment_of_several_names_is_forgotten_whole() -> None:
    quiet = NOON + 3 * MINUTE + 90 * DAY
    trail = Trail().read(STARTED, HOOK, SUCCEEDED)

    assert len(trail.tick(quiet - 1).context.tables["deployments"]) == 2
    assert trail.tick(quiet).context.tables["deployments"] == {}


SETS: dict[str, list[Event]] = {
    "names": [STARTED, SUCCEEDED, HOOK, HOOK_ENDED, SYNC, SYNC_FAILED],
    "rollbacks of one with two names": [
        event("succeeded", NOON, deployment_id="one"),
        event("started", NOON + MINUTE, deployment_id="two", **RUN),
        event("started", NOON + MINUTE, deployment_id="github:2", source="github", **RUN),
        event("succeeded", NOON + 2 * MINUTE, deployment_id="two"),
        event("succeeded", NOON + 4 * MINUTE, deployment_id="undo", rollback_of="github:2", kind="rollback"),
        event("voided", NOON + 5 * MINUTE, deployment_id="undo"),
    ],
    "newer ones and parts": [
        event("started", NOON, deployment_id="a"),
        event("started", NOON + MINUTE, deployment_id="b"),
        event("succeeded", NOON + 2 * MINUTE, deployment_id="b"),
        event("failed", NOON + 3 * MINUTE, deployment_id="b"),
        event("succeeded", NOON + 4 * MINUTE, deployment_id="c", parent_deployment_id="a"),
    ],
}


@pytest.mark.requirement("M3.4")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SETS)
def test_records_follow_from_which_events_are_known(name: str) -> None:
    """All orders, with every loss: what stands after each event is the same for all ways to the events known then."""
    known: dict[frozenset[str], dict[str, Event]] = {}
    for order in itertools.permutations(SETS[name]):
        trail, read = Trail(), set()
        for one in order:
            read.add(one["event_id"])
            stands = trail.read(one).contents()

            assert known.setdefault(frozenset(read), stands) == stands
    assert len(known) == 2 ** len(SETS[name]) - 1


@st.composite
def trails(draw: st.DrawFn) -> list[Event]:
    events = []
    for _ in range(draw(st.integers(1, 10))):
        source = draw(st.sampled_from(["library", "github"]))
        name = f"{source}-{draw(st.integers(1, 3))}"
        events.append(
            event(
                draw(st.sampled_from(["registered", "started", "succeeded", "failed", "amended", "voided"])),
                NOON + draw(st.integers(0, 20)) * MINUTE,
                deployment_id=name,
                source=source,
                build_system="g",
                build_id=draw(st.sampled_from(["", "1", "2"])),
                artifact_digest=draw(st.sampled_from(["", "a1"])),
                rollback_of=draw(st.sampled_from(["", "", "library-1", "github-1"])),
                parent_deployment_id=draw(st.sampled_from(["", "", "library-2"])),
                service=draw(st.sampled_from(["shop", "shop", "cart"])),
            )
        )
    return list({one["event_id"]: one for one in events}.values())


@settings(deadline=None)
@given(trails(), st.randoms(use_true_random=False))
def test_random_trails_give_the_same_records_in_every_order(events: list[Event], rng: random.Random) -> None:
    shuffled = [*events, *rng.sample(events, len(events) // 2)]
    rng.shuffle(shuffled)
    missing = events[1:]

    assert Trail().read(*shuffled).contents() == Trail().read(*events).contents()
    assert Trail().read(*missing, events[0]).contents() == Trail().read(*events).contents()


@settings(deadline=None)
@given(trails(), st.integers(0, 9))
def test_a_replay_gives_identical_records_and_a_restart_changes_none(events: list[Event], at: int) -> None:
    whole = Trail().read(*events).records()
    broken = Trail().read(*events[:at])
    again = broken.restarted().read(*events[max(at - 1, 0) :])

    assert Trail().read(*events).records() == whole
    assert broken.records() | again.records() == whole


@pytest.mark.requirement("M2.2")
def test_a_deployment_of_which_only_progress_is_known_has_a_record_too_and_is_lost_in_the_end() -> None:
    trail = Trail().read(event("progressed", deployment_id="canary", cohort="blue"))
    assert trail.states() == {"canary": "running"}
    assert trail.tick(NOON + 2 * DAY).states() == {"canary": "lost"}
