"""What never arrived, by gaps of the producers' counts, over all shards: one producer's numbers may lie on several.

Each shard tells the stretches of numbers that it holds without a gap; here they are put together. A shard by itself
would take what lies on the others for lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Instants are µs. The answer's rows are what `stretches` reads.
QUESTION = (
    "SELECT producer_id, min(seq) AS first, max(seq) AS last, groupArrayIf((seq, told), told > 0) AS told_lost "
    "FROM (SELECT producer_id, seq, "
    "told, seq - row_number() OVER (PARTITION BY producer_id ORDER BY seq) AS stretch "
    "FROM {db}.arrived_numbers(since = fromUnixTimestamp64Micro({since:Int64}), until = fromUnixTimestamp64Micro("
    "{until:Int64}), as_of = fromUnixTimestamp64Micro({as_of:Int64}))) GROUP BY producer_id, stretch"
)
COLUMNS = ("producer id", "first seq", "last seq", "arrived", "missing", "told lost", "loss rate")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Numbers of a producer from `first` to `last`, all of which arrived.

    `told_lost`: the numbers of those records that tell of lost ones, each with how many.
    """

    producer_id: str
    first: int
    last: int
    told_lost: tuple[tuple[int, int], ...] = ()


def stretches(answer: Iterable[Mapping[str, Any]]) -> list[Stretch]:
    """What one shard answers to QUESTION."""
    return [
        Stretch(row["producer_id"], int(row["first"]), int(row["last"]), tuple(map(tuple, row["told_lost"])))
        for row in answer
    ]


def lost(found: Iterable[Stretch]) -> list[Sequence[Any]]:
    """Rows as in COLUMNS, of the producers that miss or tell of something: the most missing first, as `loss` has it."""
    by_producer: defaultdict[str, list[Stretch]] = defaultdict(list)
    for one in found:
        by_producer[one.producer_id].append(one)
    rows: list[tuple[str, int, int, int, int, int, float]] = []
    for producer, every in by_producer.items():
        every.sort(key=lambda one: one.first)
        arrived, last, tells = 0, every[0].first - 1, dict[int, int]()
        for one in every:  # a record that was sent again may lie on two shards
            arrived += max(0, one.last - max(last, one.first - 1))
            last = max(last, one.last)
            tells |= {number: max(told, tells.get(number, 0)) for number, told in one.told_lost}
        span, told = last - every[0].first + 1, sum(tells.values())
        if arrived < span or told:
            missing = span - arrived
            rows.append((producer, every[0].first, last, arrived, missing, told, missing / span))
    return sorted(rows, key=lambda row: (-row[4], row[0]))
