"""Changes that act in every region, told to the partitions of all regions.

What is deployed to `global` stands on the trail once, in the partition of that name: there it is judged, counted and
stored. An alert of another region may be its doing all the same, and an app sees one region's order at a time. So a
record of another kind, GlobalChange, tells each other partition of it: in that partition's own order, for a replay to
read it where it was first read, and of a kind that nothing but correlation looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deploytrail_schemas.policies.scope import EVERYWHERE
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import OTHER, RegionMap
from deploytrail_schemas.topics import Topic

# Writes a record: topic, partition, key, kind, value.
Forward = Callable[[Topic, int, str, RecordType, dict[str, Any]], None]


def partitions_told(regions: RegionMap, region: str, own: int) -> list[int]:
    """The partitions that are told of a change in a region, which stands in its `own`. History stays among itself."""
    if region.lower() not in EVERYWHERE or own == regions.backfill_partition:
        return []
    return sorted({OTHER, *regions.numbers.values()} - {own})


def tell_regions(forward: Forward, regions: RegionMap, own: int, event: Mapping[str, Any]) -> None:
    """Write word of an event of the trail to the partitions of other regions that it concerns; again, whenever the
    event is written again."""
    for partition in partitions_told(regions, event["region"], own):
        forward(Topic.EVENTS, partition, event["service"], RecordType.GLOBAL_CHANGE, dict(event))
