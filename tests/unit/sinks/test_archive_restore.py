"""What a restore sends to ClickHouse: every message once, in order, in ranges that are the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_sinks.archive.restore import ranges
from deploytrail_sinks.archive.segment import SegmentError
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import TOPIC, fill, record


def test_the_classes_of_a_partition_come_as_one_history_in_equal_ranges(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    fill(store, range(47))
    found = list(ranges(store, TOPIC, "001", 10))

    assert [(part.topic, part.partition, len(part.rows)) for part in found] == [(TOPIC, 1, 10)] * 4 + [(TOPIC, 1, 7)]
    rows = [row for part in found for row in part.rows]
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in rows] == [
        (r.offset, r.timestamp, r.key, r.value, r.headers) for r in map(record, range(47))
    ]
    assert list(ranges(store, TOPIC, "001", 10)) == found


def test_a_damaged_segment_ends_a_restore_and_is_named(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    fill(store, range(47))
    name = list(store.list(f"{TOPIC}/001/production"))[1]
    (tmp_path / name).chmod(0o644)
    (tmp_path / name).write_bytes(store.read(name)[:-20])

    with pytest.raises(SegmentError, match=f"{name} .*archive verify"):
        list(ranges(store, TOPIC, "001", 10))
