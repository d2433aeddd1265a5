"""Merkle trees as RFC 6962 has them: hashes, proofs, and their checks. Pure.

Proofs are tuples of 32-byte hashes. Making one needs `node(level, index)`: the hash of the complete
subtree over the leaves from `index << level` to `(index + 1) << level`, the end excluded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
Node = Callable[[int, int], bytes]
Proof = tuple[bytes, ...]


class ProofError(Exception):
    """A proof that does not show what it should."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The hash over neighbouring hashes of one level; of leaf hashes, a tree's root."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        # The last one of an odd number goes up unpaired: so the left part is always a complete tree.
        level = paired + level[len(paired) * 2 :]
    return level[0]


def subtrees(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees (level, index) that make up the leaves from `first` to `end`, the end excluded.

    `first` is a multiple of the power of two that is no less than `end - first`, as in every subtree of a tree.
    """
    while first < end:
        level = (end - first).bit_length() - 1
        yield level, first >> level
        first += 1 << level


def range_hash(first: int, end: int, node: Node) -> bytes:
    """The hash of the subtree over a range of leaves; `first` as in `subtrees`."""
    return _fold(node(level, index) for level, index in subtrees(first, end))


def _fold(parts: Iterable[bytes]) -> bytes:
    *lefts, found = parts
    for left in reversed(lefts):
        found = node_hash(left, found)
    return found


def root_at(size: int, node: Node) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return range_hash(0, size, node) if size else EMPTY_ROOT


def _split(size: int) -> int:
    """The largest power of two that is less than a size of two or more."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, node: Node) -> Proof:
    """That a leaf is in the tree of a size, from the leaf up (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    first, end = 0, size
    path: list[bytes] = []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(range_hash(middle, end, node))
            end = middle
        else:
            path.append(range_hash(first, middle, node))
            first = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: Node) -> Proof:
    """That the tree of `new` leaves begins with the one of `old` (RFC 6962, 2.1.2); empty where they are one."""
    if not 0 < old <= new:
        raise ProofError(f"there is no proof from size {old} to size {new}")
    first, end = 0, new
    path: list[bytes] = []
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(range_hash(middle, end, node))
            end = middle
        else:
            path.append(range_hash(first, middle, node))
            first = middle
    if first:
        path.append(range_hash(first, end, node))
    return tuple(reversed(path))


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """ProofError unless the leaf with this hash is at `index` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    _check_hashes([leaf, root, *proof])
    number, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if number & 1 or number == last:
            found = node_hash(step, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, step)
        number, last = number >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if found != root:
        raise ProofError("the proof leads to another root")


def check_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """ProofError unless the new tree begins with the old one (RFC 9162, 2.1.4.2).

    From size 0 nothing can be shown, so that is refused: every tree begins with the empty one.
    """
    if not 0 < old <= new:
        raise ProofError(f"nothing can be shown from size {old} to size {new}")
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("two trees of one size differ" if old_root != new_root else "the proof is too long")
        return
    _check_hashes([old_root, new_root, *proof])
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)  # the old tree is complete: it is the first node itself
    if not path:
        raise ProofError("the proof is too short")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    found_old = found_new = path[0]
    for step in path[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if number & 1 or number == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        number, last = number >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if found_old != old_root:
        raise ProofError("the proof leads to another old root")
    if found_new != new_root:
        raise ProofError("the proof leads to another new root")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError(f"a hash has other than {HASH_BYTES} bytes")
