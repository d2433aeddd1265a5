"""How much is kept of one deployment, whoever reports it, and how often.

An id that a script uses for every deployment, a matrix of thousands of jobs, a source with a name of its own for each
report: each of these would let a row grow without end. What is kept is the smallest under an order that no report
changes (names, ids, and of ends the earliest of each lane), so that what is left is the same in whatever order the
reports come. What was left out is noted in the facts (`more`), and said in the record.

A lane is a cohort of a service.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any

from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules.deployment_times import Mark, rank
from deploytrail_processors.rules.states import TERMINAL

Facts = dict[str, Any]

# More instances, permits, or ends of one lane no deployment has.
MOST_NAMES, MOST_ENDS = 64, 64
MOST_EVENTS, MOST_LANES, MOST_SOURCES = 1024, 512, 64
# Of a message of an error, and of what a source says of a field, so many characters are kept.
LONGEST_ERROR, LONGEST_TEXT = 8192, 4096

# What was left out → the field of the record that it concerns, and the words.
SAID = {
    "events": ("event_count", f"more than {MOST_EVENTS} events have this deployment's id; no more are counted"),
    "lanes": ("components", f"more than {MOST_LANES} services and cohorts have this deployment's id; "
              "the first by name are kept"),
    "sources": ("sources", f"more than {MOST_SOURCES} sources speak of it; the library and the first by name are kept"),
    "texts": ("texts", f"a text of more than {LONGEST_TEXT} characters was cut"),
}  # fmt: skip


def said(facts: Facts) -> dict[str, str]:
    """What was left out, in words, by the field of the record."""
    words = {SAID[what][0]: SAID[what][1] for what in facts.get("more", ())}
    # Not noted, but seen: a lane that was full may be left out later.
    lanes = Counter((service, cohort) for _, service, cohort, _ in facts["ends"].values())
    if any(count >= MOST_ENDS for count in lanes.values()):
        words["other_ends"] = f"a service's cohort ended {MOST_ENDS} times or more; the earliest ends are kept"
    return words


def note(facts: Facts, what: str) -> None:
    """Note in new facts that something was left out."""
    if what not in facts.get("more", ()):
        facts["more"] = sorted([*facts.get("more", ()), what])


def keep_id(facts: Facts, event_id: str) -> None:
    """Keep an event's id in new facts."""
    ids = facts["ids"]
    place = bisect_left(ids, event_id)
    if place < len(ids) and ids[place] == event_id:
        return
    if len(ids) == MOST_EVENTS:
        note(facts, "events")
    if place < MOST_EVENTS:
        facts["ids"] = [*ids[:place], event_id, *ids[place:]][:MOST_EVENTS]


def keep_mark(facts: Facts, service: str, cohort: str, kind: str, mark: Mark) -> None:
    """Keep what was reported of a lane in new facts."""
    is_known = cohort in facts["marks"].get(service, ()) or any(
        (service, cohort) == (given[1], given[2]) for given in facts["ends"].values()
    )
    if kind in TERMINAL:
        put_end(facts, [kind, service, cohort, mark])
    else:
        put_mark(facts, service, cohort, kind, mark)
    if not is_known:
        keep_lanes(facts)


def put_mark(facts: Facts, service: str, cohort: str, kind: str, mark: Mark) -> None:
    """Put a mark that is no end beside what is kept; `keep_lanes` has to follow."""
    by_cohort = facts["marks"].get(service, {})
    by_kind = by_cohort.get(cohort, {})
    best = mark if kind not in by_kind else outcome.better(kind, by_kind[kind], mark)
    facts["marks"] = {**facts["marks"], service: {**by_cohort, cohort: {**by_kind, kind: best}}}


def put_end(facts: Facts, given: list[Any]) -> None:
    """Put an end, [type, service, cohort, mark], beside what is kept; `keep_lanes` has to follow."""
    old = facts["ends"].get(given[3][2])
    if old is not None and end_rank(old) <= end_rank(given):
        return
    ends = {**facts["ends"], given[3][2]: given}
    of_lane = [name for name, other in ends.items() if other[1:3] == given[1:3]]
    if len(of_lane) > MOST_ENDS:
        del ends[max(of_lane, key=lambda name: end_rank(ends[name]))]
    facts["ends"] = dict(sorted(ends.items()))


def end_rank(given: list[Any]) -> tuple[Any, ...]:
    """A total order of ends by time."""
    return (rank(given[3]), given[:3])


def keep_lanes(facts: Facts) -> None:
    """Let new facts have no more lanes than may be, the first by name."""
    lanes = {(service, cohort) for service, by_cohort in facts["marks"].items() for cohort in by_cohort}
    lanes |= {(service, cohort) for _, service, cohort, _ in facts["ends"].values()}
    if len(lanes) <= MOST_LANES:
        return
    note(facts, "lanes")
    kept = set(sorted(lanes)[:MOST_LANES])
    marks = {
        service: {cohort: by_kind for cohort, by_kind in by_cohort.items() if (service, cohort) in kept}
        for service, by_cohort in facts["marks"].items()
    }
    facts["marks"] = {service: by_cohort for service, by_cohort in marks.items() if by_cohort}
    facts["ends"] = {name: given for name, given in facts["ends"].items() if (given[1], given[2]) in kept}


def cut(facts: Facts, value: Any) -> Any:
    """What is kept of a field's value."""
    if not isinstance(value, str) or len(value) <= LONGEST_TEXT:
        return value
    note(facts, "texts")
    return value[:LONGEST_TEXT]


def keep_sources(facts: Facts, by_source: dict[str, Any]) -> dict[str, Any]:
    """Of what several sources say no more than may be: the library's word and the first by name."""
    if len(by_source) <= MOST_SOURCES:
        return by_source
    note(facts, "sources")
    kept = sorted(by_source, key=lambda source: (source != "library", source))[:MOST_SOURCES]
    return {source: by_source[source] for source in by_source if source in kept}


def first_by_name(by_name: dict[str, Any], most: int) -> dict[str, Any]:
    """The first of a mapping by name."""
    return by_name if len(by_name) <= most else {name: by_name[name] for name in sorted(by_name)[:most]}


def some(known: list[str], more: Iterable[str]) -> list[str]:
    """Names with more of them, the first of them all."""
    added = set(more)
    return sorted({*known, *added})[:MOST_NAMES] if added else known
