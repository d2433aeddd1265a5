"""How the deployments of a partition bear on each other: what was rolled back, what was followed, what is a part, and
what became of one all of whose parts have ended.

Held in memory, made of the rows. A life is what a deployment's own reports say; what follows from others is asked for
anew each time, so that no order of events can matter.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from deploytrail_processors.apps.base import Row
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import deployment_outcome as outcome
from deploytrail_processors.rules import lifecycle, succession
from deploytrail_processors.rules.states import TERMINAL
from deploytrail_processors.rules.succession import Life, life_of

Place = tuple[str, str, str]
Key = TypeVar("Key")
# Of parents' parents so many are asked, to find a circle.
_DEEPEST = 8


class Relations:
    """The lives of a partition's deployments, by what others ask for."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self._lives: dict[str, Life] = {}
        self._named: dict[str, str] = {}  # any name → the id that stands for it
        self._undoing: dict[str, set[str]] = {}  # what a rollback names → rollbacks
        self._parts: dict[str, set[str]] = {}  # what a part names → parts
        self._open: dict[Place, set[str]] = {}
        self._ended: dict[Place, list[tuple[int, str]]] = {}  # successes, by their end
        for life in lives:
            self._put(life)

    def change(self, gone: Iterable[str], lives: Iterable[Life]) -> set[str]:
        """Take lives as they are now; the ids of other deployments whose record may change by it.

        Asked before and after the change: who was followed by one that is no success after all is followed anew.
        """
        lives, names = list(lives), set(gone)
        names |= {name for life in lives for name in life.names}
        affected = {other for name in names for other in self._touched(name)}
        for name in names:
            self._drop(name)
        for life in lives:
            self._put(life)
        for life in lives:
            affected |= self._touched(life.id)
        return {self._named[name] for name in affected if name in self._named} - {life.id for life in lives}

    def forget(self, names: Iterable[str]) -> None:
        """Let go of deployments whose rows are forgotten: as if the others had been read without them."""
        for name in names:
            self._drop(name)

    def applied(self, facts: lifecycle.Facts) -> lifecycle.Facts:
        """A deployment's facts with what follows from others."""
        life = self._lives.get(facts["id"])
        if life is None:
            return facts
        for name in life.names:
            for rollback in (self._lives[one] for one in self._undoing.get(name, ())):
                if rollback.succeeded and rollback.id != life.id and rollback.end is not None:
                    facts = lifecycle.undo(facts, rollback.id, rollback.end, rollback.width_ms)
        newer = succession.follower(life, self._candidates(life))
        if newer is not None and newer.end is not None:
            facts = lifecycle.overtake(facts, newer.id, newer.end, newer.width_ms)
        ended = self._ended_by_parts(life)
        if ended is not None:
            facts = lifecycle.ended_by_children(facts, *ended)
        parent = self._parent(life)
        return lifecycle.as_part_of(facts, parent.id) if parent is not None else facts

    def overtaken(self, deployment_id: str) -> tuple[int, str] | None:
        """When the first newer one took a deployment's place, and which: whatever became of that one itself."""
        life = self._lives.get(deployment_id)
        if life is None:
            return None
        as_open = replace(life, state="running", end=None)
        newer = succession.follower(as_open, self._candidates(as_open))
        return (newer.end, newer.id) if newer is not None and newer.end is not None else None

    def _touched(self, name: str) -> set[str]:
        """Whose record rests on a deployment: what it undoes, its parts, what it is a part of, whom it follows."""
        life = self._lives.get(name)
        if life is None:
            return set()
        found = self._parts_of(life) | self._wholes_of(life)
        if life.undoes:
            undone = self._lives.get(self._named.get(life.undoes, ""))
            found |= {life.undoes, *(self._wholes_of(undone) if undone is not None else ())}
        if life.succeeded:
            for service in life.services:
                found |= self._followed(life, (*life.place, service))
        return found

    def _parts_of(self, life: Life) -> set[str]:
        """Its parts and theirs, as deep as circles are looked for."""
        found: set[str] = set()
        whole = [life]
        for _ in range(_DEEPEST):
            parts = {part for one in whole for name in one.names for part in self._parts.get(name, ())} - found
            found |= parts
            whole = [self._lives[part] for part in parts]
        return found

    def _wholes_of(self, life: Life) -> set[str]:
        """What it is a part of, and that of others."""
        found: set[str] = set()
        for _ in range(_DEEPEST):
            parent = self._lives.get(self._named.get(life.parent, ""))
            if parent is None or parent.id in found:
                break
            found.add(parent.id)
            life = parent
        return found

    def _ended_by_parts(self, life: Life, depth: int = _DEEPEST) -> tuple[list[str], int, int] | None:
        """The states of its parts once all have ended, with the time of the last end and its ±."""
        parts = [self._lives[part] for name in life.names for part in self._parts.get(name, ())]
        # Of a circle each counts for itself; what is voided never was.
        parts = [part for part in parts if part.state != "voided" and self._parent(part) is life]
        ends = [self._end_of(part, depth) for part in parts] if depth else []
        known = [end for end in ends if end is not None]
        if not known or len(known) < len(ends):
            return None
        _, at, width = max(known, key=lambda end: end[1:])
        return [state for state, _, _ in known], at, width

    def _end_of(self, part: Life, depth: int) -> tuple[str, int, int] | None:
        """How a part ended, by its own word, by a rollback of it, or by its own parts: state, time, ±."""
        undone = (self._lives[one] for name in part.names for one in self._undoing.get(name, ()))
        times = [
            (one.end, one.width_ms) for one in undone if one.succeeded and one.id != part.id and one.end is not None
        ]
        if times:
            return "rolled_back", *min(times)
        if part.state in TERMINAL and part.end is not None:
            return part.state, part.end, part.width_ms
        ended = self._ended_by_parts(part, depth - 1)
        became = outcome.of_children(ended[0]) if ended is not None else None
        return (became[0], *ended[1:]) if ended is not None and became is not None else None

    def _followed(self, life: Life, place: Place) -> set[str]:
        found = {name for name in self._open.get(place, ()) if succession.follows(life, self._lives[name])}
        ended = self._ended.get(place, [])
        for _, name in reversed(ended[: bisect_left(ended, (life.end or 0, life.id))]):
            other = self._lives[name]
            if succession.follows(life, other):
                found.add(name)
            if succession.covers(other, life) and not self._is_of_a_whole(other):
                break  # whatever ended before that was followed by it, if by nothing else
        return found

    def _is_of_a_whole(self, life: Life) -> bool:
        """Whether it is a part or has parts: which do not follow each other."""
        return bool(life.parent) or any(self._parts.get(name) for name in life.names)

    def _candidates(self, life: Life) -> Iterable[Life]:
        """Successes that may have followed, the earliest first: once one does, no later one counts."""
        since = (life.end, life.id) if life.state in TERMINAL and life.end is not None else (life.begin, "")
        for service in life.services:
            ended = self._ended.get((*life.place, service), [])
            for position in range(bisect_left(ended, since), len(ended)):
                other = self._lives[ended[position][1]]
                yield other
                if succession.follows(other, life):
                    break

    def _parent(self, life: Life) -> Life | None:
        first, at = None, life
        for _ in range(_DEEPEST):
            parent = self._lives.get(self._named.get(at.parent, ""))
            if parent is None:
                return first
            if parent.id == life.id:
                return None  # a circle: each counts for itself
            first, at = first or parent, parent
        return first

    def _put(self, life: Life) -> None:
        self._lives[life.id] = life
        for name in life.names:
            self._named[name] = life.id
        if life.undoes:
            self._undoing.setdefault(life.undoes, set()).add(life.id)
        if life.parent:
            self._parts.setdefault(life.parent, set()).add(life.id)
        for service in life.services:
            place = (*life.place, service)
            if life.state not in TERMINAL:
                self._open.setdefault(place, set()).add(life.id)
            elif life.succeeded:
                insort(self._ended.setdefault(place, []), (life.end or 0, life.id))

    def _drop(self, name: str) -> None:
        life = self._lives.pop(name, None)
        if life is None:
            return
        for one in life.names:
            if self._named.get(one) == life.id:
                del self._named[one]
        _discard(self._undoing, life.undoes, life.id)
        _discard(self._parts, life.parent, life.id)
        for service in life.services:
            place = (*life.place, service)
            _discard(self._open, place, life.id)
            ended = self._ended.get(place, [])
            position = bisect_left(ended, (life.end or 0, life.id))
            if position < len(ended) and ended[position] == (life.end or 0, life.id):
                del ended[position]


def _discard(sets: dict[Key, set[str]], key: Key, name: str) -> None:
    """Take a name out of a set, and an empty set out of its dict: keys are names of deployments, and never end."""
    names = sets.get(key, set())
    names.discard(name)
    if not names:
        sets.pop(key, None)


class PartitionRelations:
    """The relations of each partition, made of the rows that there are when they are first asked for."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._made: dict[int, Relations] = {}

    def __contains__(self, partition: int) -> bool:
        return partition in self._made

    def of(self, partition: int) -> Relations:
        """Of one partition. To be asked for before rows change of which `change` is to tell."""
        if partition not in self._made:
            rows = (row for row in self._deployments.rows(partition) if lifecycle.is_reported(row["facts"]))
            self._made[partition] = Relations(self.life(partition, row) for row in rows)
        return self._made[partition]

    def life(self, partition: int, row: Row) -> Life:
        """What a deployment's own reports say."""
        return life_of(row["facts"], self._deployments.derive(partition, row["facts"]))

    def forget_old(self, partition: int, now: int) -> None:
        """Forget deployments that have been quiet for long, with their rows."""
        forgotten = self._deployments.forget_old(partition, now)
        if partition in self._made:
            self._made[partition].forget(forgotten)

    def clear(self) -> None:
        """The tables were read anew."""
        self._made.clear()
