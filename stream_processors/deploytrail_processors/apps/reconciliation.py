"""What runs, against what was deployed and what is declared: missing deployments are inferred, differences found.

Records only change the state; places are judged at ticks. What is inferred goes straight to the trail's partition that
its cause was read from, with times of its own that the intake app must not correct: so it is in the trail's order for
every replay, and redelivery writes it again under the same id. Everything is written at its tick and again at the
next one, since a tick does not come again after a crash.
"""

from __future__ import annotations

from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key, rows_of
from deploytrail_processors.apps.deployments import DAY, Deployments
from deploytrail_processors.apps.elsewhere import tell_regions
from deploytrail_processors.rules import deployed, lifecycle, place_state, sightings
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Policies, Reconciliation, reconciliation_for
from deploytrail_processors.rules.reconciliation import SOURCE
from deploytrail_processors.safe_app import SafeApp

# An instance that is gone is remembered for so long: what it ran carries on, and late reports may explain it.
KEEP_REMOVED = DAY


class Reconcile:
    """Rows of deployments: facts, and the place where they are `noted`. Rows of places: see `rules/place_state.py`, and
    what was said last (`outbox`) and when they are judged `next`. Rows of instances: what was seen of each."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None)
        self._regions = RegionMap.from_settings(context.settings)
        self._places = context.table("places")
        self._instances = context.table("instances")
        self._due = Agenda(self._places, lambda row: row["next"])
        keep = context.settings.remember_days * DAY
        self._expiry = Agenda(self._places, lambda row: int(row["last"]) + keep)
        self._by_place: dict[int, dict[str, set[str]]] = {}  # keys of instances, by partition and place

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            if value["source"] != SOURCE or value["provenance"] != "inferred":
                self._deployment(partition, value)
        elif kind is RecordType.OBSERVATION:
            self._observation(partition, value)

    def on_tick(self, partition: int, now: int) -> None:
        for key, row in self._due.pop_all(partition, now):
            self._judge(partition, key, row, now)
        for key, row in list(self._expiry.pop(partition, now)):
            self._places.pop(key, None)
            for name in self._index(partition).pop(_place_key(row["place"]), set()):
                self._instances.pop(name, None)
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()
        self._due.forget()
        self._expiry.forget()
        self._by_place.clear()

    def _deployment(self, partition: int, event: dict[str, Any]) -> None:
        place = {name: event[name] for name in lifecycle.PLACE}
        row = self._place(partition, place)
        if place_state.is_inferred(row, event["deployment_id"]):
            # Somebody speaks of what was inferred: he may take it back, and describe it, but that explains nothing.
            if event["event_type"] == "voided":
                self._put(partition, place_state.refuse(row, event["deployment_id"]), event["corrected_at"])
            return
        changed = self._deployments.add(partition, event)
        for known in (*changed.rows, *changed.merged):
            self._note(partition, known)

    def _note(self, partition: int, known: Row) -> None:
        """Tell a deployment's place of it, and the one where it was thought to be that it is not there."""
        facts, noted = known["facts"], known.get("noted")
        at = lifecycle.place(facts)
        content = self._deployments.derive(partition, facts)
        limit = self._deployments.policies(facts).thresholds.lost_after_minutes
        # Another name of a deployment is in the state `merged`, which is none that has begun.
        begun = deployed.deployed_of(content, lifecycle.due(facts, limit))
        if noted is not None and noted != at:
            other = self._place(partition, noted)
            self._put(partition, place_state.with_deployment(other, facts["id"], None), facts["last"])
        row = self._place(partition, at)
        self._put(partition, place_state.with_deployment(row, facts["id"], begun), facts["last"])
        self._deployments.put(partition, known | {"noted": at})

    def _observation(self, partition: int, observation: dict[str, Any]) -> None:
        kind, now = observation["observation_type"], self._context.partition_time(partition)
        place = {name: observation[name] for name in lifecycle.PLACE}
        row = self._place(partition, place)
        if kind in ("declared", "removed"):
            row = place_state.with_declared(row, observation, now)
        if kind in ("running", "removed"):
            cluster, instance = observation["cluster"], observation["instance"]
            name = row_key(partition, "\x1f".join((_place_key(place), cluster, instance)))
            known = self._instances.get(name) or {"place": place, "cluster": cluster, "instance": instance, "seen": []}
            seen = sightings.with_seen(known["seen"], sightings.seen_in(observation, now))
            self._instances[name] = known | {"seen": seen}
            self._index(partition).setdefault(_place_key(place), set()).add(name)
        self._put(partition, row, observation["corrected_at"])

    def _judge(self, partition: int, key: str, row: Row, now: int) -> None:
        place, outbox = row["place"], row["outbox"]
        running = self._sightings(partition, place, now)
        policy_key, policy = self._policy(place, now)
        row, said, due = place_state.judge(row, running, policy, policy_key, now=now)
        for kind, value in [*outbox, *said]:
            self._say(partition, kind, value)
        again = [now + 1] if said else []
        row = row | {"outbox": said, "next": min([*due, *again], default=None)}
        self._places[key] = row
        self._due.put(partition, key, row)

    def _sightings(self, partition: int, place: Row, now: int) -> list[sightings.Sighting]:
        """What was seen of a place's instances; those that are gone for long are forgotten."""
        found = []
        names = self._index(partition).get(_place_key(place), set())
        for name in sorted(names):
            row = self._instances[name]
            newest = row["seen"][-1]
            if newest["removed"] and max(newest["at"], newest["heard"]) + KEEP_REMOVED < now:
                self._instances.pop(name, None)
                names.discard(name)
                continue
            found += sightings.sightings_of(row["cluster"], row["instance"], row["seen"])
        return found

    def _say(self, partition: int, kind: str, value: dict[str, Any]) -> None:
        if kind == "event":
            self._context.forward(Topic.EVENTS, partition, value["service"], RecordType.DEPLOYMENT_EVENT, value)
            tell_regions(self._context.forward, self._regions, partition, value)
        else:
            self._context.forward(Topic.FINDINGS, partition, value["finding_id"], RecordType.FINDING, value)

    def _policy(self, place: Row, now: int) -> tuple[str, Reconciliation]:
        policies: Policies = self._context.policies_at(now)
        service = policies.service(place["service"])
        return reconciliation_for({**place, "team": service.team, "tier": service.tier}, policies)

    def _place(self, partition: int, place: dict[str, str]) -> Row:
        row: Row | None = self._places.get(row_key(partition, _place_key(place)))
        return row if row is not None else place_state.new_place(place) | {"outbox": [], "next": None, "last": 0}

    def _put(self, partition: int, row: Row, at: int) -> None:
        """Write a place's row: it is judged at the next tick."""
        key = row_key(partition, _place_key(row["place"]))
        if at - row["last"] < DAY and row["next"] == 0 and row is self._places.get(key):
            return  # of many instances that start together, one writes
        row = row | {"next": 0, "last": max(row["last"], at)}
        self._places[key] = row
        self._due.put(partition, key, row)
        self._expiry.put(partition, key, row)

    def _index(self, partition: int) -> dict[str, set[str]]:
        if partition not in self._by_place:
            found: dict[str, set[str]] = {}
            for name, row in rows_of(self._instances, partition):
                found.setdefault(_place_key(row["place"]), set()).add(name)
            self._by_place[partition] = found
        return self._by_place[partition]


def _place_key(place: dict[str, str]) -> str:
    return joined(*(place[name] for name in lifecycle.PLACE))


def make(settings: Settings) -> SafeApp:
    """The reconciliation app."""
    return over_trail("reconciliation", settings, Reconcile)
