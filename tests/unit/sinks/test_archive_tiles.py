"""Tiles, entries, notes: the formats that others read too, with the specifications' own examples."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_sinks.archive.log.canonical import canonical
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.entries import content, record_entry, segment_entries
from deploytrail_sinks.archive.log.merkle import leaf_hash, root_of
from deploytrail_sinks.archive.log.names import number_of, numbered, tile_name, width_at
from deploytrail_sinks.archive.log.notes import (
    KeyKind,
    Note,
    NoteError,
    new_signer,
    read_note,
    read_signer,
    read_verifier,
)
from deploytrail_sinks.archive.log.tiles import RightEdge, TileError, Tree, read_entries
from deploytrail_sinks.archive.segment import Record, Segment
from support.archive_log import MemoryStore

# The example key and note of golang.org/x/mod/sumdb/note, which the specification is made after.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SIGNS = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def tree(size: int) -> tuple[MemoryStore, RightEdge, list[bytes]]:
    store, edge = MemoryStore(), RightEdge()
    entries = [f"entry {number}".encode() for number in range(size)]
    for entry in entries:
        for name, data in edge.append(entry, leaf_hash(entry)):
            store.create(name, data, "")
    for name, data in edge.partial():
        store.create(name, data, "")
    return store, edge, entries


def test_tiles_are_named_as_the_specification_says() -> None:
    assert tile_name(0, 1234067) == "log/tile/0/x001/x234/067"
    assert tile_name(2, 7, 5) == "log/tile/2/007.p/5"
    assert tile_name("entries", 273, 112) == "log/tile/entries/273.p/112"
    assert number_of(numbered("states", 70000)) == 70000
    # The specification's example of a tree of 70,000.
    assert [width_at(70_000, *at) for at in ((0, 272), (0, 273), (1, 0), (1, 1), (2, 0))] == [256, 112, 256, 17, 1]
    assert [width_at(256, *at) for at in ((0, 0), (0, 1), (1, 0))] == [256, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 1000, 65_536, 70_000])
def test_a_tree_of_tiles_has_the_root_of_its_leaves(size: int) -> None:
    store, edge, entries = tree(size)
    root = root_of([leaf_hash(entry) for entry in entries])
    bundle, last = read_entries(store.read, size, (size - 1) // 256)

    assert edge.root() == Tree(store.read, size).root() == root
    assert edge.size == size
    assert last[-1] == entries[-1]
    assert bundle == tile_name("entries", (size - 1) // 256, width_at(size, 0, (size - 1) // 256))


def test_an_edge_that_is_read_again_grows_as_the_first_would_have() -> None:
    store, edge, _ = tree(700)
    again = RightEdge.of(store.read, 700)
    for number in range(300):
        for each in (edge, again):
            list(each.append(b"%d" % number, leaf_hash(b"%d" % number)))

    assert again.root() == edge.root()
    assert list(again.partial()) == list(edge.partial())


def test_a_full_tile_stands_in_for_a_partial_one_that_is_gone() -> None:
    store, _, entries = tree(300)
    assert Tree(store.read, 200).root() == root_of([leaf_hash(entry) for entry in entries[:200]])
    with pytest.raises(TileError, match=r"log/tile/0/001\.p/20 is missing"):
        Tree(store.read, 276).root()


def test_an_entry_that_is_too_long_is_refused() -> None:
    edge = RightEdge()
    list(edge.append(b"x" * 65_535, b"h" * 32))
    with pytest.raises(ValueError, match="65536 bytes"):
        list(edge.append(b"x" * 65_536, b"h" * 32))


ODD = Record(2**63 - 1, -1, 2, None, "é\x00\u2028".encode(), (('näme "\\\x01', None), ("", b"\xff")), b"s" * 16)


def test_entries_are_canonical_json() -> None:
    segment = Segment("deploytrail.events", 3, "production", 5, 9, "", (replace(ODD, offset=7),), ((5, 6),))
    for entry in segment_entries(segment, "ab" * 32):
        assert canonical(json.loads(entry)) == entry
    shown = content("deploytrail.events", 3, ODD)
    plain = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()
    assert canonical(shown) == plain


def test_a_commitment_hides_and_binds() -> None:
    def entry(record: Record) -> bytes:
        return record_entry("deploytrail.events", 3, record)

    assert entry(ODD) == entry(ODD)
    assert entry(ODD) != entry(replace(ODD, salt=b"t" * 16))
    assert entry(ODD) != entry(replace(ODD, value=b"other"))
    assert entry(ODD) != record_entry("deploytrail.intake", 3, ODD)
    assert b"xc3" not in entry(ODD)
    assert ODD.value not in entry(ODD)
    with pytest.raises(ValueError, match="salt of 0 bytes"):
        entry(replace(ODD, salt=b""))


def test_notes_and_keys_are_those_of_others() -> None:
    note = read_note(PETER_NOTE.encode())
    assert read_verifier(PETER).signed(note)
    assert str(read_verifier(PETER)) == PETER
    assert str(note) == PETER_NOTE
    signer = read_signer(PETER_SIGNS)
    assert str(signer.verifier) == PETER
    assert Note(note.text, (signer.sign(note.text, 0),)) == note
    assert signer.private_text() == PETER_SIGNS
    assert "AYEKFA" not in repr(signer)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_every_kind_of_key_signs_checkpoints_and_notices_changes(kind: KeyKind) -> None:
    signer = new_signer("example.com/key", kind)
    text = Checkpoint("example.com/archive", 7, b"r" * 32).text()
    note = Note(text, (signer.sign(text, 1_700_000_000),))
    again = read_signer(signer.private_text())

    assert read_verifier(str(signer.verifier)).signed(read_note(note.encode())) == note.signatures[0]
    assert again.verifier == signer.verifier
    with pytest.raises(NoteError, match="is false"):
        signer.verifier.signed(Note(text.replace("7", "8"), note.signatures))
    if kind is not KeyKind.ED25519:
        assert note.signatures[0].time == 1_700_000_000
        later = replace(note.signatures[0], data=(1_700_000_001).to_bytes(8, "big") + note.signatures[0].data[8:])
        with pytest.raises(NoteError, match="is false"):
            signer.verifier.signed(Note(text, (later,)))


def test_the_specifications_example_of_a_cosignature_has_its_key_id_and_time() -> None:
    line = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    note = read_note(f"a\n\n— witness.example.com/w1 {line}\n".encode())
    assert note.signatures[0].time == 1679315147
    assert note.signatures[0].key_id == b64decode(line)[:4]


HASH = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
LINE = "— example.com/log Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="


def test_a_checkpoint_is_read() -> None:
    checkpoint, note = open_checkpoint(f"example.com/log\n20852163\n{HASH}\n\n{LINE}\n".encode())
    assert checkpoint == Checkpoint("example.com/log", 20852163, b64decode(HASH))
    assert checkpoint.text() == note.text


@pytest.mark.parametrize(
    "data",
    [
        "",
        f"example.com/log\n1\n{HASH}\n",
        f"example.com/log\n1\n{HASH}\n\n",
        f"example.com/log\n1\n{HASH}\n\n{LINE}",
        f"example.com/log\n01\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n+1\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n١\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n9223372036854775808\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n{'9' * 5000}\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n1\n{HASH[:-2]}\n\n{LINE}\n",
        f"example.com/log\n1\n{HASH.replace('2I=', '2J=')}\n\n{LINE}\n",
        f"\n1\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n1\n{HASH}\nextra\n\n{LINE}\n",
        f"example.com/log\r\n1\n{HASH}\n\n{LINE}\n",
        f"example.com/log\n1\n{HASH}\n\n{LINE}\n" + f"{LINE}\n" * 64,
        f"example.com/log\n1\n{HASH}\n\n- example.com/log AAAAAAAA\n",
        f"example.com/log\n1\n{HASH}\n\n— example.com/log AAAA\n",
        "x" * 300_000,
    ],
)
def test_what_is_no_checkpoint_is_refused(data: str) -> None:
    with pytest.raises(NoteError):
        open_checkpoint(data.encode())


@pytest.mark.parametrize(
    "text",
    ["", "a+b", PETER.replace("c74f", "c74e"), PETER[:-4], "two words+c74f20a3+ARpc", PETER.replace("+AR", "+BR")],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_verifier(text)
    with pytest.raises(ConfigurationError) as refused:
        read_signer(PETER_SIGNS[:-8] + "AAAAAAA=")
    assert "AYEKFA" not in str(refused.value)
