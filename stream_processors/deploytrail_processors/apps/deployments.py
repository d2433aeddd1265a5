"""Facts of deployments in a table: what each app that judges deployments keeps of the trail.

A row is kept for each id that was reported. Ids that name one deployment (`rules/identity`) are one group: the row of
the id that stands for it carries what an app keeps beside the facts, and an app is given it with the facts of all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, row_key, rows_of
from deploytrail_processors.rules import findings, identity, lifecycle
from deploytrail_processors.rules.findings import Finding
from deploytrail_processors.rules.policies import Policies

DAY = 86_400_000_000
NEVER = 1 << 62
# A key that so many ids share within days says nothing of any of them.
MOST_NEAR = 200
# So many derived contents are kept: one derivation is most of what an app does with a deployment.
MOST_DERIVED = 2000


@dataclass(frozen=True, slots=True)
class Changed:
    """What one more event changed: `rows` of deployments, the event's own first; `merged`, rows of ids that are other
    names of these."""

    rows: list[Row]
    merged: list[Row]

    @property
    def own(self) -> Row:
        """The row of the deployment that the event is about."""
        return self.rows[0]


class Deployments:
    """A table of rows `{"facts": …}` by deployment, with what is due and what may be forgotten.

    `next_due` says when a row wants attention besides being forgotten; None: never. `says`: where an app puts what it
    has found into a row, a finding, findings by name, or a chain of answers; they are taken back, and the app need not
    care, once the row's id turns out to be another name. `carries`: what it puts there that is also true under another
    name.

    Kept in rows besides facts and what apps put there: `_group`, the ids that the row stands for; `_into`, the id that
    stands for the row; `_in`, their partition; `_by`, the event that last changed one of them; `_gone`, what took the
    row's findings back; `_again`, how often it stood for itself again after that.
    """

    def __init__(
        self,
        context: Context,
        next_due: Callable[[Row], int | None],
        *,
        says: Iterable[str] = (),
        carries: Iterable[str] = (),
        table: str = "deployments",
    ) -> None:
        self._context = context
        self._table = context.table(table)
        self._keep = context.settings.remember_days * DAY
        self._next_due = next_due
        self._says, self._carries = tuple(says), tuple(carries)
        self.agenda = Agenda(self._table, self._due)
        self._expiry = Agenda(self._table, self._forget_at)
        self._known: dict[int, _Known] = {}
        self._merged: dict[str, lifecycle.Facts] = {}  # facts of groups, by the key of the row that stands for it
        # By id: facts, whether they count as lost if they are open, and the content that follows from both.
        self._derived: dict[str, tuple[lifecycle.Facts, bool, dict[str, Any]]] = {}

    def on_recovered(self) -> None:
        """The table was read anew."""
        self.agenda.forget()
        self._expiry.forget()
        self._known.clear()
        self._merged.clear()
        self._derived.clear()

    def add(self, partition: int, event: Mapping[str, Any]) -> Changed:
        """Take an event. What it changed is told again at its redelivery. The app puts its rows back."""
        return self.learn(
            partition, event["deployment_id"], lambda facts: lifecycle.add(facts, event), event["event_id"]
        )

    def learn(
        self, partition: int, deployment_id: str, more: Callable[[lifecycle.Facts], lifecycle.Facts], by: str
    ) -> Changed:
        """Take what an event or another record, `by` its id, tells of an id."""
        known = self._known_of(partition)
        row = self._read(row_key(partition, deployment_id)) or {"facts": lifecycle.new_facts(deployment_id)}
        row = {**row, "facts": more(row["facts"])}
        seeds = {deployment_id, *known.near_id(deployment_id), *self._names(row), *known.after(deployment_id)}
        known.put(deployment_id, self._part(row["facts"]))
        known.locate(deployment_id, row["facts"])
        seeds |= {*known.near_id(deployment_id), *known.after(deployment_id)}
        if len(seeds) > 1:
            parts = identity.reachable(seeds, known.parts, known.near)
            grouped = identity.groups(parts, known.beside(parts))
        else:  # the usual: nothing is near it
            grouped = [[deployment_id]]
        if "_in" not in row and all(group == [deployment_id] or deployment_id not in group for group in grouped):
            own = [row]  # one write is enough where it has one name: the app's
        else:
            own = []
            self._store(partition, row)
        # An event at which an app failed may have left a part without a row.
        written = [[name for name in group if row_key(partition, name) in self._table] for group in grouped]
        grouped = [group for group in written if group]
        changed = {group[0] for group in grouped if self._group(partition, group, by)}
        told = [group for group in grouped if deployment_id in group or group[0] in changed]
        told.sort(key=lambda group: (deployment_id not in group, group))
        rows = own + [self.get(partition, group[0]) for group in told if not own or group != [deployment_id]]
        merged = [self._other_name(partition, name) for group in told for name in group[1:]]
        for other in merged:
            self._take_back(partition, other, by)
        return Changed(rows, merged)

    def get(self, partition: int, deployment_id: str) -> Row:
        """The row of the deployment that an id names; a new one where nothing is known of it."""
        row = self._read(row_key(partition, deployment_id))
        if row is not None and "_into" in row:
            row = self._read(row_key(partition, row["_into"])) or row
        return self._whole(row) if row is not None else {"facts": lifecycle.new_facts(deployment_id)}

    def put(self, partition: int, row: Row) -> None:
        """Write a deployment's row. Of a deployment with several names the facts are only those that `add` took."""
        kept = self._read(row_key(partition, row["facts"]["id"]))
        if kept is not None and ("_group" in kept or "_into" in kept):
            row = {**row, "facts": kept["facts"]}
        self._store(partition, row)

    def due(self, partition: int, now: int) -> Iterator[Row]:
        """Rows that are due at `now`, each once."""
        for _, row in self.agenda.pop_all(partition, now):
            yield self._whole(row)

    def rows(self, partition: int) -> list[Row]:
        """Every deployment of a partition, once, whatever names it has."""
        return [self._whole(row) for _, row in rows_of(self._table, partition) if "_into" not in row]

    def near(
        self, partition: int, is_near: Callable[[Mapping[str, str]], bool], since: int = 0, until: int = NEVER
    ) -> list[Row]:
        """Every deployment of the places that `is_near` says, of which something was heard between two times; perhaps
        more than these, since one of several names is found by what is told of any. In order of their ids."""
        places = self._known_of(partition).places.values()
        heard = (names for place, names in places if is_near(place))
        found = {
            self.stands_for(partition, name) for names in heard for name, at in names.items() if since <= at <= until
        }
        return [self.get(partition, name) for name in sorted(found) if row_key(partition, name) in self._table]

    def stands_for(self, partition: int, deployment_id: str) -> str:
        """The id that stands for the deployment that an id names."""
        row = self._table.get(row_key(partition, deployment_id))
        return str(row.get("_into", deployment_id)) if row is not None else deployment_id

    def derive(self, partition: int, facts: lifecycle.Facts) -> dict[str, Any]:
        """The record's content at partition time."""
        now, limit = self._context.partition_time(partition), self.policies(facts).thresholds.lost_after_minutes
        is_late = limit is not None and now >= lifecycle.due(facts, limit)
        kept = self._derived.get(facts["id"])
        if kept is None or kept[0] is not facts or kept[1] is not is_late:
            if len(self._derived) >= MOST_DERIVED:
                self._derived.clear()
            kept = self._derived[facts["id"]] = (facts, is_late, lifecycle.derive(facts, now, limit))
        return dict(kept[2])

    def policies(self, facts: lifecycle.Facts) -> Policies:
        """The policies of the time that a deployment's facts speak of."""
        return self._context.policies_at(facts["last"])

    def forget_old(self, partition: int, now: int) -> list[str]:
        """Drop what has been quiet for as long as the settings say; the ids."""
        forgotten = []
        for key, row in list(self._expiry.pop(partition, now)):
            forgotten.append(row["facts"]["id"])
            self._known_of(partition).put(row["facts"]["id"], None)
            self._known_of(partition).locate(row["facts"]["id"], None)
            self._derived.pop(row["facts"]["id"], None)
            self._merged.pop(key, None)
            self._table.pop(key, None)
        return forgotten

    def anew(self, row: Row, found: Finding) -> Finding:
        """A finding as it is to be written of a row: of one that stands for itself again it is another one than at
        first."""
        gone = {one["rule"]: one for one in row.get("_gone", ())}
        return findings.anew(found, gone.get(found["rule"]), row.get("_again", 0))

    def _take_back(self, partition: int, row: Row, by: str) -> None:
        said = [one for name in self._says for one in _findings_in(row.get(name))]
        if said:
            gone = [findings.taken_back(one, row["_into"], row.get("_again", 0)) for one in said]
            row = {name: given for name, given in row.items() if name not in self._says} | {"_gone": gone}
            self.put(partition, row)
        if said or row.get("_by") == by:
            for one in row.get("_gone", ()):
                self._context.forward(Topic.FINDINGS, partition, one["finding_id"], RecordType.FINDING, one)

    def _group(self, partition: int, group: list[str], by: str) -> bool:
        """Keep that ids name one deployment; whether this is, or at its first delivery was, new with `by`."""
        new, tell = False, False
        for name in group:
            row = self._read(row_key(partition, name))
            assert row is not None
            rest = {key: given for key, given in row.items() if key not in ("_group", "_into", "_in")}
            if name != group[0]:
                wanted = {**rest, "_into": group[0], "_in": partition}
            else:
                wanted = {**rest, "_group": group, "_in": partition} if len(group) > 1 else rest
                if "_into" in row:
                    wanted["_again"] = row.get("_again", 0) + 1
            if (wanted.get("_group"), wanted.get("_into")) != (row.get("_group"), row.get("_into")):
                new = True
                self._store(partition, {**wanted, "_by": by})
            else:
                tell = tell or row.get("_by") == by
        if len(group) > 1:
            self._merged.pop(row_key(partition, group[0]), None)
        return new or tell

    def _store(self, partition: int, row: Row) -> None:
        key = row_key(partition, row["facts"]["id"])
        self._table[key] = row
        self._merged.pop(row_key(partition, row.get("_into", row["facts"]["id"])), None)
        self.agenda.put(partition, key, row)
        self._expiry.put(partition, key, row)

    def _read(self, key: str) -> Row | None:
        row: Row | None = self._table.get(key)
        return row

    def _whole(self, row: Row) -> Row:
        """A row with the facts of every name of its deployment."""
        if "_group" not in row:
            return dict(row)
        key = row_key(row["_in"], row["facts"]["id"])
        rows = [self._read(row_key(row["_in"], name)) for name in row["_group"]]
        members = [member for member in rows if member is not None]
        facts = self._merged.get(key)
        if facts is None:
            facts = self._merged[key] = lifecycle.merge([one["facts"] for one in members], row["facts"]["id"])
        carried = {name: one[name] for one in members[1:] for name in self._carries if name in one}
        return {**carried, **row, "facts": facts}

    def _other_name(self, partition: int, name: str) -> Row:
        row = self._read(row_key(partition, name))
        assert row is not None
        return {**row, "facts": lifecycle.into(row["facts"], row["_into"])}

    def _names(self, row: Row) -> list[str]:
        if "_into" in row:
            row = self._read(row_key(row["_in"], row["_into"])) or row
        return list(row.get("_group", ()))

    def _part(self, facts: lifecycle.Facts) -> identity.Part | None:
        return identity.part_of(facts, self.policies(facts).thresholds.same_deployment_minutes)

    def _known_of(self, partition: int) -> _Known:
        if partition not in self._known:
            known = self._known[partition] = _Known()
            for _, row in rows_of(self._table, partition):
                facts = row["facts"]
                known.put(facts["id"], self._part(facts))
                known.locate(facts["id"], facts)
        return self._known[partition]

    def _due(self, row: Row) -> int | None:
        return None if "_into" in row else self._next_due(self._whole(row))

    def _forget_at(self, row: Row) -> int | None:
        last = _heard(row)
        if "_in" in row:  # its deployment is remembered whole
            others = (self._table.get(row_key(row["_in"], name)) for name in self._names(row))
            last = max([last, *(_heard(other) for other in others if other is not None)])
        return last + self._keep


class _Known:
    """The parts of a partition, which of them share a key, and which are of one place.

    `places`: by region, environment and service, the place and when something was last heard of each id there.
    """

    def __init__(self) -> None:
        self.parts: dict[str, identity.Part] = {}
        self.places: dict[tuple[str, ...], tuple[dict[str, str], dict[str, int]]] = {}
        self._place: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._by_key: dict[identity.Key, set[str]] = {}
        self._by_time: dict[identity.Key, list[tuple[int, str]]] = {}  # when it ran first and id, by place and service

    def put(self, part_id: str, part: identity.Part | None) -> None:
        """Know a part by what is told of it now; None: forget it."""
        old = self.parts.pop(part_id, None)
        if part is not None:
            self.parts[part_id] = part
        for at, place in _moments(old) - _moments(part):
            self._by_time[place].remove((at, part_id))
            if not self._by_time[place]:
                del self._by_time[place]
        for at, place in _moments(part) - _moments(old):
            insort(self._by_time.setdefault(place, []), (at, part_id))
        before, after = (one.keys if one is not None else frozenset() for one in (old, part))
        for key in before - after:
            sharing = self._by_key[key]
            sharing.discard(part_id)
            if not sharing:
                del self._by_key[key]
        for key in after - before:
            self._by_key.setdefault(key, set()).add(part_id)

    def locate(self, part_id: str, facts: lifecycle.Facts | None) -> None:
        """Know where a part is, and when it was last heard of; None: forget it."""
        for before in self._place.pop(part_id, ()):
            names = self.places[before][1]
            del names[part_id]
            if not names:
                del self.places[before]
        if facts is not None:
            there = {tuple(place.values()): place for place in lifecycle.places(facts)}
            self._place[part_id] = tuple(there)
            for key, place in there.items():
                self.places.setdefault(key, (place, {}))[1][part_id] = facts["last"]

    def near_id(self, part_id: str) -> list[str]:
        """The ids of parts that may name the same deployment as an id."""
        return self.near(self.parts[part_id]) if part_id in self.parts else []

    def near(self, part: identity.Part) -> list[str]:
        """The ids of parts that may name the same deployment as a part."""
        found: set[str] = set()
        for key in part.keys:
            sharing = self._by_key.get(key, set()) - {part.id}
            if len(sharing) > MOST_NEAR:
                sharing = {name for name in sharing if abs(self.parts[name].begin - part.begin) < DAY}
            if len(sharing) <= MOST_NEAR:
                found |= sharing
        return sorted(found)

    def after(self, part_id: str) -> set[str]:
        """The ids of parts that share a key with some, and ran in the same place within a day after a part: what it
        tells of the artifact there may speak against their links."""
        if (part := self.parts.get(part_id)) is None or not (part.digests or part.commits):
            return set()
        found = set()
        for at, place in _moments(part):
            there = self._by_time[place]
            begin = bisect_right(there, (at, part_id))
            for _, name in there[begin : min(bisect_right(there, (at + DAY, "")), begin + MOST_NEAR)]:
                if any(len(self._by_key[key]) > 1 for key in self.parts[name].keys):
                    found.add(name)
        return found

    def beside(self, parts: list[identity.Part]) -> list[identity.Part]:
        """What else ran in the places of parts between the first and the last of them."""
        moments = [moment for part in parts for moment in _moments(part)]
        found: set[str] = set()
        for place in {place for _, place in moments}:
            times = [at for at, there in moments if there == place]
            there = self._by_time[place]
            found |= {
                name for _, name in there[bisect_left(there, (min(times), "")) : bisect_left(there, (max(times), ""))]
            }
        return [self.parts[name] for name in sorted(found)]


def _moments(part: identity.Part | None) -> set[tuple[int, identity.Key]]:
    """When a part ran first, at each service of its place."""
    if part is None or part.ran is None:
        return set()
    return {(part.ran[0], (*part.place, service)) for service in part.services}


def _findings_in(said: Any) -> list[Finding]:
    """The findings in what an app has put into a row."""
    if not said:
        return []
    if "finding_id" in said:
        return [said]
    return [said["finding"]] if "finding" in said else list(said.values())


def _heard(row: Row) -> int:
    facts = row["facts"]
    return int(max([facts["last"], *(mark[0] for mark in facts.get("steps", {}).values())]))
