"""Hashes and proofs of the archive's log, against published vectors and a tree as the RFC defines it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.errors import EncodeError
from deploytrail_sinks.archive.log.canonical import canonical
from deploytrail_sinks.archive.log.merkle import (
    EMPTY_ROOT,
    ProofError,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_at,
    root_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, word by word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def nodes(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    def node(level: int, index: int) -> bytes:
        below = leaves[index << level : (index + 1) << level]
        assert len(below) == 1 << level
        return naive_root(below)

    return node


LEAVES = [leaf_hash(str(number).encode()) for number in range(140)]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=10)
SIZES = st.integers(1, len(LEAVES))


def vectors(shared: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted((shared / "fixtures/merkle" / kind).rglob("*.json"))]
    assert len(found) == 98
    return found


def refuses(check: Callable[..., None], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except ProofError:
        return True
    return False


@pytest.mark.requirement("M5.1")
def test_inclusion_is_judged_as_the_published_vectors_say(shared: Path) -> None:
    for vector in vectors(shared, "inclusion"):
        proof = [b64decode(step) for step in vector["proof"] or ()]
        leaf, root = b64decode(vector["leafHash"]), b64decode(vector["root"])
        refused = refuses(check_inclusion, leaf, vector["leafIdx"], vector["treeSize"], proof, root)
        assert refused == vector["wantErr"], vector["desc"]


@pytest.mark.requirement("M5.1")
def test_consistency_is_judged_as_the_published_vectors_say(shared: Path) -> None:
    for vector in vectors(shared, "consistency"):
        proof = [b64decode(step) for step in vector["proof"] or ()]
        roots = b64decode(vector["root1"]), b64decode(vector["root2"])
        refused = refuses(check_consistency, vector["size1"], vector["size2"], proof, *roots)
        assert refused == vector["wantErr"], vector["desc"]


def test_nothing_is_shown_from_the_empty_tree() -> None:
    assert refuses(check_consistency, 0, 0, (), EMPTY_ROOT, EMPTY_ROOT)
    assert refuses(check_consistency, 0, 1, (), EMPTY_ROOT, LEAVES[0])


@settings(deadline=None)
@given(SIZES)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    assert root_of(LEAVES[:size]) == root_at(size, nodes(LEAVES)) == naive_root(LEAVES[:size])


@settings(deadline=None)  # a busy machine is no failure
@given(SIZES, st.data())
def test_every_leaf_can_be_proven_and_no_other_stands_in_for_it(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, nodes(LEAVES))
    root = naive_root(LEAVES[:size])

    check_inclusion(LEAVES[index], index, size, proof, root)
    assert refuses(check_inclusion, leaf_hash(b"other"), index, size, proof, root)
    other = data.draw(st.integers(0, size + 3))
    assert other == index or refuses(check_inclusion, LEAVES[index], other, size, proof, root)
    assert refuses(check_inclusion, LEAVES[index], index, size, (*proof, root), root)
    assert not proof or refuses(check_inclusion, LEAVES[index], index, size, proof[1:], root)


@settings(deadline=None)  # a busy machine is no failure
@given(SIZES, st.data())
def test_a_longer_tree_is_shown_to_begin_with_a_shorter_one(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, nodes(LEAVES))
    old_root, root = naive_root(LEAVES[:old]), naive_root(LEAVES[:size])

    check_consistency(old, size, proof, old_root, root)
    changed = [*LEAVES[: old - 1], leaf_hash(b"other"), *LEAVES[old:size]]
    assert refuses(check_consistency, old, size, proof, naive_root(changed[:old]), root)
    assert refuses(check_consistency, old, size, proof, old_root, naive_root(changed))
    assert refuses(check_consistency, old, size, (*proof, root), old_root, root)


def test_canonical_json_is_that_of_the_published_vectors(shared: Path) -> None:
    inputs = sorted((shared / "fixtures/jcs/input").glob("*.json"))
    assert len(inputs) == 6
    for path in inputs:
        expected = (shared / "fixtures/jcs/output" / path.name).read_bytes()
        assert canonical(json.loads(path.read_text())) == expected, path.name


@pytest.mark.parametrize(
    ("number", "text"),
    [  # RFC 8785, appendix B
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
        (123.0, "123"),
        (100.5, "100.5"),
    ],
)
def test_numbers_are_written_as_ecmascript_does(number: float, text: str) -> None:
    assert canonical(number).decode() == text


@given(JSON)
def test_canonical_json_reads_back_and_is_a_fixed_point(value: Any) -> None:
    written = canonical(value)
    again = json.loads(written, parse_int=float)  # as ECMAScript reads numbers

    assert again == value
    assert canonical(again) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800", {"a": b"b"}, {1}])
def test_what_has_no_canonical_json_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError):
        canonical(value)
