"""Whether one checkpoint's log is the beginning of another's: `deploytrail archive consistency A B`."""

from __future__ import annotations

from deploytrail_sinks.archive.log.checkpoint import Checkpoint
from deploytrail_sinks.archive.log.merkle import Proof, ProofError, check_consistency, consistency_proof
from deploytrail_sinks.archive.log.tiles import Read, Tree


def consistent(read: Read, one: Checkpoint, other: Checkpoint) -> Proof:
    """The proof between two checkpoints in either order, checked; ProofError, TileError."""
    old, new = sorted((one, other), key=lambda checkpoint: checkpoint.size)
    if old.origin != new.origin:
        raise ProofError(f"they are of two logs, {old.origin} and {new.origin}")
    proof = consistency_proof(old.size, new.size, Tree(read, new.size).node)
    check_consistency(old.size, new.size, proof, old.root, new.root)
    return proof
