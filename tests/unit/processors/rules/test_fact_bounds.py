"""What is kept of one deployment has bounds, and is the same whatever order its reports came in."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from deploytrail_processors.rules import fact_bounds as bounds
from deploytrail_processors.rules.lifecycle import Facts, add, derive, merge, new_facts
from support.values import MINUTE, NOON, SECOND, event, stable_id

DAY = 24 * 60.0


def facts_of(*events: dict[str, Any]) -> Facts:
    facts = new_facts("shop-1")
    for one in events:
        facts = add(facts, one)
    return facts


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few events exceed."""
    for name, most in (("EVENTS", 4), ("LANES", 2), ("ENDS", 2), ("SOURCES", 2), ("NAMES", 2)):
        monkeypatch.setattr(bounds, f"MOST_{name}", most)


def reports(chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for _ in range(count):
        kind = chance.choice(["started", "progressed", "succeeded", "failed", "amended", "queued"])
        yield event(
            kind,
            NOON + chance.randrange(20) * SECOND,
            event_id=str(UUID(int=chance.getrandbits(128))),
            service=chance.choice(["shop", "cart", "mail"]),
            cohort=chance.choice(["", "canary", "rest"]),
            cohort_weight=chance.choice([None, 0.1]),
            source=chance.choice(["library", "github", "argocd", "jenkins"]),
            version=chance.choice(["1", "2", "3" * 5000]),
            instance=chance.choice(["", "a", "b", "c"]),
            error=chance.choice(["", "x" * 10_000]),
        )


@pytest.mark.usefixtures("narrow")
@pytest.mark.requirement("M3.1")
def test_every_order_of_more_than_is_kept_leaves_the_same() -> None:
    chance = random.Random(5)
    for _ in range(12):
        told = list(reports(chance, 5))
        found = {json.dumps(facts_of(*order), sort_keys=True) for order in permutations(told)}

        assert len(found) == 1


@pytest.mark.usefixtures("narrow")
def test_many_orders_with_repetitions_leave_the_same_facts_and_record() -> None:
    chance = random.Random(6)
    for _ in range(40):
        told = list(reports(chance, chance.randrange(6, 40)))
        expected = facts_of(*told)
        for _ in range(4):
            again = [*told, *chance.sample(told, len(told) // 2)]
            chance.shuffle(again)

            assert facts_of(*again) == expected
            assert derive(facts_of(*again), NOON + MINUTE, DAY) == derive(expected, NOON + MINUTE, DAY)


@pytest.mark.usefixtures("narrow")
def test_facts_of_several_names_have_the_bounds_of_one() -> None:
    chance = random.Random(7)
    for _ in range(40):
        told = list(reports(chance, 24))
        parts = [facts_of(*told[start::3]) for start in range(3)]
        chance.shuffle(parts)
        whole = facts_of(*told)
        joined = merge(parts, "shop-1")

        assert {name: joined[name] for name in ("ids", "marks", "ends", "more", "instances")} == {
            name: whole[name] for name in ("ids", "marks", "ends", "more", "instances")
        }


def test_an_id_that_every_run_uses_has_a_row_of_bounded_size_and_its_record_says_what_is_missing() -> None:
    facts = new_facts("nightly")
    for number in range(700):
        day = NOON + number * 60 * MINUTE
        facts = add(facts, event("started", day, deployment_id="nightly", source=f"host-{number}", cohort=f"{number}"))
        facts = add(facts, event("failed", day + MINUTE, deployment_id="nightly", error="e" * 200))
    record = derive(facts, facts["last"], None)

    assert len(json.dumps(facts)) < 500_000
    assert record["event_count"] == bounds.MOST_EVENTS
    assert len(record["cohorts"]) <= bounds.MOST_LANES
    assert {name: text.partition(" have")[0] for name, text in record["conflicts"].items()} == {
        "event_count": f"more than {bounds.MOST_EVENTS} events",
        "components": f"more than {bounds.MOST_LANES} services and cohorts",
        "other_ends": f"a service's cohort ended {bounds.MOST_ENDS} times or more; the earliest ends are kept",
        "sources": f"more than {bounds.MOST_SOURCES} sources speak of it; the library and the first by name are kept",
    }


def test_a_text_beyond_all_measure_is_cut_and_said_to_be() -> None:
    record = derive(facts_of(event("failed", repository="r" * 500_000, error="e" * 500_000)), NOON, DAY)

    assert (len(record["repository"]), len(record["error"])) == (bounds.LONGEST_TEXT, bounds.LONGEST_ERROR)
    assert record["conflicts"] == {"texts": "a text of more than 4096 characters was cut"}


def test_the_word_of_the_library_is_kept_whatever_other_sources_there_are() -> None:
    others = [event("started", source=f"a-{number:03}", version="9") for number in range(100)]
    facts = facts_of(*others, event("started", source="library", version="1"))

    assert derive(facts, NOON, DAY)["version"] == "1"
    assert len(facts["claims"]["version"]) == bounds.MOST_SOURCES


def test_a_deployment_of_hundreds_of_services_ends_when_the_last_of_them_has() -> None:
    services = [f"service-{number:03}" for number in range(400)]
    started, ended = (
        [event(kind, at, service=service, event_id=stable_id(f"{kind}/{service}")) for service in services]
        for kind, at in (("started", NOON), ("succeeded", NOON + MINUTE))
    )

    assert derive(facts_of(*started, *ended[:-1]), NOON, DAY)["state"] == "running"
    record = derive(facts_of(*started, *ended), NOON, DAY)
    assert (record["state"], len(record["components"]), record["conflicts"]) == ("succeeded", 400, {})
