"""An archive with a log for tests: a store in memory that can kill its user, segments in it, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.archive.log.entries import segment_entries
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import numbered
from deploytrail_sinks.archive.log.notes import KeyKind, Signer, new_signer
from deploytrail_sinks.archive.log.plan import read_plan
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.segment import Record, read_segment
from deploytrail_sinks.archive.store import ObjectExists, ObjectStore, Version

from support.values import NOON, SECOND, event

ORIGIN = "example.com/archive"
NOW = NOON // SECOND
TOPIC = "deploytrail.events"
ENVIRONMENTS = ("production", "staging")


class Killed(BaseException):
    """What SIGKILL is to a process."""


@dataclass
class MemoryStore:
    """A store in memory; the contract is the folder's. `before` and `behind` are called around each write."""

    objects: dict[str, bytes] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _: None
    behind: Callable[[str], None] = lambda _: None

    def create(self, name: str, data: bytes, retain_until: str) -> str:
        self.before(name)
        if self.objects.get(name, data) != data:
            raise ObjectExists(name)
        self.objects[name] = data
        self.behind(name)
        return ""

    def settle(self, name: str) -> None:
        return

    def versions(self, name: str) -> tuple[Version, ...]:
        return (Version("", len(self.objects[name])),) if name in self.objects else ()

    def replace(self, name: str, data: bytes) -> None:
        self.before(name)
        self.objects[name] = data
        self.behind(name)

    def read(self, name: str, version: str = "") -> bytes:
        return self.objects[name]

    def newest(self, name: str) -> bytes:
        return self.objects[name]

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(name for name in self.objects if name.startswith(f"{prefix}/" if prefix else "")))

    def folders(self, prefix: str) -> tuple[str, ...]:
        skip = len(f"{prefix}/") if prefix else 0
        below = (name[skip:].split("/") for name in self.list(prefix))
        return tuple(sorted({(f"{prefix}/" if prefix else "") + parts[0] for parts in below if len(parts) > 1}))

    def retain_until(self, name: str) -> str | None:
        return "2043-01-01T00:00:00Z" if name in self.objects else None


@cache
def value(offset: int) -> bytes:
    """The bytes of an event: one deployment has five neighbouring offsets."""
    return encode(
        RecordType.DEPLOYMENT_EVENT,
        event(
            "progressed",
            NOON + offset * SECOND,
            deployment_id=f"shop-{offset // 5}",
            environment=ENVIRONMENTS[offset // 5 % 2],
        ),
    )


def record(offset: int) -> Record:
    """A record as Kafka has it."""
    return Record(offset, NOON // 1000 + offset, 1, b"k", value(offset), (("h", b"1"), ("h", None)))


def fill(store: ObjectStore, offsets: range, partition: int = 1, every: int = 10, topic: str = TOPIC) -> None:
    """Archive records, a segment of each class every few of them."""
    archive = PartitionArchive(store, topic, partition, frozenset())
    archive.resume(offsets.start)
    for offset in offsets:
        archive.add(record(offset))
        if offset % every == every - 1:
            archive.close_segments()
    archive.close_segments()


def key(name: str = ORIGIN, kind: KeyKind = KeyKind.ED25519) -> Signer:
    """A fresh key."""
    return new_signer(name, kind)


def expected_leaves(store: ObjectStore) -> list[bytes]:
    """The leaf hashes of the log, from plans and segments alone."""
    leaves: list[bytes] = []
    while True:
        try:
            plan = read_plan(store.read(numbered("batches", len(leaves))))
        except KeyError:
            return leaves
        for planned in plan.segments:
            segment = read_segment(store.read(planned.name))
            leaves.extend(leaf_hash(entry) for entry in segment_entries(segment, planned.sha256))
