"""Is the report's population the one of every other store? Sets of deployments, compared one by one.

Each source says which revisions of deployments it holds as of an instant; from these follows which deployments began
in the period. Equal sets have equal digests; what one lacks is named.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType

from deploytrail_sinks.reports.period import Period

Key = tuple[str, str]  # region, deployment
Place = tuple[int, int]  # partition and offset of the records topic
_BEGAN = ("started_at", "finished_at", "queued_at", "registered_at", "last_event_at")


@dataclass(frozen=True, slots=True)
class Population:
    """What one source holds. `deployments`: to the revision that counts. `ranges`: partition → first and last offset
    of the records topic that were read. `begins`: partition → the first offset that the source still has, where older
    ones have aged out of it. `note`: why it says nothing."""

    source: str
    deployments: Mapping[Key, int]
    ranges: Mapping[int, tuple[int, int]]
    note: str = ""
    begins: Mapping[int, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted lines `region TAB deployment TAB revision`."""
        lines = (f"{region}\t{name}\t{revision}\n" for (region, name), revision in sorted(self.deployments.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def row(self) -> tuple[str, ...]:
        """Source, count, digest, ranges."""
        if self.note:
            return self.source, "–", "–", self.note
        ranges = ", ".join(f"{p}: {first}–{last}" for p, (first, last) in sorted(self.ranges.items()))
        return self.source, str(len(self.deployments)), self.digest, ranges


class Collector:
    """Gathers a population from encoded records, in whatever order they come."""

    def __init__(self, source: str, period: Period, environments: Iterable[str], as_of_ms: int) -> None:
        self._source, self._period, self._environments = source, period, frozenset(environments)
        self._as_of = as_of_ms
        self._newest: dict[Key, tuple[int, bool]] = {}
        self._ranges: dict[int, tuple[int, int]] = {}

    def add(self, partition: int, offset: int, timestamp: int, value: bytes | None) -> None:
        """One message of the records topic. `timestamp`: Kafka's, in ms."""
        if timestamp > self._as_of or value is None:
            return
        first, last = self._ranges.get(partition, (offset, offset))
        self._ranges[partition] = (min(first, offset), max(last, offset))
        try:
            kind, record = decode(value)
        except DecodeError:
            return
        if kind is not RecordType.RECORD:
            return
        key = (record["region"], record["deployment_id"])
        if key not in self._newest or record["revision"] >= self._newest[key][0]:
            self._newest[key] = (record["revision"], self._counts(record))

    def population(self) -> Population:
        """What was gathered."""
        counted = {key: revision for key, (revision, counts) in self._newest.items() if counts}
        return Population(self._source, counted, self._ranges)

    def _counts(self, record: Mapping[str, Any]) -> bool:
        began = next((record[name] for name in _BEGAN if record[name] is not None), None)
        inside = began is not None and self._period.start <= began < self._period.end
        return inside and record["environment"] in self._environments and not record.get("merged_into")


def differences(
    report: Population, others: Iterable[Population], places: Mapping[Key, Place] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Source, deployment and what differs, for every deployment on which a source and the report disagree.

    `places`: where the report's revisions stand. What has aged out of a source cannot be compared with it.
    """
    for other in others:
        if other.note:
            continue
        gone = aged_out(other, places or {})
        for region, name in sorted((report.deployments.keys() | other.deployments.keys()) - gone):
            mine, theirs = report.deployments.get((region, name)), other.deployments.get((region, name))
            if mine != theirs:
                what = f"the report {_held(mine)}, {other.source} {_held(theirs)}"
                yield other.source, f"{region}/{name}", what


def aged_out(other: Population, places: Mapping[Key, Place]) -> set[Key]:
    """The report's deployments whose revision lies before what a source still has."""
    return {key for key, (partition, offset) in places.items() if offset < other.begins.get(partition, 0)}


def comparable(other: Population, places: Mapping[Key, Place]) -> Population:
    """A source as it can be compared: one that has aged whole out of the period says nothing about it."""
    if other.note or not places or len(aged_out(other, places)) < len(places) or other.deployments:
        return other
    return replace(other, note="holds nothing of the period any more: it has aged out")


def _held(revision: int | None) -> str:
    return "does not hold it" if revision is None else f"has revision {revision}"


@dataclass(frozen=True, slots=True)
class Known:
    """A deployment as somebody else counts it; what is not said is empty."""

    line: int
    deployment_id: str
    service: str
    region: str
    artifact_digest: str
    commit_sha: str


def independent(path: Path) -> list[Known]:
    """A CSV file with the columns `deployment_id`, or `service` with `artifact_digest` or `commit_sha`, and `region`
    where wanted; ConfigurationError for another."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            found = [
                Known(line, *((row.get(name) or "").strip() for name in Known.__slots__[1:]))
                for line, row in enumerate(reader, 2)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read as CSV: {error}") from error
    if "deployment_id" not in names and not ("service" in names and names & {"artifact_digest", "commit_sha"}):
        raise ConfigurationError(
            f"{path}: has the columns {', '.join(sorted(names)) or 'none'}; expected deployment_id, or service with "
            "artifact_digest or commit_sha"
        )
    return found


class Matcher:
    """Finds deployments of the list in somebody else's; each counts once."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._open: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
        for one in known:
            self._open[("id", one.deployment_id) if one.deployment_id else ("service", one.service)].append(one)
        self.count = sum(map(len, self._open.values()))

    def take(self, deployment: Mapping[str, Any]) -> bool:
        """A deployment of the list; whether the other one has it, too."""
        for key in (("id", deployment["deployment_id"]), ("service", deployment["service"])):
            for known in self._open.get(key, ()):
                if _fits(known, deployment):
                    self._open[key].remove(known)
                    return True
        return False

    @property
    def missing(self) -> list[Known]:
        """What the list does not have, in the order of the file."""
        return sorted((known for left in self._open.values() for known in left), key=lambda known: known.line)


def _fits(known: Known, deployment: Mapping[str, Any]) -> bool:
    if known.deployment_id:
        return known.deployment_id == str(deployment["deployment_id"])
    bytes_of = (known.artifact_digest, known.commit_sha)
    return (
        known.service == deployment["service"]
        and known.region in ("", deployment["region"])
        and any(bytes_of)
        and known.artifact_digest in ("", deployment["artifact_digest"])
        and (not known.commit_sha or str(deployment["commit_sha"]).startswith(known.commit_sha))
    )
