"""What an instance ran, and from when to when: made of what was observed of it, in any order, any number of times.

In: observations `running` and `removed` of one instance. Out: sightings, one for each artefact that it began to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules.artefacts import Artefact, artefact_of

MINUTE = 60_000_000
# So much of an instance is remembered, the newest.
MOST_SEEN = 16
# Containers of one pod start within this; what starts later in the same instance took the place of what ran.
_TOGETHER = 10 * MINUTE
Seen = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """An instance began to run something at `at` ± `width` (µs), and ran it until `until` (None: it still does).

    `artefacts`: several where nobody says which of its containers is the service. `deployment`: the id that the
    instance bears, as an annotation or as its platform's word. `heard`: partition time when this was known.
    """

    id: str
    cluster: str
    instance: str
    artefacts: tuple[Artefact, ...]
    at: int
    width: int
    heard: int
    until: int | None = None
    deployment: str = ""
    source: str = ""

    @property
    def known(self) -> int:
        """When it could be known at the earliest."""
        return max(self.at + self.width, self.heard)

    @property
    def artefact(self) -> Artefact:
        """The one that stands for the instance."""
        return self.artefacts[0]


def seen_in(observation: Mapping[str, Any], heard: int) -> Seen:
    """What is kept of an observation that something runs or is removed."""
    tags = observation["tags"]
    artefact = artefact_of(observation)
    # The image of the pod's first container is named beside each of its containers.
    tag, _, digest = tags.get("image", "").partition("@")
    is_main = bool(artefact.version and tag.endswith(f":{artefact.version}")) or artefact.digest == digest != ""
    return {
        "id": observation["observation_id"],
        "removed": observation["observation_type"] == "removed",
        "at": observation["corrected_at"],
        "width": (observation["uncertainty_ms"] or 0) * 1000,
        "heard": heard,
        "artefact": [artefact.digest, artefact.version, artefact.commit],
        "main": is_main,
        "deployment": tags.get("deployment_id", "") or tags.get("deployment", ""),
        "source": observation["source"],
    }


def with_seen(kept: Iterable[Seen], seen: Seen) -> list[Seen]:
    """What is kept of an instance with one observation more: in order, each once, as it was known first."""
    by_id = {one["id"] + str(one["removed"]): one for one in kept}
    by_id.setdefault(seen["id"] + str(seen["removed"]), seen)
    found = sorted(by_id.values(), key=_order)
    while len(found) > MOST_SEEN:
        del found[_least_worth(found)]
    return found


def _least_worth(found: list[Seen]) -> int:
    """Which of what was seen tells least: a restart of what ran already, else the oldest."""
    running: list[Any] = []
    for index, one in enumerate(found[:-1]):
        if one["removed"]:
            running = []
        elif one["artefact"] in running:
            return index
        else:
            running.append(one["artefact"])
    return 0


def sightings_of(cluster: str, instance: str, kept: Iterable[Seen]) -> list[Sighting]:
    """What an instance ran, one after the other."""
    found: list[Sighting] = []
    group: list[Seen] = []
    for one in sorted(kept, key=_order):
        if one["removed"]:
            found += _sighting(cluster, instance, group, one["at"])
            group = []
        elif not any(one["artefact"]):
            continue  # nobody says what it runs
        elif not any(one["artefact"] == other["artefact"] for other in group):
            if group and (not instance or one["at"] - group[0]["at"] > _TOGETHER):
                found += _sighting(cluster, instance, group, one["at"])
                group = []
            group.append(one)
    return found + _sighting(cluster, instance, group, None)


def to_row(sighting: Sighting) -> dict[str, Any]:
    """Plain JSON."""
    named = ("id", "cluster", "instance", "at", "width", "heard", "until", "deployment", "source")
    artefacts = [[one.digest, one.version, one.commit] for one in sighting.artefacts]
    return {name: getattr(sighting, name) for name in named} | {"artefacts": artefacts}


def from_row(row: Mapping[str, Any]) -> Sighting:
    """The sighting of `to_row`."""
    return Sighting(**{**row, "artefacts": tuple(Artefact(*one) for one in row["artefacts"])})


def _order(one: Seen) -> tuple[Any, ...]:
    # Of what happened at one time, an instance goes before it comes.
    return (one["at"], not one["removed"], one["id"])


def _sighting(cluster: str, instance: str, group: list[Seen], until: int | None) -> list[Sighting]:
    if not group:
        return []
    chosen = [one for one in group if one["main"]] or group
    first = chosen[0]
    return [
        Sighting(
            id=first["id"],
            cluster=cluster,
            instance=instance,
            artefacts=tuple(Artefact(*one["artefact"]) for one in chosen),
            at=first["at"],
            width=first["width"],
            heard=first["heard"],
            until=until,
            deployment=next((one["deployment"] for one in chosen if one["deployment"]), ""),
            source=first["source"],
        )
    ]
