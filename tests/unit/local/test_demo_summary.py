"""The demo's verdict: it holds only when nothing was missed, invented or lost on the way."""

from __future__ import annotations

import urllib.request

from deploytrail_local.demo_receiver import PageReceiver
from deploytrail_local.demo_summary import Hop, Row, Summary

IDS = {"deployment": frozenset({"a", "b"}), "signal": frozenset({"s"})}


def summary(*rows: Row, hops: tuple[Hop, ...] = ()) -> Summary:
    return Summary(rows=list(rows), hops=[Hop("accepted", dict(IDS)), *hops])


def test_summary_holds_when_all_was_found() -> None:
    made = summary(Row.compare("lost", {"x"}, {"x"}), hops=(Hop("trail", dict(IDS)),))

    assert made.holds
    assert "no hop lost a record" in made.text()


def test_missed_and_invented_are_named() -> None:
    made = summary(Row.compare("lost", {"x", "y"}, {"y", "z"}))

    assert not made.holds
    assert made.failures == ["lost: planted 2, found 2; missed x; invented z"]


def test_hop_that_lost_an_id_is_named() -> None:
    made = summary(Row.compare("lost", (), ()), hops=(Hop("trail", IDS | {"deployment": frozenset({"a"})}),))

    assert made.failures == ["deployments trail: 1 instead of 2; missing b; unexpected none"]


def test_kind_that_a_hop_does_not_keep_is_no_loss() -> None:
    made = summary(Row.compare("lost", (), ()), hops=(Hop("ClickHouse", {**IDS, "signal": None}),))

    assert made.holds


def test_row_that_is_only_counted_does_not_decide() -> None:
    made = summary(Row.compare("unclear", {"x"}, (), counts=False), hops=(Hop("trail", dict(IDS)),))

    assert made.holds
    assert "counted only" in made.text()


def test_empty_summary_does_not_hold() -> None:
    assert not Summary().holds


def test_receiver_counts_pages_by_key_and_action() -> None:
    with PageReceiver() as receiver:
        for _ in range(2):
            body = b'{"dedup_key": "k", "action": "trigger"}'
            urllib.request.urlopen(urllib.request.Request(receiver.url, body, method="POST"), timeout=5).close()
        counted = receiver.times_by_key()

    assert counted == {("k", "trigger"): 2}
