"""What the log must have where a row of a plan says that an object is: by its entries, or where those were pruned,
by what is made again of a receipt or of what is stored.

Nobody signs a plan. The first entry of an object says which it is and how many records follow, so that no row can be
left out, changed, or reach into another. Once a bundle of entries was pruned, the hashes of its tile stay: the entries
of objects, and those of a segment and its gaps, are made again and hashed. Those of records whose segment is gone could
be compared with nothing before, either: what they are commitments to, and the salts, went with the segment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from deploytrail_sinks.archive.log.entries import gap_entry, object_entry, segment_entry
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.plan import Planned
from deploytrail_sinks.archive.receipts import Gone
from deploytrail_sinks.archive.segment import SegmentError, gaps_in, is_segment, read_segment

_SEGMENT, _OBJECT = b'{"kind":"segment"', b'{"kind":"object"'


def said_by(entry: bytes) -> dict[str, Any] | None:
    """What an entry says of an object, `name` and `sha256` at least; None where it is of a record or a gap."""
    if not entry.startswith((_SEGMENT, _OBJECT)):
        return None
    try:
        said: dict[str, Any] = json.loads(entry)
    except ValueError:
        return None
    return said if {"name", "sha256"} <= said.keys() else None


def count_in(planned: Planned, entry: bytes, gaps: int) -> int:
    """How many entries a row's object has by its first one: itself, so many gaps, its records; 0: it is another's."""
    said = said_by(entry)
    if said is None or (said["name"], said["sha256"]) != (planned.name, planned.sha256):
        return 0
    records = said.get("records")
    return 1 + gaps + records if type(records) is int else 1


def count_again(made: tuple[Sequence[bytes], int], leaves: Sequence[bytes]) -> int:
    """The same where entries were pruned, by what was made again, and by the hashes from the row's index on."""
    first, records = made
    return len(first) + records if [leaf_hash(entry) for entry in first] == list(leaves[: len(first)]) else 0


def made_again(read: Callable[[str], bytes], planned: Planned, gone: Gone | None) -> tuple[Sequence[bytes], int] | None:
    """The entries of a row's object and of its gaps, and how many of records follow; None where it is a segment that
    nothing tells of. `gone`: the receipt's word of it, where one excuses that it is gone."""
    if not is_segment(planned.name):
        return [object_entry(planned.name, planned.sha256)], 0
    try:
        if gone is not None:
            gaps, records = gaps_in(gone.gaps), gone.records
        else:
            segment = read_segment(read(planned.name))
            gaps, records = segment.gaps, len(segment.records)
    except (KeyError, SegmentError, ValueError):
        return None
    topic, partition, _ = planned.name.split("/", 2)
    of_gaps = [gap_entry(topic, int(partition), first, last) for first, last in gaps]
    return [segment_entry(planned.name, records, planned.sha256), *of_gaps], records
