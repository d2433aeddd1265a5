"""When a deployment began and ended, by marks of uncertain times.

A mark is `[at µs, uncertainty ms, event id, monotonic ns, boot id, exit code, error, source, trust]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Mark = list[Any]
# How far a report is trusted where another one differs: what ran the deployment knows best, an inference least.
BY_THE_LIBRARY, REPORTED, INFERRED = 2, 1, 0


def trust_of(source: str, provenance: str) -> int:
    """How far a source's word counts against others'."""
    if provenance == "inferred":
        return INFERRED
    return BY_THE_LIBRARY if source == "library" else REPORTED


def rank(mark: Mark) -> tuple[Any, ...]:
    """A total order of marks by time: two deliveries of one event may differ in their correction alone."""
    return (mark[0], mark[2], mark[1], mark[3] or 0, mark[4], mark[5] or 0, mark[6])


def first_of(marks: list[Mark]) -> Mark | None:
    """The mark that counts of several of a beginning: the most trusted, of those the earliest."""
    return min(marks, key=lambda mark: (-mark[8], rank(mark)), default=None)


# Changes that are made at once: their end is their beginning.
SWITCHES = frozenset({"feature_flag", "configuration_change"})


def began(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """When a change began, and ± (µs). Of a flag that was switched, or a release, some sources report the end alone:
    then it changed something at that time. None: it has not begun as far as is known, or was cancelled before."""
    for name in ("started_at", "finished_at"):
        if content[name] is not None and (name == "started_at" or content["state"] != "cancelled"):
            return content[name], (content[f"{name}_uncertainty_ms"] or 0) * 1000
    return None


def in_order(started: Mark | None, end: Mark | None) -> tuple[Mark | None, Mark | None, dict[str, int | None]]:
    """Both marks with the end no earlier than its start, and how long it took.

    By one boot's monotonic clock where both sides have it, else by the corrected times. What began ended later,
    whoever reported it: where the corrected times say otherwise, both intervals are cut to what this allows. Where
    nothing is left of them, two clocks contradict each other: the less certain time gives way, its ± still reaches
    all that it did, and the duration stays unknown.
    """
    if not started or not end:
        return started, end, {"duration_ms": None, "duration_uncertainty_ms": None}
    lasted = _monotonic(started, end)
    duration = {
        "duration_ms": lasted // 1000 if lasted is not None else (end[0] - started[0]) // 1000,
        "duration_uncertainty_ms": 0 if lasted is not None else started[1] + end[1],
    }
    if end[0] >= started[0]:
        return started, end, duration
    took = lasted or 0
    from_, until = started[0] - started[1] * 1000, started[0] + started[1] * 1000
    end_from, end_until = end[0] - end[1] * 1000 - took, end[0] + end[1] * 1000 - took
    if from_ <= end_until and (lasted is None or end_from <= until):
        narrow = _mark(started, max(from_, end_from) if lasted is not None else from_, min(until, end_until))
        if lasted is not None:
            return narrow, [narrow[0] + took, narrow[1], *end[2:]], duration
        late = _mark(end, max(from_, end_from), end_until)
        return narrow, late, {
            "duration_ms": (late[0] - narrow[0]) // 1000,
            "duration_uncertainty_ms": narrow[1] + late[1],
        }  # fmt: skip
    if lasted is None:
        duration = {"duration_ms": None, "duration_uncertainty_ms": None}
    if started[1] > end[1]:
        return _moved(started, end[0] - took), end, duration
    return started, _moved(end, started[0] + took), duration


def _monotonic(started: Mark, end: Mark) -> int | None:
    """Microseconds by the monotonic clock of one boot; None where they were not read from one."""
    if started[4] and started[4] == end[4] and None not in (started[3], end[3]) and end[3] >= started[3]:
        return int(end[3] - started[3]) // 1000
    return None


def _mark(mark: Mark, earliest: int, latest: int) -> Mark:
    """The mark with the middle of an interval as its time."""
    middle = (earliest + latest) // 2
    return [middle, -(-(latest - middle) // 1000), *mark[2:]]


def _moved(mark: Mark, to: int) -> Mark:
    """The mark at another time, its ± wide enough for all that it had reached."""
    return [to, mark[1] - (-abs(to - mark[0]) // 1000), *mark[2:]]
