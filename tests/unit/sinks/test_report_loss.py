"""What is missing of producers' counts, where each shard tells the stretches that it holds."""

from __future__ import annotations

import random

import pytest
from deploytrail_sinks.reports.loss import Stretch, lost, stretches


def held(numbers: set[int], producer: str = "runner-1") -> list[Stretch]:
    """The stretches of a shard that holds these numbers."""
    first = [n for n in sorted(numbers) if n - 1 not in numbers]
    last = [n for n in sorted(numbers) if n + 1 not in numbers]
    return [Stretch(producer, a, b) for a, b in zip(first, last, strict=True)]


def test_numbers_that_lie_on_several_shards_are_not_lost() -> None:
    assert lost([*held({1, 2, 5, 9}), *held({3, 4, 6, 7, 8})]) == []


def test_what_is_on_no_shard_is_lost_the_most_missing_first() -> None:
    rows = lost([*held({1, 2, 9}), *held({4}), *held({11, 13}, "runner-2"), Stretch("runner-3", 4, 4, ((4, 2),))])

    assert rows == [
        ("runner-1", 1, 9, 4, 5, 0, 5 / 9),
        ("runner-2", 11, 13, 2, 1, 0, 1 / 3),
        ("runner-3", 4, 4, 1, 0, 2, 0.0),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_shards_together_count_what_one_would_whatever_lies_where_or_twice(seed: int) -> None:
    rng = random.Random(seed)
    arrived = {n for n in range(1, 60) if rng.random() < 0.8} | {1}
    shards: list[set[int]] = [set(), set(), set()]
    for number in arrived:
        for shard in rng.sample(shards, rng.choice((1, 1, 2))):
            shard.add(number)

    assert lost(one for shard in shards for one in held(shard)) == lost(held(arrived))


def test_an_answer_is_read_as_it_comes() -> None:
    row = {"producer_id": "runner-1", "first": 1, "last": 3, "told_lost": [(3, 2)]}

    assert stretches([row]) == [Stretch("runner-1", 1, 3, ((3, 2),))]


def test_what_a_record_tells_of_counts_once_though_it_lies_on_two_shards() -> None:
    [row] = lost([Stretch("runner-1", 1, 5, ((5, 2),)), Stretch("runner-1", 5, 9, ((5, 2), (7, 1)))])

    assert row == ("runner-1", 1, 9, 9, 0, 3, 0.0)
