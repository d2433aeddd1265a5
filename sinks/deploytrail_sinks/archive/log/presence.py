"""What a log must have of a tree, by name: for what a kept checkpoint covers, and nobody reads again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deploytrail_sinks.archive.log.names import numbered, tile_name
from deploytrail_sinks.archive.log.plan import Plan
from deploytrail_sinks.archive.segment import is_segment

COVERED_GONE = "is covered by the checkpoint that you kept, and is not there"


def no_longer_there(
    plans: Sequence[Plan], size: int, names: Iterable[str], pruned: int = 0
) -> Iterator[tuple[str, str]]:
    """What is gone of what a kept checkpoint of a size covers: name, and what is wrong. `plans`: as far as they go.

    `pruned`: how many bundles, from the first on, need not be there.
    """
    covered, there = [plan for plan in plans if plan.start < size], set(names)
    end = covered[-1].end if covered else 0
    if end < size and numbered("batches", end) not in there:
        yield numbered("batches", end), COVERED_GONE
    if end > size:
        yield numbered("batches", covered[-1].start), f"reaches beyond {size}, where the checkpoint that you kept ends"
    yield from ((name, COVERED_GONE) for name in objects_of(covered, size, pruned) if name not in there)


def objects_of(plans: Iterable[Plan], size: int, pruned: int = 0) -> Iterator[str]:
    """Every object of the log but notes of positions, which nothing needs, that a published tree left behind.

    `plans`: its batches. Segments are no objects of the log. `pruned`: bundles that are left out.
    """
    for plan in plans:
        yield numbered("batches", plan.start)
        yield numbered("states", plan.end)
        yield from (planned.name for planned in plan.segments if not is_segment(planned.name))
        yield from _unfinished(plan.end, pruned)
    yield from _full(size, pruned)
    yield numbered("checkpoints", size)


def _unfinished(size: int, pruned: int) -> Iterator[str]:
    """The tiles at the right edge of a tree."""
    level = 0
    while at_level := size >> (8 * level):
        finished, width = divmod(at_level, 256)
        if width:
            yield tile_name(level, finished, width)
            if not level and finished >= pruned:
                yield tile_name("entries", finished, width)
        level += 1


def _full(size: int, pruned: int) -> Iterator[str]:
    level = 0
    while finished := size >> (8 * level + 8):
        for index in range(finished):
            yield tile_name(level, index)
            if not level and index >= pruned:
                yield tile_name("entries", index)
        level += 1
