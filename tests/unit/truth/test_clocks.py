"""Simulated clocks: frozen, so that no model is flattered by a kinder world."""

from __future__ import annotations

import hashlib

import pytest
from truth.clocks import GROUPS, Seen, simulate

# Of seed 101, which is among those that are reported. Another world is another measure: name it so.
FROZEN = "e0c9812605914b981e2812a625a0dc78f0d4997a5fe8829ed2a3a43c058e15c3"


@pytest.fixture(scope="module")
def records() -> list[Seen]:
    return simulate(101)


def test_the_clocks_are_those_that_were_frozen_before_the_model(records: list[Seen]) -> None:
    told = "\n".join(repr(record) for record in records)

    assert hashlib.sha256(told.encode()).hexdigest() == FROZEN


def test_every_kind_of_producer_speaks_and_receivers_see_nothing_before_it_happened(records: list[Seen]) -> None:
    assert {record.group for record in records} == {group.name for group in GROUPS}
    # Receivers are off by milliseconds and cut to one.
    assert all(record.received_at > record.true_at - 10_000 for record in records)


def test_echoes_tell_of_records_that_were_acknowledged_before(records: list[Seen]) -> None:
    assert all(
        record.sent_at is not None and record.echo[0] <= record.sent_at
        for record in records
        if record.echo and record.group in ("good", "skewed")
    )
