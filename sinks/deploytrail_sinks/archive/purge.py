"""What may go from the archive, and how it goes: a receipt first, then the objects, the oldest first.

The receipt is an act (see `acts.py`), so it is chained, verified and entered into the log. The segments that follow
what went stay provable: their chain begins behind the last one of a receipt, and the log's hashes stay; of its entries,
commitments whose salts are gone, see `pruning.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from deploytrail_schemas.errors import RetryLater

from deploytrail_sinks.archive.acts import FOLDER, TOPIC, Act, read_acts, record_act
from deploytrail_sinks.archive.holds import Hold, active_on, holds_of
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT, PREFIX, is_of_log
from deploytrail_sinks.archive.log.notes import NoteError
from deploytrail_sinks.archive.log.objects import LogConflict
from deploytrail_sinks.archive.log.plan import Plan
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.log.tiles import TileError
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.pruning import Covered, Prune, finish, plan_of_log, prune
from deploytrail_sinks.archive.receipts import MINIMUM, PURGED, Gone, judge
from deploytrail_sinks.archive.segment import SegmentError, digest, gaps_text, read_segment
from deploytrail_sinks.archive.store import ObjectKept, ObjectStore, is_later, may_go


@dataclass(frozen=True, slots=True)
class Stays:
    """A segment that ends its sequence's purge, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a purge lets go, what ends it in each sequence, and what of the log's entries goes."""

    goes: list[Gone]
    stays: list[Stays]
    of_log: Prune


def _plan(
    store: ObjectStore, prefix: str, now: datetime, holds: list[Hold], covered: set[str] | None
) -> Iterator[Gone | Stays]:
    """What goes below a prefix, sequence by sequence, and what ends it there.

    Only the oldest segments of a sequence go, without a hole, and never its newest: writers go on behind it.
    """
    sequences = dict[str, list[str]]()
    for name in store.list(prefix):
        if not is_of_log(name) and not name.startswith(f"{TOPIC}/"):
            sequences.setdefault(name.rpartition("/")[0], []).append(name)
    for names in sequences.values():
        for name in names:
            why = "it is the newest of its sequence" if name == names[-1] else ""
            why = why or ", ".join(active_on(name, holds))
            if covered is not None and name not in covered:
                why = why or "no published checkpoint of the log covers it yet"
            why = why or may_go(store.retain_until(name), store.is_held(name), now)
            if why:
                yield Stays(name, why)
                break
            gone, promised = _gone(store, name)
            # A date beside an object can be changed by who may write there; what it was created with cannot.
            if promised and (why := may_go(promised, False, now)):
                yield Stays(name, why)
                break
            yield gone


def _covered(store: ObjectStore) -> Covered | None:
    """What the newest checkpoint covers; None where there is no log. LogConflict where a plan is damaged,
    SegmentError where the log has an act that is gone.

    What goes before it is in the log can never be shown to have been there.
    """
    if not store.folders(PREFIX):
        return None
    try:
        newest = open_checkpoint(store.newest(CHECKPOINT))[0]
    except (KeyError, NoteError):
        return Covered()
    size, plans = 0, list[Plan]()
    while size < newest.size and (batch := plan_at(store, size)):
        plans.append(batch)
        size = batch.end
    found = Covered(newest.size, newest.root, plans)
    if gone := {name for name in found.segments if name.startswith(f"{FOLDER}/")} - set(store.list(FOLDER)):
        raise SegmentError(f"{min(gone)} is in the log and is gone; it may be a hold, so nothing is purged")
    return found


def _gone(store: ObjectStore, name: str) -> tuple[Gone, str]:
    """What a receipt says of a segment, and until when it was created to be kept; SegmentError."""
    version = next((v.id for v in store.versions(name) if not v.is_deletion), "")
    try:
        data = store.read(name, version)
    except KeyError:
        raise SegmentError(f"{name} is listed and is no object; see what `deploytrail archive verify` says") from None
    segment = read_segment(data)
    kept, promised = store.retain_until(name) or "", segment.retain_until
    until = kept if not promised or (kept and is_later(kept, promised)) else promised
    covers = segment.first_offset, segment.last_offset, len(segment.records)
    return Gone(name, digest(data), version, *covers, until, gaps_text(segment.gaps)), promised


def look(store: ObjectStore, prefix: str, principals: Principals, now: datetime) -> Found:
    """What a purge would do. SegmentError, LogConflict where something is damaged."""
    return _look(store, prefix, now, _covered(store), list(read_acts(store, principals)))


def _look(store: ObjectStore, prefix: str, now: datetime, covered: Covered | None, acts: list[Act]) -> Found:
    holds, receipts = list(holds_of(acts).values()), judge(acts, now)
    found = list(_plan(store, prefix, now, holds, None if covered is None else covered.segments))
    goes = [item for item in found if isinstance(item, Gone)]
    going = {item.name: item for item in (*receipts.gone, *goes)}
    minimum = receipts.minimum.index
    try:
        of_log = plan_of_log(store, covered, going, holds, minimum, now) if covered else Prune(minimum)
    except TileError as error:
        raise LogConflict(f"{error}; nothing is purged until that is looked into") from error
    return Found(goes, [item for item in found if isinstance(item, Stays)], of_log)


def purge(store: ObjectStore, prefix: str, reason: str, signer: Signer, principals: Principals, now: datetime) -> Found:
    """Purge what may go. A purge that was broken off is brought to its end first. SegmentError for a damaged one.

    Raises ObjectKept where the store keeps an object that ours says may go, LogConflict for a log that is damaged.
    """
    covered = _covered(store)  # and no act is gone, which may be a hold
    acts = list(read_acts(store, principals))
    holds, receipts = list(holds_of(acts).values()), judge(acts, now)
    for gone in receipts.gone:
        if not active_on(gone.name, holds):
            _delete(store, gone, now)
    if covered:
        finish(store, covered, {item.name: item for item in receipts.gone}, holds, receipts.minimum.index, now)
    found = _look(store, prefix, now, covered, acts)
    if found.goes or found.of_log.objects:
        said: dict[str, Any] = {
            "prefix": prefix,
            "reason": reason,
            "segments": [asdict(item) | {k: str(getattr(item, k)) for k in _OFFSETS} for item in found.goes],
        }
        record_act(store, PURGED, said | ({MINIMUM: found.of_log.minimum} if found.of_log.objects else {}), signer, now)
    for item in found.goes:
        # A hold that was added since the plan was made still counts.
        if held := active_on(item.name, holds_of(read_acts(store, principals)).values()):
            raise ObjectKept(f"{item.name} stays: {', '.join(held)}")
        _delete(store, item, now)
    if found.of_log.objects:
        prune(store, found.of_log.minimum, now)
    return found


_OFFSETS = ("first_offset", "last_offset")  # 64 bits, which JSON numbers do not hold


def _delete(store: ObjectStore, gone: Gone, now: datetime) -> None:
    try:
        data = store.read(gone.name, gone.version)
    except KeyError:
        return
    if digest(data) != gone.sha256:
        raise RetryLater(f"{gone.name} is not what its receipt says; look into it before anything is purged")
    store.delete(gone.name, now)
