"""What disciplines the clock says how far it may be off."""

from __future__ import annotations

import pytest
from deploytrail._time_sync import ClockError, of_kernel, parse_tracking

TRACKING = "C0A80001,ntp1.acme.example,3,1793620800.1,-0.00025,0.0001,0.0002,-12.3,0.01,0.05,0.020,0.003,64.2,Normal\n"
UNSYNCHRONISED = TRACKING.replace("Normal", "Not synchronised")


@pytest.mark.requirement("M8.3")
def test_chrony_tells_offset_and_root_distance() -> None:
    assert parse_tracking(TRACKING) == ClockError(-250, 13_000)


@pytest.mark.parametrize("text", ["", "506 Cannot talk to daemon", TRACKING.replace(",3,", ",0,"), UNSYNCHRONISED])
def test_without_a_source_nothing_is_claimed(text: str) -> None:
    assert parse_tracking(text) is None


def test_the_kernel_tells_something_sensible_or_nothing() -> None:
    found = of_kernel()

    assert found is None or 0 <= found.uncertainty < 3_600_000_000
