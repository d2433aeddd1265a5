"""When a batch is due, what is in it, and when reading pauses."""

from __future__ import annotations

import pytest
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.buffer import OVERHEAD_BYTES, SHORTEST_WAIT, Buffer, Limits

T = "deploytrail.events"


def row(offset: int, partition: int = 1, size: int = 100) -> Row:
    return Row(T, partition, offset, 0, None, b"x" * size, ())


def buffer(rows: int = 10, size: int = 1 << 20, seconds: float = 0.2, **announced: int) -> Buffer:
    made = Buffer(Limits(rows, size, seconds))
    made.assign({(T, p): (0, announced[f"p{p}"]) if f"p{p}" in announced else None for p in (1, 2)})
    return made


def spans(made: Buffer, now: float = 0.0) -> list[tuple[int, int, int]]:
    return [(r.partition, r.first, r.end) for r in made.take(now)]


def test_nothing_is_due_while_nothing_waits() -> None:
    assert buffer().due_in(5.0) is None


def test_a_few_rows_are_due_after_a_short_while_and_many_at_once() -> None:
    made = buffer(rows=3)
    made.add(row(0), now=10.0)
    few = made.due_in(10.0)
    for offset in (1, 2):
        made.add(row(offset), now=10.0)

    assert few == pytest.approx(SHORTEST_WAIT)
    assert made.due_in(10.0) == 0.0


def test_large_rows_are_due_by_their_bytes() -> None:
    made = buffer(size=5 * (OVERHEAD_BYTES + 100))
    for offset in range(5):
        made.add(row(offset), now=0.0)

    assert made.due_in(0.0) == 0.0


def test_batches_grow_while_clickhouse_is_slow_up_to_the_limit() -> None:
    made = buffer(seconds=0.2)
    waits = []
    for number, took in enumerate((0.001, 0.1, 5.0, 0.001)):
        for again in range(5):
            made.took(took, now=0.0)
            made.add(row(5 * number + again), now=0.0)
            waits.append(made.due_in(0.0))
            made.take(0.0)

    assert waits[4::5] == pytest.approx([SHORTEST_WAIT, 0.1, 0.2, SHORTEST_WAIT])


def test_a_batch_that_stood_still_for_once_is_not_paid_for_with_as_long_a_rest() -> None:
    made, rests = buffer(seconds=5.0), []
    for offset, took in enumerate((0.05, 0.05, 0.05, 2.0, 2.0, 2.0, 2.0)):
        made.took(took, now=0.0)
        made.add(row(offset), now=0.0)
        rests.append(made.due_in(0.0))
        made.take(0.0)

    # Once is a chance; from the second time on it is load, and the rest grows with it.
    assert rests == pytest.approx([0.05] * 4 + [(3 * 0.05 + 2.0) / 4, (2 * 0.05 + 4.0) / 4, (0.05 + 6.0) / 4])


def test_clickhouse_rests_between_batches_as_long_as_one_took() -> None:
    made = buffer(seconds=5.0)
    made.add(row(0), now=0.0)  # gathers while a batch is stored
    made.took(0.4, now=0.4)

    assert made.due_in(0.4) == pytest.approx(0.4)
    assert made.due_in(0.8) == 0.0


def test_a_row_that_comes_after_the_rest_waits_for_others_only() -> None:
    made = buffer(seconds=5.0)
    made.took(0.4, now=0.4)
    made.add(row(0), now=2.0)

    assert made.due_in(2.0) == pytest.approx(SHORTEST_WAIT)


def test_a_whole_batch_takes_no_rest() -> None:
    made = buffer(rows=2, seconds=5.0)
    made.took(0.4, now=0.4)
    made.add(row(0), now=0.4)
    made.add(row(1), now=0.4)

    assert made.due_in(0.4) == 0.0


def test_no_row_waits_longer_than_the_limit_whatever_the_batches_before_it_took() -> None:
    made, offset = buffer(rows=3, seconds=0.2), 0
    waits = []
    for took in (0.0, 0.5, 60.0, 0.001, 900.0):
        made.took(took, now=float(offset))
        for count in (5, 1, 0):  # more than a batch, a tail behind it, nothing
            began = float(offset)
            for _ in range(count):
                made.add(row(offset), now=began)
                offset += 1
            while (due := made.due_in(began)) is not None:
                waits.append(due)
                made.take(began + due)

    assert len(waits) == 3 * 5
    assert max(waits) <= 0.2
    assert made.rows == made.bytes == 0


def test_reading_ends_with_a_whole_batch_waiting_and_goes_on_once_it_is_taken() -> None:
    made = buffer(rows=2)
    full = []
    for offset in range(3):
        made.add(row(offset), now=0.0)
        full.append(made.is_full())
    taken = spans(made)

    assert full == [False, True, True]
    assert taken == [(1, 0, 2)]
    assert not made.is_full()
    assert made.rows == 1


def test_two_batches_are_in_memory_at_most() -> None:
    """The one that is being stored, and the one behind it; what one reading brings comes on top."""
    made, reading = buffer(rows=50, size=20 * (OVERHEAD_BYTES + 100)), 5
    most, in_flight, offset = 0, 0, 0
    for _ in range(40):
        if not made.is_full():
            for _ in range(reading):
                made.add(row(offset, partition=1 + offset % 2), now=0.0)
                offset += 1
        else:  # the batch in flight is stored, the next one begins
            in_flight = sum(len(part.rows) for part in made.take(0.0))
        most = max(most, made.rows + in_flight)

    assert 20 < most <= 2 * (20 + reading)


def test_a_batch_has_no_more_of_a_partition_than_its_limit_and_the_rest_is_due_at_once() -> None:
    made = buffer(rows=3)
    for offset in range(5):
        made.add(row(offset), now=0.0)
    first = spans(made, now=0.0)

    assert first == [(1, 0, 3)]
    assert (made.rows, made.bytes) == (2, 2 * (OVERHEAD_BYTES + 100))
    assert made.due_in(0.0) == 0.0
    assert spans(made) == [(1, 3, 5)]


def test_an_announced_range_is_taken_as_it_was_and_only_whole() -> None:
    made = buffer(p1=3)
    made.add(row(0), now=0.0)
    made.add(row(7, partition=2), now=0.0)
    early = spans(made, now=1.0)
    for offset in (1, 2, 3):
        made.add(row(offset), now=1.0)
    announced = made.announced

    assert early == [(2, 7, 8)]
    assert announced
    assert spans(made, now=2.0) == [(1, 0, 3)]
    assert not made.announced
    assert spans(made, now=3.0) == [(1, 3, 4)]


def test_an_announced_range_keeps_its_name_where_its_first_messages_were_compacted_away() -> None:
    """Else what was stored before a crash would not be known again, and be there twice."""
    whole, compacted = buffer(p1=3), buffer(p1=3)
    for offset in (0, 1, 2):
        whole.add(row(offset), now=0.0)
    compacted.add(row(2), now=0.0)
    (before,), (after,) = whole.take(0.0), compacted.take(0.0)

    assert (before.first, before.end) == (after.first, after.end) == (0, 3)
    assert after.token("policies") == before.token("policies")
    assert len(after.rows) == 1


def test_an_announced_range_is_sent_whole_beyond_the_limits() -> None:
    made = buffer(rows=2, p1=5)
    for offset in range(5):
        made.add(row(offset), now=0.0)

    assert spans(made) == [(1, 0, 5)]


def test_reading_does_not_pause_before_an_announced_range_is_whole() -> None:
    """The limits may be lower than those of the sink that announced it."""
    made = buffer(rows=2, p1=9)
    for offset in range(8):
        made.add(row(offset), now=0.0)
        made.take(0.0)
    before = made.is_full()
    made.add(row(8), now=0.0)

    assert not before
    assert spans(made) == [(1, 0, 9)]


def test_rows_of_partitions_that_went_are_left_to_others() -> None:
    made = buffer()
    made.add(row(0, partition=9), now=0.0)

    assert made.due_in(0.0) is None


def test_what_was_read_before_a_partition_went_and_came_back_is_forgotten() -> None:
    made = buffer()
    for offset in (10, 5, 6):
        made.add(row(offset), now=0.0)

    assert made.rows == 2
    assert spans(made) == [(1, 5, 7)]
