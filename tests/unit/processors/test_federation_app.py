"""Claims wander between the ids of a deployment until all know the same, in every order, and then are silent."""

from __future__ import annotations

import random

import pytest
from deploytrail_processors.rules.federated_content import Claim, Content
from deploytrail_processors.rules.federation import claim_of
from support.federation import InMemory, company
from support.values import NOON, record

pytestmark = pytest.mark.requirement("M8.2")
DAY = 86_400_000_000


def told_in_order(claims: list[Claim], chance: random.Random | None = None, crash: float = 0.0) -> dict[str, Content]:
    cluster = InMemory()
    for claim in claims:
        cluster.app.on_record(claim)
        if chance is None or chance.random() < 0.5:
            cluster.merge()
        if chance is not None and chance.random() < crash:
            # Killed behind a write of its state, before its outputs and offsets: rows stay, claims are read again.
            sent = len(cluster.claims)
            for offset in range(max(0, cluster.read - 3), cluster.read):
                cluster.handle(offset)
            if cluster.read < sent:
                cluster.handle(cluster.read)
                del cluster.claims[sent:]
            cluster.app.on_recovered()
    cluster.merge()
    return cluster.records


@pytest.mark.parametrize("seed", range(8))
def test_every_order_with_repeats_and_crashes_comes_to_the_same_records(seed: int) -> None:
    chance = random.Random(seed)
    claims = company(chance)
    undisturbed = told_in_order(claims)
    again = claims + chance.choices(claims, k=len(claims))
    chance.shuffle(again)

    assert told_in_order(again, chance, crash=0.3) == undisturbed


@pytest.mark.parametrize("seed", range(4))
def test_all_names_of_a_deployment_come_to_one_record_that_stands(seed: int) -> None:
    records = told_in_order(company(random.Random(seed)))

    for content in records.values():
        stands = records[content["merged_into"] or content["deployment_id"]]
        assert stands["merged_into"] == ""
        assert content["deployment_id"] in stands["deployment_ids"]
        assert all(records[name]["merged_into"] == stands["deployment_id"]
                   for name in stands["deployment_ids"] if name != stands["deployment_id"])  # fmt: skip
        assert set(content["clusters"]) <= set(stands["clusters"])


def test_what_is_quiet_for_long_is_forgotten_by_the_central_clusters_time() -> None:
    cluster = InMemory()
    cluster.app.on_record(claim_of("eu", 1, record(deployment_id="d1")))
    cluster.merge()
    cluster.now = NOON + 91 * DAY
    # A cluster whose own clock is far ahead makes nobody forget.
    cluster.claims.append((cluster.claims[0][0], "d2", claim_of("us", 1, record(deployment_id="d2", at=NOON))))
    cluster.merge()

    assert [key.partition("/")[2] for key in cluster.rows] == ["d2"]
