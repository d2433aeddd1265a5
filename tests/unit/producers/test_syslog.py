"""Syslog messages become records; whatever else arrives is named or left alone."""

from __future__ import annotations

import pytest
from deploytrail.syslog import Framing, SyslogError, parse, record
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from hypothesis import given
from hypothesis import strategies as st

NOON = 1_793_620_800_000_000
SAID = (
    b'<134>1 2026-11-02T12:00:00.25Z build7 release 412 - [origin ip="10.0.0.7"][deploytrail@32473 '
    b'event_type="succeeded" service="checkout" environment="production" region="eu-west-1" '
    b'deployment_id="checkout-42" tags.note="a \\"quoted\\] word"] rolled out'
)


@pytest.mark.requirement("M8.5")
def test_structured_data_is_a_record() -> None:
    found = record(parse(SAID), "tcp", NOON + 9)
    assert found is not None
    kind, value = found

    assert kind is RecordType.DEPLOYMENT_EVENT
    assert len(value.pop("event_id")) == 36
    assert value == {
        "occurred_at": NOON + 250_000,
        "producer_id": "syslog:build7",
        "source": "syslog",
        "confidence": 0.7,
        "event_type": "succeeded",
        "service": "checkout",
        "environment": "production",
        "region": "eu-west-1",
        "deployment_id": "checkout-42",
        "tags": {"note": 'a "quoted] word'},
    }


def test_udp_is_trusted_less_and_a_repetition_is_the_same_record() -> None:
    first, again = record(parse(SAID), "udp", NOON), record(parse(SAID), "udp", NOON + 1)

    assert first is not None
    assert first == again
    assert first[1]["confidence"] == 0.5


def test_a_json_object_of_our_application_is_a_record() -> None:
    text = b'<14>1 - host deploytrail - - - {"event_type": "started", "service": "s", "environment": "e", '
    found = record(parse(text + b'"region": "r", "deployment_id": "d"}'), "tcp", NOON)

    assert found is not None
    assert (found[1]["event_type"], found[1]["occurred_at"]) == ("started", NOON)


@pytest.mark.parametrize("text", [b"<14>1 - host sshd 7 - - Accepted password", b'<14>1 - h a - - [x y="z"] {"a": 1}'])
def test_what_does_not_concern_us_is_left_alone(text: bytes) -> None:
    assert record(parse(text), "tcp", NOON) is None


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"<13>Nov  2 12:00:00 host app: hello", "is no RFC 5424 message"),
        (b"<192>1 - - - - - -", "is no RFC 5424 message"),
        (b'<13>1 - - - - - [deploytrail a="b', "does not end at character"),
        (b"<13>1 - - - - - [", "no name of an element"),
        (b"<13>1 - - - - - -x", "no space before its text"),
        (b"<13>1 - - - - - - \xff", "not UTF-8"),
        (b"x" * 70_000, "at most 65536"),
        (SAID.replace(b"succeeded", b"exploded"), "/event_type is 'exploded'"),
        (SAID.replace(b"region", b"regoin"), "did you mean 'region'"),
        (b'<14>1 - host deploytrail - - - {"a"', "carries no JSON"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, part: str) -> None:
    with pytest.raises(SyslogError) as refused:
        record(parse(data), "tcp", NOON)

    assert part in str(refused.value)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"<13>1 - - - - - [deploytrail " + b))
def test_any_message_is_read_or_refused(data: bytes) -> None:
    try:
        found = record(parse(data), "udp", NOON)
    except SyslogError as error:
        assert str(error)
    else:
        assert found is None or encode(*found)


@given(
    st.lists(st.binary(min_size=1, max_size=40).filter(lambda b: b.strip(b"\0 \r\n") == b and b), max_size=8), st.data()
)
def test_counted_messages_are_found_however_the_stream_is_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(b"%d %s" % (len(m), m) for m in messages)
    framing = Framing()
    found: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += framing.feed(stream[:cut])
        stream = stream[cut:]

    assert found == messages


def test_lines_and_counts_may_follow_each_other() -> None:
    assert list(Framing().feed(b"<13>1 one\r\n7 <13>1 x<13>1 two\n<13>1 cut")) == [
        b"<13>1 one",
        b"<13>1 x",
        b"<13>1 two",
    ]


@pytest.mark.parametrize("data", [b"99999 x", b"7x <13>1", b"1234567890123", b"<13>" + b"x" * 70_000])
def test_a_stream_that_cannot_be_cut_into_messages_is_refused(data: bytes) -> None:
    with pytest.raises(SyslogError):
        list(Framing().feed(data))
