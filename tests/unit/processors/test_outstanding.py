"""What is under way: a wait ends with what was sent before it, whatever is sent meanwhile."""

from __future__ import annotations

from deploytrail_processors.outstanding import Outstanding


def test_nothing_is_settled_before_all_that_was_sent_until_then_is_answered() -> None:
    under_way = Outstanding()
    first, second = under_way.sent(), under_way.sent()
    waited_for = under_way.close()

    assert not under_way.settled(waited_for)
    under_way.answered(first)
    assert not under_way.settled(waited_for)
    under_way.answered(second)
    assert under_way.settled(waited_for)


def test_what_is_sent_behind_a_wait_is_not_waited_for() -> None:
    under_way = Outstanding()
    before = under_way.sent()
    waited_for = under_way.close()
    under_way.sent()
    under_way.answered(before)

    assert under_way.settled(waited_for)
    assert not under_way.settled(under_way.close())


def test_a_later_wait_covers_an_earlier_one() -> None:
    under_way = Outstanding()
    late = under_way.sent()
    under_way.close()
    assert not under_way.settled(under_way.close())
    under_way.answered(late)

    assert under_way.settled(under_way.close())
    assert len(under_way) == 0
