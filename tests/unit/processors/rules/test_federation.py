"""Records of independent clusters merge in any order to the same content, and each cluster's claim is kept."""

from __future__ import annotations

import json
import random
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from deploytrail_processors.rules.federation import claim_of, federated, merge, names_of, new_known, partition_of, take
from deploytrail_processors.rules.states import STATES
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, record

pytestmark = pytest.mark.requirement("M8.2")
Value = dict[str, Any]


def claim(cluster: str, revision: int = 1, partition: int = 1, **fields: Any) -> Value:
    """A cluster's record of the deployment `d`."""
    return claim_of(cluster, partition, record(**{"deployment_id": "d", "revision": revision, **fields}))


def merged(*claims: Value, of: str = "d") -> Value:
    """The federated record of claims that were taken in this order."""
    return federated(reduce(take, claims, new_known(of)))


@st.composite
def some_claims(draw: st.DrawFn) -> list[Value]:
    """Revisions of a deployment under up to three ids in up to three clusters, among them contradictions."""
    number = st.integers(0, 3)
    found = []
    for _ in range(draw(st.integers(1, 7))):
        own = draw(st.sampled_from(["d", "e", "f"]))
        other = draw(st.sampled_from(["", "", "d", "e", "f"]))
        into = other if other != own else ""
        at = NOON + draw(number) * MINUTE
        ended = draw(st.booleans())
        found.append(
            claim(
                draw(st.sampled_from(["eu", "us", "asia"])),
                draw(st.integers(1, 3)),
                draw(st.integers(1, 2)),
                deployment_id=own,
                merged_into=into,
                deployment_ids=[own] if into else sorted({own, draw(st.sampled_from(["d", "e", "f"]))}),
                region=draw(st.sampled_from(["eu-west-1", "us-east-1"])),
                state="merged" if into else draw(st.sampled_from(sorted(STATES - {"merged"}))),
                version=draw(st.sampled_from(["", "1", "2"])),
                started_at=at,
                started_at_uncertainty_ms=draw(number) * 20_000,
                finished_at=at + MINUTE if ended else None,
                finished_at_uncertainty_ms=draw(number) if ended else None,
                last_event_at=at,
                conflicts=draw(st.sampled_from([{}, {"version": "webhook=3"}])),
                sources=draw(st.sampled_from([["library"], ["github"]])),
            )
        )
    return found


@given(some_claims(), st.randoms(use_true_random=False))
def test_order_repetition_and_grouping_make_no_difference(claims: list[Value], chance: random.Random) -> None:
    told = claims + chance.choices(claims, k=len(claims))
    chance.shuffle(told)
    cut = chance.randrange(len(told) + 1)
    one, other = (reduce(take, some, new_known("d")) for some in (told[:cut], told[cut:]))

    straight = reduce(take, claims, new_known("d"))
    assert merge(one, other) == merge(other, one) == straight
    assert merge(straight, one) == straight
    assert federated(merge(other, one)) == federated(straight)


@given(some_claims(), some_claims(), some_claims())
def test_a_merge_is_associative(a: list[Value], b: list[Value], c: list[Value]) -> None:
    one, two, three = (reduce(take, claims, new_known("d")) for claims in (a, b, c))

    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(some_claims(), st.data())
def test_what_was_lost_is_healed_when_it_comes(claims: list[Value], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(claims))
    without = reduce(take, [c for c in claims if c is not lost] or claims, new_known("d"))

    json.dumps(federated(without))  # a valid record all the same
    assert federated(take(without, lost)) == merged(*claims)


def test_every_order_of_a_whole_life_in_two_clusters_gives_one_record() -> None:
    told = [
        claim("eu", 1, state="registered", started_at=None),
        claim("eu", 2, state="running", started_at=NOON),
        claim("eu", 3, state="succeeded", started_at=NOON, finished_at=NOON + 5 * MINUTE),
        claim("us", 1, state="running", started_at=NOON),
        claim("us", 2, state="lost", started_at=NOON),
    ]

    contents = [merged(*order) for order in permutations(told)]
    assert all(content == contents[0] for content in contents)
    assert contents[0]["state"] == "succeeded"
    assert contents[0]["revision"] == 5
    assert contents[0]["conflicts"]["state"] == "succeeded counts, by eu/eu-west-1; us/eu-west-1 says lost"


def test_the_newest_claim_of_each_cluster_counts_and_every_cluster_keeps_its_own() -> None:
    found = merged(claim("eu", 7, version="2"), claim("us", 1, version="1"), claim("eu", 6, version="3"))

    assert found["clusters"] == ["eu", "us"]
    assert {name: json.loads(said)["version"] for name, said in found["claims"].items()} == {
        "eu/eu-west-1": "2",
        "us/eu-west-1": "1",
    }
    assert "2 counts, by eu/eu-west-1; us/eu-west-1 says 1" in found["conflicts"]["version"]


def test_regions_of_one_name_in_two_clusters_do_not_shadow_each_other() -> None:
    found = merged(
        claim("eu", region="dc1", state="failed", finished_at=NOON), claim("us", region="dc1", state="running")
    )

    assert set(found["claims"]) == {"eu/dc1", "us/dc1"}
    assert found["conflicts"]["state"] == "failed counts, by eu/dc1; us/dc1 says running"


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("running", "succeeded", "succeeded"),
        ("lost", "failed", "failed"),
        ("superseded", "succeeded", "succeeded"),
        ("succeeded", "rolled_back", "rolled_back"),
        ("succeeded", "voided", "voided"),
        ("registered", "superseded", "superseded"),
    ],
)
def test_who_knows_how_it_went_counts_over_who_does_not(first: str, second: str, counts: str) -> None:
    assert merged(claim("eu", state=first), claim("us", state=second))["state"] == counts
    assert merged(claim("eu", state=second), claim("us", state=first))["state"] == counts


def test_of_two_ends_the_later_corrects_the_earlier_and_at_one_time_the_worse_counts() -> None:
    retried = merged(
        claim("eu", state="failed", finished_at=NOON), claim("us", state="succeeded", finished_at=NOON + MINUTE)
    )
    at_once = merged(claim("eu", state="failed", finished_at=NOON), claim("us", state="succeeded", finished_at=NOON))

    assert (retried["state"], retried["finished_at"]) == ("succeeded", NOON + MINUTE)
    assert at_once["state"] == "failed"


def test_a_reported_claim_counts_over_an_inferred_one() -> None:
    found = merged(
        claim("eu", state="failed", provenance="inferred", finished_at=NOON + MINUTE),
        claim("us", state="succeeded", finished_at=NOON),
    )

    assert found["state"] == "succeeded"


def test_of_several_words_about_one_moment_the_most_certain_is_taken() -> None:
    found = merged(
        claim("eu", started_at=NOON, started_at_uncertainty_ms=5000),
        claim("us", started_at=NOON + 2_000_000, started_at_uncertainty_ms=3),
    )

    assert (found["started_at"], found["started_at_uncertainty_ms"]) == (NOON + 2_000_000, 3)
    assert "started_at" not in found["conflicts"]


def test_times_that_cannot_be_one_moment_are_shown() -> None:
    found = merged(claim("eu", started_at=NOON), claim("us", started_at=NOON + MINUTE))

    assert found["started_at"] == NOON
    assert found["conflicts"]["started_at"] == (
        "2026-11-02T12:00:00.000000Z ± 0 ms counts; us/eu-west-1 says 2026-11-02T12:01:00.000000Z ± 0 ms"
    )


@pytest.mark.parametrize(
    ("here", "there", "together"),
    [
        ("succeeded", "succeeded", "succeeded"),
        ("succeeded", "running", "running"),
        ("failed", "running", "degraded"),
        ("failed", "succeeded", "failed"),
        ("lost", "succeeded", "lost"),
        ("registered", "queued", "queued"),
        ("succeeded", "queued", "running"),
        ("succeeded", "voided", "succeeded"),
    ],
)
def test_a_deployment_of_two_regions_has_one_state_that_follows_from_both(here: str, there: str, together: str) -> None:
    found = merged(claim("eu", region="eu-west-1", state=here), claim("us", region="us-east-1", state=there))

    assert found["state"] == together
    assert found["regions"] == {"eu-west-1": here, "us-east-1": there}
    assert "state" not in found["conflicts"]


def test_two_regions_of_one_cluster_are_two_claims_and_the_deployment_lasts_from_first_to_last() -> None:
    first = claim("eu", 9, 1, region="eu-west-1", state="succeeded", started_at=NOON, finished_at=NOON + MINUTE)
    last = claim(
        "eu", 2, 2, region="eu-central-1", state="succeeded", started_at=NOON + MINUTE, finished_at=NOON + 3 * MINUTE
    )

    found = merged(first, last)
    assert (found["started_at"], found["finished_at"]) == (NOON, NOON + 3 * MINUTE)
    assert found["duration_ms"] == 180_000
    assert set(found["claims"]) == {"eu/eu-west-1", "eu/eu-central-1"}


def test_what_one_cluster_knows_as_another_name_is_one_deployment_in_all() -> None:
    told = [
        claim("eu", deployment_ids=["d", "hook-1"], state="running"),
        claim("eu", deployment_id="hook-1", merged_into="d", deployment_ids=["hook-1"], state="merged"),
        claim("us", deployment_id="hook-1", deployment_ids=["hook-1"], state="failed", finished_at=NOON),
    ]

    for order in permutations(told):
        stands, other = merged(*order), merged(*order, of="hook-1")
        assert (stands["state"], stands["merged_into"]) == ("failed", "")
        assert stands["deployment_ids"] == ["d", "hook-1"]
        assert set(stands["claims"]) == {"eu/eu-west-1", "eu/eu-west-1 hook-1", "us/eu-west-1 hook-1"}
        assert (other["state"], other["merged_into"]) == ("merged", "d")


def test_what_one_cluster_keeps_apart_is_not_joined_by_another() -> None:
    told = [
        claim("eu", state="succeeded"),
        claim("eu", deployment_id="e", deployment_ids=["e"], state="failed"),
        claim("us", deployment_ids=["d", "e"], state="succeeded"),
    ]

    for order in permutations(told):
        assert [merged(*order, of=name)["state"] for name in "de"] == ["succeeded", "failed"]
        assert merged(*order)["conflicts"]["deployment_ids"] == (
            "us/eu-west-1 takes d and e for one; eu keeps them apart"
        )


def test_a_cluster_that_takes_its_word_back_parts_them_again() -> None:
    told = [
        claim("us", deployment_id="e", deployment_ids=["e"], state="failed"),
        claim("eu", 1, deployment_id="e", merged_into="d", deployment_ids=["e"], state="merged"),
        claim("eu", 2, deployment_id="e", deployment_ids=["e"], state="failed"),
        claim("eu", state="succeeded"),
    ]

    assert merged(*told, of="e")["merged_into"] == ""
    assert merged(*told[:2], told[3], of="e")["merged_into"] == "d"


def test_ids_that_clusters_name_in_a_circle_have_one_that_stands_for_all() -> None:
    told = [
        claim("eu", deployment_id="e", merged_into="d", deployment_ids=["e"], state="merged"),
        claim("us", merged_into="e", deployment_ids=["d"], state="merged"),
    ]

    assert names_of(told).stands_for == {"d": "d", "e": "d"}
    assert merged(*told)["clusters"] == ["eu", "us"]


def test_all_claims_about_an_id_meet_in_one_partition() -> None:
    assert partition_of("0195f0a4-6d3f-7000-8000-000000000001", 16) == 8
    assert {partition_of(f"d-{number}", 16) for number in range(200)} == set(range(16))
