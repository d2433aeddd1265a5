"""An archive with a log for tests: a store in memory that can kill its user, segments in it, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.checkpoint import Checkpoint
from deploytrail_sinks.archive.log.entries import object_entry, segment_entries
from deploytrail_sinks.archive.log.merkle import leaf_hash
from deploytrail_sinks.archive.log.names import numbered
from deploytrail_sinks.archive.log.notes import KeyKind, Note, Signer, new_signer
from deploytrail_sinks.archive.log.plan import read_plan
from deploytrail_sinks.archive.log.publisher import Publisher
from deploytrail_sinks.archive.log.report import LogReport
from deploytrail_sinks.archive.log.sequencer import Sequencer
from deploytrail_sinks.archive.log.signer import CheckpointSigner
from deploytrail_sinks.archive.log.trust import Trust, read_trust
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.segment import Record, is_segment, read_segment
from deploytrail_sinks.archive.store import USUAL, ObjectExists, ObjectStore, Terms, Version
from deploytrail_sinks.archive.verify import Report

from support.values import NOON, SECOND, event

ORIGIN = "example.com/archive"
NOW = NOON // SECOND
TOPIC = "deploytrail.events"
LOG_KEY, SEQUENCER_KEY = new_signer(ORIGIN, KeyKind.ED25519), new_signer("example.com/sequencer", KeyKind.ED25519)
ENVIRONMENTS = ("production", "staging")


class Killed(BaseException):
    """What SIGKILL is to a process."""


@dataclass
class MemoryStore:
    """A store in memory; the contract is the folder's. `before` and `behind` are called around each write."""

    objects: dict[str, bytes] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _: None
    behind: Callable[[str], None] = lambda _: None

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
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


@dataclass
class Published:
    """A log with everything that works on it."""

    store: ObjectStore
    trust_text: str
    sequencer: Sequencer = field(init=False)
    signer: CheckpointSigner = field(init=False)
    publisher: Publisher = field(init=False)

    @property
    def trust(self) -> Trust:
        return read_trust(self.trust_text)

    def publish(self) -> Note:
        """Enter what is new, sign it and publish it."""
        while self.sequencer.step():
            pass
        note = self.signer.sign_next() or self.signer.last
        assert note is not None
        done = self.publisher.publish(note)
        assert done is not None
        return done

    def check(self, since: Checkpoint | None = None, **more: Any) -> tuple[Report, LogReport | None]:
        """What `archive verify --trust` finds. `more`: of what it is asked."""
        return verify_archive(self.store, Asked(self.trust, self.trust.sequencers, since, **more))


def expected_leaves(store: ObjectStore) -> list[bytes]:
    """The leaf hashes of the log, from plans and segments alone."""
    leaves: list[bytes] = []
    while True:
        try:
            plan = read_plan(store.read(numbered("batches", len(leaves))))
        except KeyError:
            return leaves
        for planned in plan.segments:
            if not is_segment(planned.name):
                leaves.append(leaf_hash(object_entry(planned.name, planned.sha256)))
                continue
            segment = read_segment(store.read(planned.name))
            leaves.extend(leaf_hash(entry) for entry in segment_entries(segment, planned.sha256))


def published(folder: Path, store: ObjectStore, trust_text: str = "", **of_publisher: Any) -> Published:
    """Enter everything that is archived into the log, and publish a checkpoint of it."""
    log = Published(store, trust_text or f"log {LOG_KEY.verifier}\nquorum none\n#sequencer {SEQUENCER_KEY.verifier}\n")
    log.sequencer = Sequencer(store, ORIGIN, SEQUENCER_KEY, lambda: NOW)
    log.signer = CheckpointSigner(store, ORIGIN, (LOG_KEY,), (SEQUENCER_KEY.verifier,), folder, lambda: NOW)
    log.publisher = Publisher(store, log.trust, lambda: NOW, **of_publisher)
    log.publish()
    return log
