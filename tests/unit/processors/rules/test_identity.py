"""Ids of several sources that name one deployment are one; what one source calls two stays two."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Defaults
from deploytrail_processors.rules import identity, lifecycle
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from support import golden
from support.values import MINUTE, NOON, SECOND, event

Events = dict[str, list[dict[str, Any]]]


def facts_of(events: list[dict[str, Any]]) -> dict[str, lifecycle.Facts]:
    found: dict[str, lifecycle.Facts] = {}
    for one in events:
        name = one["deployment_id"]
        found[name] = lifecycle.add(found.get(name) or lifecycle.new_facts(name), one)
    return found


def grouped(*events: dict[str, Any]) -> list[list[str]]:
    parts = [identity.part_of(facts, 15) for facts in facts_of(list(events)).values()]
    return identity.groups(part for part in parts if part is not None)


def life(name: str, source: str, at: int = NOON, **fields: Any) -> list[dict[str, Any]]:
    return [
        event(kind, at + i * MINUTE, deployment_id=name, source=source, **fields)
        for i, kind in enumerate(("started", "succeeded"))
    ]


RUN = {"build_system": "github_actions", "build_id": "77"}


@pytest.mark.requirement("M2.1")
def test_the_run_of_a_pipeline_links_what_it_and_its_forge_report() -> None:
    assert grouped(*life("lib", "library", **RUN), *life("github:1", "github", **RUN)) == [["lib", "github:1"]]


def test_the_url_of_a_run_links_also_where_it_names_an_attempt_or_a_job() -> None:
    run = "https://github.com/acme/shop/actions/runs/77"

    assert grouped(
        *life("lib", "library", build_url=f"{run}/attempts/2"), *life("github:1", "github", build_url=f"{run}/job/901")
    ) == [["lib", "github:1"]]


def test_a_number_alone_is_no_name_of_a_build() -> None:
    assert len(grouped(*life("lib", "library", build_id="12"), *life("jenkins:1", "jenkins", build_id="12"))) == 2


@pytest.mark.parametrize("field", ["artifact_digest", "commit_sha"])
def test_one_artifact_in_one_place_is_one_deployment_within_the_window(field: str) -> None:
    ours, theirs = (
        life("lib", "library", **{field: "a1"}),
        life("argocd:1", "argocd", NOON + 16 * MINUTE, **{field: "a1"}),
    )

    assert grouped(*ours, *theirs) == [["lib", "argocd:1"]]
    assert len(grouped(*ours, *life("argocd:1", "argocd", NOON + 16 * MINUTE + SECOND, **{field: "a1"}))) == 2


def test_the_window_is_as_wide_as_the_clocks_are_uncertain() -> None:
    theirs = life("argocd:1", "argocd", NOON + 17 * MINUTE, commit_sha="a1", uncertainty_ms=60_000)

    assert grouped(*life("lib", "library", commit_sha="a1"), *theirs) == [["lib", "argocd:1"]]


@pytest.mark.parametrize("field", ["region", "environment", "service"])
def test_another_place_is_another_deployment(field: str) -> None:
    theirs = life("github:1", "github", **RUN, artifact_digest="a1", **{field: "elsewhere"})

    assert len(grouped(*life("lib", "library", **RUN, artifact_digest="a1"), *theirs)) == 2


def test_two_ids_of_one_source_are_two_deployments() -> None:
    same = {**RUN, "artifact_digest": "a1", "commit_sha": "c1", "change_ticket": "CHG-1"}

    assert len(grouped(*life("one", "library", **same), *life("two", "library", NOON + SECOND, **same))) == 2


def test_a_redeploy_of_one_artifact_finds_each_its_own_other_name() -> None:
    digest = {"artifact_digest": "a1"}
    first = [*life("lib-1", "library", **digest), *life("argocd:1", "argocd", NOON + SECOND, **digest)]
    again = NOON + 5 * MINUTE
    second = [*life("lib-2", "library", again, **digest), *life("argocd:2", "argocd", again + SECOND, **digest)]

    assert grouped(*first, *second) == [["lib-1", "argocd:1"], ["lib-2", "argocd:2"]]


@pytest.mark.parametrize("matrix", ["cohort", "instance"])
def test_a_matrix_is_as_many_deployments_as_its_source_says(matrix: str) -> None:
    events = [one for name in "abc" for one in life(name, "library", **RUN, **{matrix: name})]

    assert grouped(*events, *life("github:b", "github", **RUN, **{matrix: "b"})) == [["a"], ["b", "github:b"], ["c"]]


def test_one_run_that_deploys_many_services_is_as_many_deployments() -> None:
    events = [one for name in ("cart", "shop") for one in life(name, "library", **RUN, service=name)]
    theirs = [one for name in ("cart", "shop") for one in life(f"github:{name}", "github", **RUN, service=name)]

    assert grouped(*events, *theirs) == [["cart", "github:cart"], ["shop", "github:shop"]]


def test_a_rollback_is_a_deployment_of_its_own() -> None:
    digest = {"artifact_digest": "a1"}
    ours = life("lib-1", "library", kind="release", **digest)
    theirs = life("argocd:2", "argocd", NOON + 5 * MINUTE, kind="rollback", rollback_of="lib-1", **digest)

    assert len(grouped(*ours, *theirs)) == 2
    assert len(grouped(*ours, *(one | {"rollback_of": ""} for one in theirs))) == 2


def test_a_rollback_in_the_same_run_is_not_taken_for_the_deployment() -> None:
    ours = [*life("lib-1", "library", kind="release", **RUN),
            *life("lib-2", "library", NOON + 2 * MINUTE, kind="rollback", rollback_of="lib-1", **RUN)]  # fmt: skip

    assert grouped(*ours, *life("github:1", "github", NOON + 2 * MINUTE, kind="release", **RUN)) == [
        ["lib-1", "github:1"],
        ["lib-2"],
    ]


def test_a_ticket_or_a_permit_alone_links_nothing() -> None:
    support = {"change_ticket": "CHG-1", "permit_id": "p1", "version": "4.2.0"}

    assert len(grouped(*life("lib", "library", **support), *life("github:1", "github", **support))) == 2


def test_a_named_parent_of_the_same_place_is_another_name() -> None:
    theirs = life("argocd:1", "argocd", NOON + 60 * MINUTE, parent_deployment_id="lib")

    assert grouped(*life("lib", "library"), *theirs) == [["lib", "argocd:1"]]


def test_other_digests_of_one_commit_are_other_deployments() -> None:
    ours, theirs = (
        life(source, source, commit_sha="c1", artifact_digest=digest)
        for source, digest in (("library", "a1"), ("argocd", "a2"))
    )

    assert len(grouped(*ours, *theirs)) == 2


def test_the_library_stands_for_all_and_what_was_inferred_for_none() -> None:
    seen = life("aaa", "kubernetes", provenance="inferred", artifact_digest="a1")
    hook, ours = life("bbb", "github", artifact_digest="a1"), life("zzz", "library", artifact_digest="a1")

    assert grouped(*seen, *hook, *ours) == [["zzz", "bbb", "aaa"]]
    assert grouped(*seen, *hook) == [["bbb", "aaa"]]


def golden_events(source: str, *names: str) -> list[dict[str, Any]]:
    """What an adapter makes of its payloads, as the intake app puts it on the trail."""
    found = []
    for name in names:
        case = json.loads((golden.FOLDER / source / f"{name}.json").read_text("utf-8"))
        place = {"region": "eu-west-1", "environment": "production"} | case.get("url", {})
        records = adapters.load(source).adapt(case["payload"], case.get("headers", {}), Defaults(**place), golden.NOON)
        found += [
            decode(encode(kind, value | {"corrected_at": value["occurred_at"], "uncertainty_ms": 1000}))[1]
            for kind, value in records.records
            if kind is RecordType.DEPLOYMENT_EVENT
        ]
    return found


# What the library reports in the GitHub Actions run 77 of the golden webhooks.
OF_THE_RUN = {
    "deployment_id": "019a43ee-5c00-7000-8000-000000000001",
    "version": "4.2.0",
    "commit_sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
    "repository": "https://github.com/acme/shop.git",
    "build_url": "https://github.com/acme/shop/actions/runs/77/attempts/2",
    "artifact_digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    **RUN,
}
BEGUN = golden.NOON - 8 * MINUTE


@pytest.mark.requirement("M2.1")
def test_library_webhook_argo_cd_and_kubernetes_report_one_deployment() -> None:
    ours = [event("started", BEGUN, **OF_THE_RUN), event("succeeded", BEGUN + 5 * MINUTE, **OF_THE_RUN)]
    forge = golden_events("github", "deployment_status_of_a_run", "workflow_job_in_progress", "workflow_job_succeeded")
    argo = golden_events("argocd", "template_in_full")
    cluster = golden_events("kubernetes", "deployment_completed")
    [group] = grouped(*ours, *forge, *argo, *cluster)
    facts = facts_of([*ours, *forge, *argo, *cluster])
    record = lifecycle.derive(lifecycle.merge([facts[name] for name in group], group[0]), golden.NOON, None)

    assert group[0] == OF_THE_RUN["deployment_id"]
    assert [name.partition(":")[0] for name in group[1:]] == ["argocd", "github", "kubernetes"]
    assert record["deployment_ids"] == sorted(group)
    assert record["sources"] == ["argocd", "github", "kubernetes", "library"]
    assert (record["state"], record["provenance"], record["parent_deployment_id"]) == ("succeeded", "reported", "")
    assert (record["started_at"], record["finished_at"]) == (BEGUN, BEGUN + 5 * MINUTE)
    assert record["version"] == "4.2.0"
    assert record["conflicts"] == {
        "version": "argocd=f95f852bd8fca8fcc58a9a2d6c842781e32a215e, github=v4.2.0",
    }
    assert record["other_ends"] == [
        "2026-11-02T11:52:40.000000Z succeeded kubernetes",
        "2026-11-02T11:53:00.000000Z succeeded argocd",
        "2026-11-02T11:58:00.000000Z succeeded github",
    ]
    assert record["first_ended_at"] == golden.NOON - 440 * SECOND


def test_without_the_library_the_sources_find_each_other() -> None:
    forge = golden_events("github", "workflow_job_in_progress", "workflow_job_succeeded")
    argo, cluster = golden_events("argocd", "template_in_full"), golden_events("kubernetes", "deployment_completed")
    [group] = grouped(*forge, *argo, *cluster)

    # Argo CD names the digest once the sync has succeeded, and GitHub's deployment as its parent.
    assert [name.partition(":")[0] for name in group] == ["argocd", "github", "kubernetes"]


A1, A2 = {"artifact_digest": "sha256:a1", "commit_sha": "c1"}, {"artifact_digest": "sha256:a2", "commit_sha": "c2"}


def ran(name: str, source: str, at: int, end: str = "succeeded", **fields: Any) -> list[dict[str, Any]]:
    """Two minutes of a deployment that some minutes after noon began."""
    begun = NOON + at * MINUTE
    return [
        event(kind, begun + i * 2 * MINUTE, deployment_id=name, source=source, **fields)
        for i, kind in enumerate(("started", end))
    ]


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("end", ["failed", "cancelled", "rolled_back"])
def test_a_second_try_with_another_tool_is_another_deployment(end: str) -> None:
    assert len(grouped(*ran("lib", "library", 0, end, **A1), *ran("jenkins:1", "jenkins", 5, **A1))) == 2
    # Of one that was under way already it is how the other saw it end.
    assert len(grouped(*ran("lib", "library", 0, end, **A1), *ran("argocd:1", "argocd", 1, **A1))) == 1
    # Who reports an end alone does not say that it began after.
    assert len(grouped(*ran("lib", "library", 0, end, **A1), ran("argocd:1", "argocd", 3, **A1)[1])) == 1


def test_of_a_failed_canary_the_whole_may_still_be_told() -> None:
    canary = ran("lib", "library", 0, "failed", cohort="canary", **A1)
    whole = event("started", NOON, deployment_id="lib", source="library", cohort="rest", **A1)

    assert len(grouped(*canary, whole, *ran("argocd:1", "argocd", 5, **A1))) == 1


@pytest.mark.requirement("M2.1")
def test_attempts_of_one_run_are_deployments_of_their_own() -> None:
    run = "https://github.com/acme/shop/actions/runs/77"
    first = ran("lib", "library", 0, build_url=f"{run}/attempts/1")

    assert len(grouped(*first, *ran("github:2", "github", 30, build_url=f"{run}/attempts/2"))) == 2
    assert len(grouped(*first, *ran("github:1", "github", 1, build_url=f"{run}/attempts/1"))) == 1


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("by", ["artifact_digest", "commit_sha"])
def test_back_to_what_ran_before_another_artifact_is_another_deployment(by: str) -> None:
    one, two = {by: A1[by]}, {by: A2[by]}
    ours, newer = ran("lib-1", "library", 0, **one), ran("lib-2", "library", 4, "failed", **two)
    back = ran("argocd:1", "argocd", 6, **one)

    # Argo CD does not call it a rollback where its history is short.
    assert grouped(*ours, *newer, *back) == [["argocd:1"], ["lib-1"], ["lib-2"]]
    assert grouped(*ours, *back) == [["lib-1", "argocd:1"]]
    # What began before the first was over, or in another place, says nothing of it.
    assert len(grouped(*ours, *ran("lib-2", "library", 1, **two), *back)) == 2
    assert len(grouped(*ours, *ran("lib-2", "library", 4, service="cart", **two), *back)) == 2


def test_a_third_that_knows_less_does_not_join_two_artifacts() -> None:
    ours, hook = ran("lib", "library", 0, **A1), ran("github:1", "github", 1, commit_sha="c1")
    theirs = ran("argocd:1", "argocd", 3, **A1 | {"artifact_digest": "sha256:a2"})

    assert grouped(*ours, *hook, *theirs) == [["argocd:1"], ["lib", "github:1"]]


def test_a_third_that_does_not_say_joins_no_rollback_to_a_release() -> None:
    ours, hook = ran("lib", "library", 0, kind="release", **A1), ran("github:1", "github", 1, **A1)
    theirs = ran("argocd:1", "argocd", 3, kind="rollback", **A1)

    assert grouped(*ours, *hook, *theirs) == [["argocd:1"], ["lib", "github:1"]]


SIX = [
    *life("lib", "library", commit_sha="c1", **RUN)[:1],
    *life("lib-2", "library", NOON + 4 * MINUTE, commit_sha="c1", **RUN)[:1],
    *life("github:1", "github", NOON + SECOND, **RUN)[:1],
    *life("github:2", "github", NOON + 4 * MINUTE, **RUN)[:1],
    *life("argocd:1", "argocd", NOON + 3 * MINUTE, commit_sha="c1")[:1],
    *life("cluster:1", "kubernetes", NOON + MINUTE, parent_deployment_id="github:1")[:1],
]


@pytest.mark.requirement("M3.4")
def test_groups_are_the_same_for_every_order_of_events_and_of_parts() -> None:
    expected = grouped(*SIX)

    assert expected == [["lib", "cluster:1", "github:1"], ["lib-2", "argocd:1", "github:2"]]
    assert all(grouped(*order) == expected for order in itertools.permutations(SIX))


@st.composite
def reported(draw: st.DrawFn) -> list[dict[str, Any]]:
    events = []
    for _ in range(draw(st.integers(1, 12))):
        source = draw(st.sampled_from(["library", "github", "argocd"]))
        events.append(
            event(
                draw(st.sampled_from(["queued", "started", "succeeded", "failed"])),
                NOON + draw(st.integers(0, 40)) * MINUTE,
                deployment_id=f"{source}-{draw(st.integers(1, 2))}",
                source=source,
                artifact_digest=draw(st.sampled_from(["", "a1", "a2"])),
                build_system="g",
                build_id=draw(st.sampled_from(["", "1", "2"])),
                cohort=draw(st.sampled_from(["", "", "canary"])),
                parent_deployment_id=draw(st.sampled_from(["", "", "library-1", "github-2"])),
            )
        )
    return events


@settings(deadline=None)
@given(reported(), st.randoms(use_true_random=False))
def test_random_ids_fall_into_groups_that_keep_apart_what_one_source_calls_two(
    events: list[dict[str, Any]], rng: random.Random
) -> None:
    shuffled = events + rng.sample(events, len(events) // 2)
    rng.shuffle(shuffled)
    found = grouped(*events)

    assert grouped(*shuffled) == found
    assert sorted(name for group in found for name in group) == sorted({e["deployment_id"] for e in events})
    for group in found:
        assert len({name.partition("-")[0] for name in group}) == len(group)


@settings(deadline=None)
@given(reported())
def test_what_links_is_found_from_every_part_by_its_keys(events: list[dict[str, Any]]) -> None:
    parts = {name: part for name, facts in facts_of(events).items() if (part := identity.part_of(facts, 15))}
    everything = identity.groups(parts.values())

    for name in parts:
        near = identity.reachable(
            [name], parts, lambda part: [p.id for p in parts.values() if p.keys & part.keys and p.id != part.id]
        )

        found = identity.groups(near, beside=parts.values())
        assert [g for g in found if name in g] == [g for g in everything if name in g]
