"""What may go from the archive, and how it goes: a receipt first, then the objects, the oldest first.

The receipt is an act (see `acts.py`), so it is chained, verified and entered into the log. The segments that follow
what went stay provable: their chain begins behind the last one of a receipt, and the log's entries stay, commitments
whose salts are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from deploytrail_schemas.errors import RetryLater

from deploytrail_sinks.archive.acts import FOLDER, TOPIC, read_acts, record_act
from deploytrail_sinks.archive.holds import Hold, active_on, holds_of
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT, PREFIX, is_of_log
from deploytrail_sinks.archive.log.notes import NoteError
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.receipts import PURGED, Gone, judge
from deploytrail_sinks.archive.segment import SegmentError, digest, read_segment
from deploytrail_sinks.archive.store import ObjectKept, ObjectStore, is_later, may_go


@dataclass(frozen=True, slots=True)
class Stays:
    """A segment that ends its sequence's purge, and why."""

    name: str
    why: str


def plan(store: ObjectStore, prefix: str, now: datetime, holds: Iterable[Hold]) -> Iterator[Gone | Stays]:
    """What goes below a prefix, sequence by sequence, and what ends it there.

    Only the oldest segments of a sequence go, without a hole, and never its newest: writers go on behind it.
    """
    return _plan(store, prefix, now, list(holds), _covered(store))


def _plan(
    store: ObjectStore, prefix: str, now: datetime, holds: list[Hold], covered: set[str] | None
) -> Iterator[Gone | Stays]:
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


def _covered(store: ObjectStore) -> set[str] | None:
    """The segments that the newest checkpoint covers; None where there is no log. LogConflict where a plan is damaged,
    SegmentError where the log has an act that is gone.

    What goes before it is in the log can never be shown to have been there.
    """
    if not store.folders(PREFIX):
        return None
    found: set[str] = set()
    try:
        covers = open_checkpoint(store.newest(CHECKPOINT))[0].size
    except (KeyError, NoteError):
        return found
    size = 0
    while size < covers and (batch := plan_at(store, size)):
        found.update(planned.name for planned in batch.segments)
        size = batch.end
    if gone := {name for name in found if name.startswith(f"{FOLDER}/")} - set(store.list(FOLDER)):
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
    return Gone(name, digest(data), version, *covers, until), promised


def purge(
    store: ObjectStore, prefix: str, reason: str, signer: Signer, principals: Principals, now: datetime
) -> tuple[list[Gone], list[Stays]]:
    """Purge what may go. A purge that was broken off is brought to its end first. SegmentError for a damaged one.

    Raises ObjectKept where the store keeps an object that ours says may go.
    """
    covered = _covered(store)  # and no act is gone, which may be a hold
    acts = list(read_acts(store, principals))
    holds = list(holds_of(acts).values())
    for gone in judge(acts, now).gone:
        if not active_on(gone.name, holds):
            _delete(store, gone, now)
    found = list(_plan(store, prefix, now, holds, covered))
    goes = [item for item in found if isinstance(item, Gone)]
    if goes:
        said: dict[str, Any] = {
            "prefix": prefix,
            "reason": reason,
            "segments": [asdict(item) | {k: str(getattr(item, k)) for k in _OFFSETS} for item in goes],
        }
        record_act(store, PURGED, said, signer, now)
    for item in goes:
        # A hold that was added since the plan was made still counts.
        if held := active_on(item.name, holds_of(read_acts(store, principals)).values()):
            raise ObjectKept(f"{item.name} stays: {', '.join(held)}")
        _delete(store, item, now)
    return goes, [item for item in found if isinstance(item, Stays)]


_OFFSETS = ("first_offset", "last_offset")  # 64 bits, which JSON numbers do not hold


def _delete(store: ObjectStore, gone: Gone, now: datetime) -> None:
    try:
        data = store.read(gone.name, gone.version)
    except KeyError:
        return
    if digest(data) != gone.sha256:
        raise RetryLater(f"{gone.name} is not what its receipt says; look into it before anything is purged")
    store.delete(gone.name, now)
