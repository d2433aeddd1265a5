"""A key that was replaced counts up to its end, and whoever steals it then can do nothing with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.registry import SingleObject
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.log import verify_proof
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT, numbered
from deploytrail_sinks.archive.log.notes import KeyKind, Note, Signer
from deploytrail_sinks.archive.log.prove import prove
from deploytrail_sinks.archive.log.publisher import Publisher
from deploytrail_sinks.archive.log.sequencer import Sequencer
from deploytrail_sinks.archive.log.signer import CheckpointSigner, SigningRefused
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.log.witness import Witness, write_request
from support.archive_log import LOG_KEY, NOW, ORIGIN, SEQUENCER_KEY, MemoryStore, Published, fill, key, published

OLD, NEW = LOG_KEY, key()
WITNESS = key("w.example.com", KeyKind.COSIGNER_ED25519)


@dataclass(frozen=True)
class Rotated:
    """A log whose key was replaced with an overlap: three checkpoints, of the old key, of both, of the new one."""

    objects: dict[str, bytes]
    sizes: tuple[int, int, int]
    bundle: dict[str, Any]  # proven by the first checkpoint

    @property
    def end(self) -> int:
        return self.sizes[1]

    def trust(self, end: int | None = None, quorum: str = "none") -> str:
        end = self.end if end is None else end
        return (
            f"log {NEW.verifier}\n#retired {OLD.verifier} {end}\n#sequencer {SEQUENCER_KEY.verifier}\n"
            f"witness w {WITNESS.verifier}\nquorum {quorum}\n"
        )

    def flaws(self, objects: dict[str, bytes], end: int | None = None) -> dict[str, str]:
        found = Published(MemoryStore(objects), self.trust(end)).check()[0].flaws
        return {flaw.name: flaw.detail for flaw in found}


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Rotated:
    folder, store = tmp_path_factory.mktemp("signer"), MemoryStore()
    fill(store, range(40))
    log = published(folder, store)
    sizes = [size_of(store)]
    bundle, _ = prove(store, "shop-3", SingleObject())
    for first, keys in ((40, (OLD, NEW)), (80, (NEW,))):
        fill(store, range(first, first + 40))
        log.signer = CheckpointSigner(store, ORIGIN, keys, (SEQUENCER_KEY.verifier,), folder, lambda: NOW)
        log.publish()
        sizes.append(size_of(store))
    return Rotated(dict(store.objects), (sizes[0], sizes[1], sizes[2]), bundle)


def size_of(store: MemoryStore) -> int:
    return open_checkpoint(store.objects[CHECKPOINT])[0].size


def signed(checkpoint: Checkpoint, *keys: Signer) -> bytes:
    return Note(checkpoint.text(), tuple(key.sign(checkpoint.text(), NOW) for key in keys)).encode()


def forged_past(folder: Path) -> dict[str, bytes]:
    """What a thief of the old key and the sequencer's makes: another archive, no larger than the old key's end."""
    store = MemoryStore()
    fill(store, range(500, 540))
    published(folder, store)
    return dict(store.objects)


@pytest.mark.requirement("M2.6", "M5.1")
def test_what_a_retired_key_signed_up_to_its_end_is_whole(rotated: Rotated) -> None:
    assert rotated.flaws(rotated.objects) == {}
    assert rotated.flaws(rotated.objects, end=rotated.sizes[0]) == {}  # the one behind it has the new signature, too


def test_a_checkpoint_of_a_retired_key_behind_its_end_is_named(rotated: Rotated) -> None:
    found = rotated.flaws(rotated.objects, end=rotated.sizes[0] - 1)

    assert list(found) == [numbered("checkpoints", rotated.sizes[0])]
    assert f"a retired key, which ends at {rotated.sizes[0] - 1} entries, signed it" in str(found)


@pytest.mark.requirement("M2.6", "M5.1")
def test_a_stolen_retired_key_signs_nothing_new(rotated: Rotated, tmp_path: Path) -> None:
    newest, _ = open_checkpoint(rotated.objects[CHECKPOINT])
    resigned = signed(newest, OLD)
    goes_on = MemoryStore(dict(rotated.objects))
    fill(goes_on, range(120, 160))
    thief = Published(goes_on, rotated.trust())
    thief.sequencer = Sequencer(goes_on, ORIGIN, SEQUENCER_KEY, lambda: NOW)
    thief.signer = CheckpointSigner(goes_on, ORIGIN, (OLD,), (SEQUENCER_KEY.verifier,), tmp_path, lambda: NOW)
    thief.signer.adopt(signed(newest, OLD))
    thief.publisher = Publisher(goes_on, thief.trust, lambda: NOW)
    thief.publish()
    kept = numbered("checkpoints", newest.size)

    assert {CHECKPOINT, kept} <= rotated.flaws(rotated.objects | {CHECKPOINT: resigned, kept: resigned}).keys()
    assert {CHECKPOINT, numbered("checkpoints", size_of(goes_on))} <= rotated.flaws(goes_on.objects).keys()


@pytest.mark.requirement("M2.6", "M5.1")
def test_a_stolen_retired_key_makes_no_other_past(rotated: Rotated, tmp_path: Path) -> None:
    forged = forged_past(tmp_path)
    size = rotated.sizes[0]
    root = signed(Checkpoint(ORIGIN, size, b"x" * 32), OLD)

    assert open_checkpoint(forged[CHECKPOINT])[0].size <= rotated.end
    assert "signed by no trusted key" in rotated.flaws(forged)[CHECKPOINT]
    assert numbered("checkpoints", size) in rotated.flaws(rotated.objects | {numbered("checkpoints", size): root})


def refused(bundle: dict[str, Any], trust: str) -> str:
    """Why the auditor's file refuses a bundle; empty where it holds."""
    try:
        verify_proof.check_bundle(bundle, verify_proof.Trust(trust))
    except verify_proof.Refused as error:
        return str(error)
    return ""


def cosigned(bundle: dict[str, Any], *keys: Signer) -> dict[str, Any]:
    """The bundle with a checkpoint that these keys signed below the same text."""
    checkpoint, _ = open_checkpoint(bundle["checkpoint"].encode())
    return bundle | {"checkpoint": signed(checkpoint, *keys).decode()}


@pytest.mark.requirement("M2.6", "M5.1")
def test_an_auditor_takes_a_retired_key_up_to_its_end_and_beside_witnesses(rotated: Rotated) -> None:
    old = cosigned(rotated.bundle, OLD, WITNESS)
    late, _ = prove(MemoryStore(rotated.objects), "shop-3", SingleObject())

    assert refused(old, rotated.trust(quorum="w")) == ""
    assert refused(rotated.bundle, rotated.trust(quorum="w")) == "cosigned by nobody, which is not the quorum w"
    assert "retired: have it proven again" in refused(old, rotated.trust(end=rotated.sizes[0] - 1, quorum="w"))
    assert refused(late, rotated.trust()) == ""
    assert refused(cosigned(late, NEW, WITNESS), rotated.trust(quorum="w")) == ""


@pytest.mark.requirement("M2.6", "M5.1")
def test_an_auditor_takes_nothing_that_a_stolen_retired_key_signed(rotated: Rotated, tmp_path: Path) -> None:
    late, _ = prove(MemoryStore(rotated.objects), "shop-3", SingleObject())
    past, _ = prove(MemoryStore(forged_past(tmp_path)), "shop-103", SingleObject())

    assert refused(past, f"log {OLD.verifier}\nquorum none\n") == ""  # as long as the key was in use: it is the key
    assert "retired: have it proven again" in refused(past, rotated.trust())
    assert "not the quorum" in refused(past, rotated.trust(quorum="w"))
    assert "retired: have it proven again" in refused(cosigned(late, OLD), rotated.trust())
    # Not even where a witness forgot what it saw.
    assert "retired: have it proven again" in refused(cosigned(late, OLD, WITNESS), rotated.trust(quorum="w"))


def test_a_witness_cosigns_nothing_of_a_retired_key(rotated: Rotated, tmp_path: Path) -> None:
    trust = read_trust(rotated.trust())
    witness = Witness([WITNESS], trust.logs, tmp_path, lambda: NOW)
    first, note = open_checkpoint(rotated.bundle["checkpoint"].encode())

    assert first.size < rotated.end
    assert witness.add_checkpoint(write_request(0, [], note)).status == 403


def test_a_signer_does_not_start_with_a_retired_key(
    rotated: Rotated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.key").write_text(OLD.private_text())
    (tmp_path / "trust").write_text(rotated.trust())
    for name, value in {
        "ARCHIVE": f"file:{tmp_path}/archive",
        "ARCHIVE_ORIGIN": ORIGIN,
        "ARCHIVE_SIGNER_KEYS": str(tmp_path / "old.key"),
        "ARCHIVE_SIGNER_FOLDER": str(tmp_path / "signer"),
        "ARCHIVE_TRUST": str(tmp_path / "trust"),
    }.items():
        monkeypatch.setenv(f"DEPLOYTRAIL_{name}", value)

    assert command.main(["sign", "--once"]) == 78
    assert "is retired; sign without it" in capsys.readouterr().err


@pytest.mark.requirement("M2.6")
def test_a_retired_key_of_the_sequencer_vouches_for_no_newer_tree(rotated: Rotated, tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store)
    end, new = log.sequencer.size, key("example.com/sequencer")
    ended = replace(SEQUENCER_KEY.verifier, end=end)
    fill(store, range(40, 60))
    while log.sequencer.step():  # by whoever has the old key
        pass
    signer = CheckpointSigner(store, ORIGIN, (OLD,), (new.verifier, ended), tmp_path, lambda: NOW)
    whole = f"log {OLD.verifier}\n#sequencer {new.verifier}\n#sequencer {SEQUENCER_KEY.verifier} {{}}\nquorum none\n"

    with pytest.raises(SigningRefused, match="is not signed by the sequencer"):
        signer.sign_next()
    found = [Published(store, whole.format(size)).check()[0].flaws for size in (end, log.sequencer.size)]
    assert [flaw.name for flaw in found[0]] == [numbered("states", log.sequencer.size)]
    assert found[1] == []


@pytest.mark.parametrize("line", ["#retired {key}", "#retired {key} ten", "#retired {key} 5 6", "#retired no-key 5"])
def test_an_end_that_is_none_is_refused_by_both(line: str) -> None:
    text = f"log {NEW.verifier}\nquorum none\n{line.format(key=OLD.verifier)}\n"
    with pytest.raises(ConfigurationError):
        read_trust(text)
    with pytest.raises(ValueError, match=r"."):
        verify_proof.Trust(text)


def test_a_key_is_in_use_or_retired_and_not_both(rotated: Rotated) -> None:
    text = rotated.trust() + f"log {OLD.verifier}\n"
    with pytest.raises(ConfigurationError, match="there twice"):
        read_trust(text)
    with pytest.raises(ValueError, match="there twice"):
        verify_proof.Trust(text)
