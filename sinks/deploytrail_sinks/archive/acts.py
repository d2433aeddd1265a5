"""What people did to the archive: holds, releases, purges. Records of a sequence of its own in the archive.

    deploytrail.archive-acts/000/production-regulated/NUMBER.avro

An act is canonical JSON, signed by whoever acts (header `signature`), with its number and the digest of the act before
it, one record a segment. So acts are chained, verified and entered into the log as every other record is, and who acts
at the same time takes the next number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploytrail_schemas.errors import RetryLater

from deploytrail_sinks.archive.log.canonical import canonical
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.retention import RetentionClass
from deploytrail_sinks.archive.segment import SegmentError, digest, folder_name, segment_name, stored_bytes
from deploytrail_sinks.archive.sequence import ArchiveConflict, Sequence
from deploytrail_sinks.archive.store import ObjectStore

TOPIC = "deploytrail.archive-acts"
FOLDER = folder_name(TOPIC, 0, RetentionClass.REGULATED)
_TIMES = 20


@dataclass(frozen=True, slots=True)
class Act:
    """One act. `verified`: whether the signature is that of a principal; None where nobody told who they are."""

    number: int
    kind: str
    by: str
    at: str
    said: dict[str, Any]
    verified: bool | None = None


def read_acts(store: ObjectStore, principals: Principals | None = None) -> Iterator[Act]:
    """Every act in order, from the first on. SegmentError where one cannot be read, is gone, or was exchanged.

    Who deletes the act of a hold must not get rid of the hold. That the last acts are gone, the log alone knows.
    """
    number, before = 0, ""
    for name in store.list(FOLDER):
        data, segment = stored_bytes(store, name)
        said = (segment.name, segment.first_offset, segment.last_offset, segment.previous_sha256)
        if said != (name, number, number, before) or [record.offset for record in segment.records] != [number]:
            expected = segment_name(TOPIC, 0, RetentionClass.REGULATED, number)
            raise SegmentError(
                f"{name} is not the act that follows those before it; expected {expected}: an act is gone or was "
                "exchanged; see what `deploytrail archive verify` says"
            )
        yield _act(segment.records[0], principals, before)
        number, before = number + 1, digest(data)


def record_act(store: ObjectStore, kind: str, said: dict[str, Any], signer: Signer, now: datetime) -> Act:
    """Record an act durably before it is done."""
    for _ in range(_TIMES):
        sequence = Sequence(store, TOPIC, 0, RetentionClass.REGULATED)
        sequence.resume()
        number = sequence.next_offset or 0
        at = now.isoformat(timespec="seconds")
        own = {"act": kind, "at": at, "by": signer.name, "follows": sequence.last_sha256, "number": number}
        value = canonical({**said, **own})
        milliseconds = int(now.timestamp() * 1000)
        record = Record(number, milliseconds, 1, kind.encode(), value, (("signature", signer.sign(value)),))
        sequence.begin(number)
        sequence.add(record)
        try:
            sequence.close_segment(number + 1, milliseconds)
        except ArchiveConflict:  # somebody else acted at the same time: his is the number
            continue
        return _act(record, None, "")
    raise RetryLater(f"{kind} could not be recorded: others act at the same time")


def _act(record: Record, principals: Principals | None, before: str) -> Act:
    said: dict[str, Any] = {}
    try:
        given = json.loads(record.value or b"")
        said = given if isinstance(given, dict) else {}
    except ValueError:
        pass
    by = str(said.get("by", ""))
    signature = dict(record.headers).get("signature") or b""
    # What it follows is signed too: an act that is copied behind others, or out of another archive, is not another act.
    verified = (
        None
        if principals is None
        else (said.get("number"), said.get("follows")) == (record.offset, before)
        and principals.signed(by, record.value or b"", signature)
    )
    return Act(record.offset, str(said.get("act", "")), by, str(said.get("at", "")), said, verified)
