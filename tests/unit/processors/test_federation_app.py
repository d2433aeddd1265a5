"""Claims wander between the ids of a deployment until all know the same, in every order, and then are silent."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from deploytrail_processors.apps.federation import handle
from deploytrail_processors.rules.federated_content import Claim, Content
from deploytrail_processors.rules.federation import claim_of, partition_of
from deploytrail_schemas import headers
from deploytrail_schemas.codec import DecodeError, encode
from deploytrail_schemas.records import RecordType
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


def told(topic: str, value: bytes, key: bytes | None = b"d", headers: Sequence[tuple[str, bytes]] = ()) -> Any:
    """A message as Faust gives it to an agent."""
    return SimpleNamespace(
        topic=topic, partition=3, offset=0, key=key, value=value, headers=list(headers), timestamp=NOON / 1e6
    )


def test_a_mirrored_record_becomes_a_claim_of_its_cluster_and_partition() -> None:
    cluster = InMemory()
    data = encode(RecordType.RECORD, record(deployment_id="d"))
    handle(cluster.app, {"eu.deploytrail.records": "eu"}, told("eu.deploytrail.records", data))
    [(partition, name, claim)] = cluster.claims

    assert (partition, name) == (partition_of("d", 16), "d")
    assert (claim["cluster"], claim["partition"], claim["record"]["deployment_id"]) == ("eu", 3, "d")

    said = [(headers.CLAIM, b"eu:3")]
    handle(cluster.app, {}, told("deploytrail.claims", encode(RecordType.RECORD, claim["record"]), headers=said))

    assert cluster.records["d"]["clusters"] == ["eu"]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (told("eu.deploytrail.records", b"rubbish"), "c301"),
        (told("eu.deploytrail.records", encode(RecordType.TICK, {"at": NOON, "region": "x"})), "not a Tick"),
        (told("eu.deploytrail.records", encode(RecordType.RECORD, record(deployment_id=""))), "Record of a deployment"),
        (told("deploytrail.claims", encode(RecordType.RECORD, record())), "dt-claim"),
        (
            told("deploytrail.claims", encode(RecordType.RECORD, record()), headers=[(headers.CLAIM, b"eu:x")]),
            "expected cluster:partition",
        ),
        (
            told("deploytrail.claims", encode(RecordType.RECORD, record()), None, [(headers.CLAIM, b"eu:1")]),
            "a deployment as key",
        ),
    ],
)
def test_what_is_no_record_of_a_cluster_is_refused_with_a_reason(message: Any, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        handle(InMemory().app, {"eu.deploytrail.records": "eu"}, message)
