"""A proof bundle: what the archive holds of a deployment, and that the log has it. `verify_proof.py` checks it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.codec import DecodeError, decode, writer_of
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.registry import WireFormat
from deploytrail_schemas.schema import versions

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.entries import content, record_entry
from deploytrail_sinks.archive.log.merkle import ProofError, check_inclusion, inclusion_proof, leaf_hash
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.notes import NoteError
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.log.tiles import TileError, Tree
from deploytrail_sinks.archive.segment import Record, Segment, SegmentError, is_segment, read_segment
from deploytrail_sinks.archive.store import ObjectStore

FORMAT = "deploytrail-proof/1"


class NothingToProve(DeploytrailError):
    """The log does not cover what should be proven."""


class CannotProve(DeploytrailError):
    """Archive and log do not fit: `archive verify` says where."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record of a deployment, and the index of its entry."""

    segment: Segment
    record: Record
    index: int


def prove(store: ObjectStore, deployment: str, wire: WireFormat) -> tuple[dict[str, Any], int]:
    """The bundle, and how many records the newest checkpoint does not cover yet.

    NothingToProve, CannotProve, RetryLater.
    """
    data, checkpoint = newest_checkpoint(store)
    tree = Tree(store.read, checkpoint.size)
    rows: list[dict[str, Any]] = []
    schemas: dict[str, str] = {}
    later = 0
    for found in _found(store, deployment, wire):
        if found.index >= checkpoint.size:
            later += 1
            continue
        rows.append(_row(found, tree, checkpoint))
        prefix, schema = _schema(found.record.value or b"", wire)
        schemas[prefix] = schema
    if not rows:
        waiting = f"{later} {'waits' if later == 1 else 'wait'} for the next one"
        raise NothingToProve(f"no record of deployment {deployment!r} is covered by the newest checkpoint; {waiting}")
    bundle = {
        "checkpoint": data.decode(),
        "deployment": deployment,
        "format": FORMAT,
        "records": rows,
        "schemas": schemas,
    }
    return bundle, later


def newest_checkpoint(store: ObjectStore) -> tuple[bytes, Checkpoint]:
    """Bytes and content of the published checkpoint; NothingToProve, CannotProve."""
    try:
        data = store.newest(CHECKPOINT)
        return data, open_checkpoint(data)[0]
    except KeyError:
        raise NothingToProve(
            f"{CHECKPOINT} is not there: the log has published nothing yet; "
            "`deploytrail archive sequence` fills it and `deploytrail archive sign` publishes it, in a minute or two"
        ) from None
    except NoteError as error:
        raise CannotProve(f"{CHECKPOINT} {error}") from error


def _found(store: ObjectStore, deployment: str, wire: WireFormat) -> Iterator[Found]:
    size = 0
    needle = deployment.encode()
    while plan := plan_at(store, size):
        for first, planned in plan.first_entries():
            if not is_segment(planned.name):
                continue
            try:
                segment = read_segment(store.read(planned.name))
            except KeyError:
                continue  # purged: then it has nothing to show
            except SegmentError as error:
                raise CannotProve(f"{planned.name} {error}") from error
            begin = first + 1 + len(segment.gaps)
            for at, record in enumerate(segment.records):
                # Few records of an archive are of one deployment: look for its name before decoding.
                if record.value and needle in record.value and _is_of(record.value, deployment, wire):
                    yield Found(segment, record, begin + at)
        size = plan.end


def _is_of(value: bytes, deployment: str, wire: WireFormat) -> bool:
    try:
        _, fields = decode(wire.plain(value))
    except DecodeError:
        return False
    except RetryLater:
        raise
    return fields.get("deployment_id") == deployment


def _row(found: Found, tree: Tree, checkpoint: Checkpoint) -> dict[str, Any]:
    topic, partition, record = found.segment.topic, found.segment.partition, found.record
    leaf = leaf_hash(record_entry(topic, partition, record))
    try:
        proof = inclusion_proof(found.index, checkpoint.size, tree.node)
        check_inclusion(leaf, found.index, checkpoint.size, proof, checkpoint.root)
    except (ProofError, TileError) as error:
        raise CannotProve(f"{found.segment.name}, offset {record.offset}: {error}; see `archive verify`") from error
    return {
        "index": found.index,
        "proof": [b64encode(step).decode() for step in proof],
        "record": content(topic, partition, record),
        "salt": b64encode(record.salt).decode(),
    }


def _schema(value: bytes, wire: WireFormat) -> tuple[str, str]:
    """What a value begins with, and its writer's schema in canonical form."""
    from fastavro.schema import to_parsing_canonical_form

    writer = writer_of(wire.plain(value))
    prefix = value[:10] if value[:2] == b"\xc3\x01" else value[:5]
    return prefix.hex(), to_parsing_canonical_form(versions(writer.kind)[writer.version])


def tlog_proof(bundle: dict[str, Any], row: int) -> str:
    """One record's proof in the format of https://c2sp.org/tlog-proof, for others' tools."""
    of = bundle["records"][row]
    lines = ["c2sp.org/tlog-proof@v1", f"index {of['index']}", *of["proof"], "", bundle["checkpoint"]]
    return "\n".join(lines)


def write_bundle(bundle: dict[str, Any]) -> str:
    """The text of a bundle file."""
    return json.dumps(bundle, ensure_ascii=False, indent=1) + "\n"
