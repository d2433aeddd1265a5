"""The spool's records: every damage is found, and nothing sound is lost to it."""

from __future__ import annotations

from deploytrail._spool import EVENT, Damage, Frame, frame, frames
from hypothesis import given
from hypothesis import strategies as st

EVENTS = [b"first", b"second event", b"dT third looks like a head", b""]
WHOLE = b"".join(frame(EVENT, number, payload) for number, payload in enumerate(EVENTS, 1))


def _read(data: bytes) -> tuple[list[tuple[int, bytes]], list[tuple[int, int, bool]]]:
    sound, damaged = [], []
    for found in frames(data):
        if isinstance(found, Damage):
            damaged.append((found.start, found.end, found.tail))
        else:
            sound.append((found.seq, found.payload))
    return sound, damaged


def test_layout_of_a_record_stays() -> None:
    assert frame(EVENT, 7, b"abc").hex() == "64540100030000000700000000000000a689efb2616263"


def test_records_are_read_back_in_order() -> None:
    assert _read(WHOLE) == ([(1, EVENTS[0]), (2, EVENTS[1]), (3, EVENTS[2]), (4, EVENTS[3])], [])


@given(st.integers(0, len(WHOLE)))
def test_torn_tail_costs_only_the_last_record(length: int) -> None:
    sound, damaged = _read(WHOLE[:length])
    ends = [found.end for found in frames(WHOLE) if isinstance(found, Frame)]

    assert len(sound) == sum(end <= length for end in ends)
    assert all(tail for _, _, tail in damaged)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_flipped_byte_costs_one_record_and_is_found(at: int, mask: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= mask
    sound, damaged = _read(bytes(data))

    assert len(sound) == len(EVENTS) - 1
    assert len(damaged) == 1
    assert damaged[0][0] <= at < damaged[0][1]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    sound, damaged = _read(data)

    assert bool(sound or damaged) == bool(data)
