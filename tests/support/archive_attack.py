"""An archive of a thousand events with all that an archive has, and a verifier quick enough to try every byte of it.

The verifier is the product's, and looks at the whole archive each time. What is remembered between two runs are
the answers of pure functions, by the bytes they were asked about: what a flip changed is read and hashed anew.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_sinks.archive import segment, verify
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.holds import ADDED
from deploytrail_sinks.archive.log import archive_check, bundles, check, notes, sequencer, stamp_check, tiles
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.notes import KeyKind, Signature, Signer
from deploytrail_sinks.archive.log.trust import Trust
from deploytrail_sinks.archive.principals import Signer as Person
from deploytrail_sinks.archive.verify import Flaw

from support.archive_log import LOG_KEY, NOW, SEQUENCER_KEY, MemoryStore, fill, key, published

Attacks = Iterable[tuple[str, Callable[[], dict[str, bytes | None]]]]
RECORDS = "deploytrail.records"
_PURE = (
    *((module, "read_segment") for module in (segment, verify)),
    (bundles, "leaf_hash"),
    (check, "open_checkpoint"),
    (verify, "digest"),
    (sequencer, "read_plan"),
    (tiles, "split_bundle"),
)


@dataclass(frozen=True)
class Target:
    """An archive that is attacked: its objects, and whom its owner trusts."""

    objects: dict[str, bytes]
    trust: Trust
    stamp_roots: tuple[x509.Certificate, ...] = ()

    def flaws(self, objects: dict[str, bytes]) -> list[Flaw]:
        """What `archive verify --trust` finds in these objects instead."""
        asked = Asked(self.trust, self.trust.sequencers, stamp_roots=list(self.stamp_roots))
        return verify_archive(MemoryStore(objects), asked)[0].flaws

    def named(self, objects: dict[str, bytes]) -> set[str]:
        """The objects that have a flaw."""
        return {flaw.name for flaw in self.flaws(objects)}


def a_thousand_events(folder: Path, stamp_url: str = "", stamp_roots: tuple[x509.Certificate, ...] = ()) -> Target:
    """Events and records in five partitions, two classes, acts; four checkpoints, cosigned by one witness, stamped."""
    store, own = MemoryStore(), key("w.example.com", KeyKind.COSIGNER_ED25519)
    words = f"log {LOG_KEY.verifier}\n#sequencer {SEQUENCER_KEY.verifier}\nwitness w {own.verifier}\nquorum w\n"
    fill(store, range(300), partition=0, every=100)
    fill(store, range(206), partition=1, every=100)
    with _cosigning(own):
        log = published(folder, store, words, stamp_url=stamp_url, stamp_every=0.0)
        fill(store, range(244), partition=2, every=100)
        ada = Person("ada", Ed25519PrivateKey.generate())
        record_act(store, ADDED, {"prefix": "deploytrail.events", "reason": "case 7"}, ada, datetime.now(UTC))
        log.publish()
        fill(store, range(100, 240), partition=7, every=100, topic=RECORDS)
        fill(store, range(105), partition=8, every=100, topic=RECORDS)
        log.publish()
        fill(store, range(300, 305), partition=0, every=100)
        log.publish()
    return Target(dict(store.objects), log.trust, stamp_roots)


def misses(target: Target, attacks: Attacks, workers: int = 1) -> tuple[int, list[str]]:
    """How many attacks there were, and which of them were not found, or not by the name that they begin with.

    An attack: `NAME what was done` (NAME|NAME: one of them is to be named), and what makes the objects that
    differ (of objects that are gone: None).
    """
    if workers == 1:
        return _misses(target, attacks, 0, 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _take_over, (target, attacks)) as pool:
        found = list(pool.map(_share, range(workers), [workers] * workers))
    return sum(count for count, _ in found), [miss for _, missed in found for miss in missed]


_taken: list[Any] = []  # what the workers of a pool share, by fork


def _take_over(target: Target, attacks: Attacks) -> None:
    _taken[:] = target, attacks


def _share(number: int, of: int) -> tuple[int, list[str]]:
    return _misses(*_taken, number, of)


def _misses(target: Target, attacks: Attacks, number: int, of: int) -> tuple[int, list[str]]:
    count, missed = 0, []
    with remembering():
        for said, changed in itertools.islice(attacks, number, None, of):
            objects = {name: data for name, data in (target.objects | changed()).items() if data is not None}
            count += 1
            try:
                found = target.named(objects)
            except Exception as error:
                missed.append(f"{said}: the verifier died of {error!r}")
                continue
            if not found.intersection(said.partition(" ")[0].split("|")):
                missed.append(f"{said}: {sorted(found)}")
    return count, missed


@contextmanager
def _cosigning(own: Signer) -> Iterator[None]:
    """A witness without the wire between: it cosigns what it is asked to."""

    def cosign(_: Any, note: notes.Note) -> notes.Note:
        return note.also([own.sign(note.text, NOW)])

    with patch("deploytrail_sinks.archive.log.cosigning.Cosigners.cosign", cosign):
        yield


@contextmanager
def remembering() -> Iterator[None]:
    """Let pure functions of the verifier remember what they answered."""
    whole = notes.Verifier._check

    @lru_cache(maxsize=1024)
    def judged(verifier: notes.Verifier, text: str, signature: Signature) -> str:
        try:
            whole(verifier, text, signature)
        except notes.NoteError as error:
            return str(error)
        return ""

    def checked(verifier: notes.Verifier, text: str, signature: Signature) -> None:
        if said := judged(verifier, text, signature):
            raise notes.NoteError(said)

    with ExitStack() as stack:
        stack.enter_context(patch.object(notes.Verifier, "_check", checked))
        for module, name in _PURE:
            stack.enter_context(
                patch.object(module, name, lru_cache(4096 if name == "leaf_hash" else 512)(getattr(module, name)))
            )
        for module in (bundles, tiles):
            stack.enter_context(patch.object(module, "root_of", _of_tuple(module.root_of)))
        stack.enter_context(patch.object(tiles, "join_bundle", _of_tuple(tiles.join_bundle)))
        for module, name, told_by in ((archive_check, "seen_of", 1), (stamp_check, "check_stamp", 2)):
            # Told by the digest; by stamp and data.
            stack.enter_context(patch.object(module, name, _remembered(getattr(module, name), told_by)))
        yield


def _of_tuple(function: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    kept = lru_cache(1024)(function)
    return lambda hashes: kept(tuple(hashes))


def _remembered(function: Callable[..., Any], told_by: int) -> Callable[..., Any]:
    """The same function, which computes an answer once for the same first arguments. Errors are not kept."""
    answers: dict[tuple[Any, ...], Any] = {}

    def remembering(*given: Any) -> Any:
        asked = given[:told_by]
        if len(answers) > 1000:
            answers.clear()
        if asked not in answers:
            answers[asked] = function(*given)
        return answers[asked]

    return remembering
