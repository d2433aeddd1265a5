"""Gaps say what Kafka lost. Whoever enters more of them, or others, hides nothing by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.tiles import join_bundle, split_bundle
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.segment import Segment, SegmentError, read_segment, write_segment
from support.archive_log import TOPIC, Killed, MemoryStore, Published, fill, published, record

BUNDLE, TILE = "log/tile/entries/000.p/{}", "log/tile/0/000.p/{}"


@pytest.fixture
def log(tmp_path: Path) -> Published:
    """Kafka lost offsets 10 to 19; a writer had died between two classes, so production has its records up to 16."""
    store = MemoryStore()
    fill(store, range(10))
    writer = PartitionArchive(store, TOPIC, 1, frozenset())
    writer.resume(committed=10)
    for offset in range(10, 17):
        writer.add(record(offset))

    def dies(name: str) -> None:
        if "non-production" in name:
            raise Killed

    store.before = dies
    with pytest.raises(Killed):
        writer.close_segments()
    store.before = lambda _: None
    again = PartitionArchive(store, TOPIC, 1, frozenset())
    again.resume(committed=10)
    for offset in range(20, 40):
        again.add(record(offset))
    again.close_segments()
    return published(tmp_path, store)


def objects(log: Published) -> dict[str, bytes]:
    assert isinstance(log.store, MemoryStore)
    return dict(log.store.objects)


def flaws(log: Published, changed: dict[str, bytes]) -> set[str]:
    attacked = Published(MemoryStore(objects(log) | changed), log.trust_text)
    return {flaw.name for flaw in attacked.check()[0].flaws}


@pytest.mark.requirement("M5.1")
def test_a_loss_that_classes_tell_by_different_ranges_is_whole_and_each_is_told(log: Published) -> None:
    report, _ = log.check()
    told = {(gap.name.split("/")[2], gap.detail) for gap in report.gaps}

    assert report.flaws == []
    assert ("production", "offsets 17 to 19 were lost before archiving") in told
    assert ("non-production", "offsets 10 to 19 were lost before archiving") in told
    assert log.sequencer.gaps == len(report.gaps) == 3
    kept, _ = open_checkpoint(log.store.newest(CHECKPOINT))
    assert log.check(kept)[0].flaws == []


def segments_with_gaps(log: Published) -> dict[str, Segment]:
    read = {name: read_segment(data) for name, data in objects(log).items() if name.endswith(".avro")}
    return {name: segment for name, segment in read.items() if segment.gaps}


@pytest.mark.requirement("M5.1")
def test_a_gap_that_is_entered_again_for_another_range_is_named(log: Published) -> None:
    missed = []
    for name, segment in segments_with_gaps(log).items():
        [(first, last)] = segment.gaps
        held = [record.offset for record in segment.records]
        others = [offset for offset in range(20, 40) if offset not in held]
        attacks = {
            "twice": (*segment.gaps, *segment.gaps),
            "a part of it again": (*segment.gaps, (first + 1, last)),
            "out of order": ((last, last), (first, last - 1)),
            "wider": ((first - 1, last),) if first > segment.first_offset else ((first, last + 1),),
            "narrower": ((first + 1, last),),
            "in two": ((first, first), (first + 1, last)),
            "gone": (),
            "another one behind it": (*segment.gaps, *((offset, offset) for offset in others[:1])),
        }
        for what, gaps in attacks.items():
            forged = write_segment(replace(segment, gaps=gaps))
            if name not in flaws(log, {name: forged}):
                missed.append(f"{name}: {what}")

    assert missed == []


@pytest.mark.requirement("M5.1")
def test_a_gap_in_place_of_a_record_is_named(log: Published) -> None:
    for name, segment in segments_with_gaps(log).items():
        if not segment.records:
            continue
        lost = segment.records[-1]
        forged = replace(segment, records=segment.records[:-1], gaps=(*segment.gaps, (lost.offset, lost.offset)))

        assert name in flaws(log, {name: write_segment(forged)})


@pytest.mark.parametrize("gaps", [((17, 19), (17, 19)), ((17, 18), (18, 19)), ((18, 19), (17, 17))])
def test_gaps_that_overlap_or_go_back_are_no_segments(log: Published, gaps: tuple[tuple[int, int], ...]) -> None:
    segment = next(s for name, s in segments_with_gaps(log).items() if "/production/" in name)
    with pytest.raises(SegmentError, match="behind one that reaches to"):
        read_segment(write_segment(replace(segment, gaps=gaps)))


@pytest.mark.requirement("M5.1")
def test_a_gap_in_the_log_that_no_segment_tells_is_named(log: Published) -> None:
    size = log.sequencer.size
    bundle, tile = BUNDLE.format(size), TILE.format(size)
    entries = split_bundle(bundle, objects(log)[bundle])
    gaps = [at for at, entry in enumerate(entries) if entry.startswith(b'{"first"')]
    records = [at for at, entry in enumerate(entries) if b'"commitment"' in entry]
    other = next(at for at in gaps if entries[at] != entries[gaps[0]])
    widened = entries[gaps[0]].replace(b'"last":"19"', b'"last":"20"')
    attacks = {
        "another range": {gaps[0]: widened},
        "the same twice": {other: entries[gaps[0]]},
        "in place of a record": {records[-1]: widened},
    }

    assert len(gaps) == 3
    assert widened != entries[gaps[0]]
    for what, put in attacks.items():
        forged = [put.get(at, entry) for at, entry in enumerate(entries)]
        hashes = b"".join(map(leaf_hash, forged))
        for changed in ({bundle: join_bundle(forged)}, {bundle: join_bundle(forged), tile: hashes}):
            found = flaws(log, changed)
            assert found & {bundle, tile, f"log/states/{size:020}"}, (what, found)
