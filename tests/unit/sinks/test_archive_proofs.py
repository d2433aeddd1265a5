"""The log's commands, offline, and what an auditor does with a proof bundle."""

from __future__ import annotations

import ast
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.log import verify_proof
from deploytrail_sinks.archive.log.commands import Bar
from deploytrail_sinks.archive.log.entries import LABEL, record_entry
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.notes import KeyKind, Signer, read_signer
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.log.witness import Witness
from deploytrail_sinks.archive.log.witness_server import server
from deploytrail_sinks.archive.segment import is_segment, read_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import LOG_KEY, NOW, ORIGIN, SEQUENCER_KEY, fill, key, published

CHECKER = Path(verify_proof.__file__)


@contextmanager
def witness_at(signer: Signer, folder: Path) -> Iterator[str]:
    """A witness of our log behind HTTP."""
    listening = server(Witness([signer], [LOG_KEY.verifier], folder, lambda: NOW), "127.0.0.1", 0)
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive, a log that two witnesses cosigned, a trust file and a proof bundle."""
    folder = tmp_path_factory.mktemp("audited")
    store = LocalFolder(folder / "archive")
    fill(store, range(120), every=40)
    one, two = key("w1.example.com", KeyKind.COSIGNER_ED25519), key("w2.example.com", KeyKind.COSIGNER_MLDSA44)
    with ExitStack() as running:
        urls = [running.enter_context(witness_at(k, folder / k.verifier.name)) for k in (one, two)]
        lines = (
            f"log {LOG_KEY.verifier}",
            f"#sequencer {SEQUENCER_KEY.verifier}",
            f"witness w1 {one.verifier} {urls[0]}",
            f"witness w2 {two.verifier} {urls[1]}",
            "group both all w1 w2",
            "quorum both",
        )
        (folder / "trust").write_text("".join(f"{line}\n" for line in lines))
        log = published(folder / "signer", store, (folder / "trust").read_text())
        (folder / "kept").write_bytes(store.newest(CHECKPOINT))
        fill(store, range(120, 160), every=40)
        log.publish()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{folder / 'archive'}")
        assert command.main(["prove", "shop-7", "--output", str(folder / "bundle"), "--tlog-proofs", str(folder)]) == 0
    return folder


@pytest.fixture
def archive(audited: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{audited / 'archive'}")
    return audited


@pytest.mark.requirement("M5.1")
def test_a_whole_archive_is_verified_with_the_keys_of_log_and_witnesses(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["verify", "--trust", str(archive / "trust"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)

    assert report["whole"] is True
    assert report["records"] == 160
    assert report["log"]["trusted"] is True
    assert report["log"]["checkpoints"] == 2
    assert command.main(["verify"]) == 0
    assert "SIGNATURES NOT CHECKED" in capsys.readouterr().out


def test_only_what_is_new_is_verified_behind_a_kept_checkpoint(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", "--trust", str(archive / "trust"), "--since", str(archive / "kept"), "--json"]
    assert command.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 40


def test_witnesses_may_change_since_older_checkpoints(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path / "archive")
    fill(store, range(20))
    published(tmp_path / "signer", store)
    late = key("late.example.com", KeyKind.COSIGNER_ED25519)
    fill(store, range(20, 40))
    with witness_at(late, tmp_path / "late") as url:
        trust = (
            f"log {LOG_KEY.verifier}\n#sequencer {SEQUENCER_KEY.verifier}\nwitness w {late.verifier} {url}\nquorum w\n"
        )
        log = published(tmp_path / "signer", store, trust)

    assert log.check()[0].flaws == []


def test_a_quorum_that_is_not_met_is_a_flaw_that_names_the_checkpoint(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = key("w3.example.com", KeyKind.COSIGNER_ED25519).verifier
    (tmp_path / "trust").write_text(f"log {LOG_KEY.verifier}\nwitness w3 {third}\nquorum w3\n")
    assert command.main(["verify", "--trust", str(tmp_path / "trust")]) == 1
    assert "FLAW: log/checkpoint: is cosigned by no witness" in capsys.readouterr().out


@pytest.mark.requirement("M5.1")
def test_an_auditor_checks_a_proof_with_one_file_and_nothing_of_ours(audited: Path, tmp_path: Path) -> None:
    alone = tmp_path / "verify_proof.py"
    alone.write_bytes(CHECKER.read_bytes())
    checked = subprocess.run(
        [sys.executable, "-I", alone, audited / "bundle", "--trust", audited / "trust"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "cosigned by w1" in checked.stdout
    assert "cosigned by w2" in checked.stdout
    assert '"deployment_id": "shop-7"' in checked.stdout
    assert "the proof holds: 5 records of deployment 'shop-7'" in checked.stdout


def test_the_auditors_file_is_short_and_imports_nothing_but_cryptography() -> None:
    tree = ast.parse(CHECKER.read_text())
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules - sys.stdlib_module_names == {"cryptography"}
    assert len(CHECKER.read_text().splitlines()) <= 400


def test_the_auditors_file_and_the_log_agree_on_entries(audited: Path) -> None:
    store = LocalFolder(audited / "archive")
    bundle = json.loads((audited / "bundle").read_text())
    segments = [read_segment(store.read(name)) for name in store.list("") if is_segment(name)]
    records = {record.offset: record for segment in segments for record in segment.records}
    for row in bundle["records"]:
        ours = record_entry("deploytrail.events", 1, records[int(row["record"]["offset"])])
        assert verify_proof.entry_of(row["record"], records[int(row["record"]["offset"])].salt) == ours
    assert verify_proof.LABEL == LABEL


def judged(bundle: Any, audited: Path) -> bool:
    try:
        verify_proof.check_bundle(bundle, verify_proof.Trust((audited / "trust").read_text()))
    except verify_proof.Refused:
        return False
    return True


def changed(bundle: Any, *path: Any, to: Any) -> Any:
    again = json.loads(json.dumps(bundle))
    inner = again
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to(inner[path[-1]]) if callable(to) else to
    return again


@pytest.mark.requirement("M5.1")
def test_a_changed_bundle_is_refused(audited: Path) -> None:
    bundle = json.loads((audited / "bundle").read_text())
    row = ("records", 0)
    lies = [
        changed(bundle, "deployment", to="shop-8"),
        changed(bundle, "checkpoint", to=lambda text: text.replace("\n", "\n\n", 1)),
        changed(bundle, "checkpoint", to=lambda text: "\n".join(text.split("\n")[:-2]) + "\n"),
        changed(bundle, "records", to=[]),
        changed(bundle, *row, "index", to=lambda index: index + 1),
        changed(bundle, *row, "index", to=-1),
        changed(bundle, *row, "index", to=None),
        changed(bundle, *row, "salt", to="AAAA"),
        changed(bundle, *row, "proof", to=lambda proof: proof[1:]),
        changed(bundle, *row, "proof", to=lambda proof: [*proof, proof[0]]),
        changed(bundle, *row, "record", "timestamp", to="1"),
        changed(bundle, *row, "record", "timestamp", to=1.0),
        changed(bundle, *row, "record", "offset", to=lambda offset: int(offset)),
        changed(bundle, *row, "record", "partition", to=10**400),
        changed(bundle, *row, "record", "value", to=None),
        changed(bundle, "schemas", to=lambda schemas: {k: v.replace("service", "sevrice") for k, v in schemas.items()}),
        changed(bundle, "schemas", to={}),
        [],
        None,
        {"format": "deploytrail-proof/1"},
    ]
    assert judged(bundle, audited)
    assert [lie for lie in lies if judged(lie, audited)] == []


def test_a_flipped_bit_of_a_bundle_proves_nothing_else(audited: Path) -> None:
    text = (audited / "bundle").read_bytes()
    bundle, rng = json.loads(text), random.Random(5)
    for _ in range(400):
        at = rng.randrange(len(text))
        flipped = text[:at] + bytes([text[at] ^ (1 << rng.randrange(8))]) + text[at + 1 :]
        try:
            read = json.loads(flipped)
        except ValueError:
            continue
        assert read == bundle or not judged(read, audited), at


def test_trust_is_read_alike_by_both(audited: Path) -> None:
    text = (audited / "trust").read_text()
    witness = text.split("\n")[2]
    for wrong in ("", "quorum nobody\n", text + "quorum none\n", text + witness + "\n", "log x\nquorum none\n",
                  text.replace("all w1 w2", "3 w1 w2"), text.replace("all w1 w2", "all w1 w1"), text + "what\n",
                  text.replace("witness w1", "witness none"), f"witness w {LOG_KEY.verifier}\nquorum w\n"):  # fmt: skip
        with pytest.raises(ConfigurationError):
            read_trust(wrong)
        with pytest.raises(ValueError, match=r"."):
            verify_proof.Trust(wrong)
    assert verify_proof.Trust(text).quorum == read_trust(text).quorum == "both"


def test_a_proof_in_the_format_of_others_is_written_too(audited: Path) -> None:
    bundle = json.loads((audited / "bundle").read_text())
    first = bundle["records"][0]
    lines = (audited / f"{first['index']}.tlog-proof").read_text().split("\n")

    assert lines[:2] == ["c2sp.org/tlog-proof@v1", f"index {first['index']}"]
    assert lines[2 : 2 + len(first["proof"])] == first["proof"]
    assert lines[2 + len(first["proof"])] == ""
    assert "\n".join(lines[3 + len(first["proof"]) :]) == bundle["checkpoint"]


def test_a_flaw_is_reported_for_machines_too(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "archive"
    shutil.copytree(audited / "archive", copy)
    tile = copy / "log/tile/0/000.p/126"
    tile.chmod(0o600)
    tile.write_bytes(tile.read_bytes()[:-1] + b"?")
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{copy}")

    assert command.main(["verify", "--trust", str(audited / "trust"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["whole"] is False
    assert [flaw["name"] for flaw in report["flaws"]] == ["log/tile/0/000.p/126"]


def test_progress_is_shown_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    Bar(False)("entries", 1, 2)
    assert capsys.readouterr().err == ""
    bar = Bar(True)
    for done in (1, 1, 2):
        bar("entries", done, 2)
    shown = capsys.readouterr().err
    assert shown.count("50 %") == 1
    assert shown.endswith("100 %\n")


def test_what_the_log_does_not_cover_is_said(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["prove", "nobody-1", "--output", str(tmp_path / "b")]) == 66
    assert "no record of deployment 'nobody-1'" in capsys.readouterr().err


def test_two_checkpoints_are_shown_to_be_consistent(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = str(archive / "archive" / CHECKPOINT)
    assert command.main(["consistency", str(archive / "kept"), newest]) == 0
    assert command.main(["consistency", newest, str(archive / "kept")]) == 0
    assert "consistent: the log of 126 entries" in capsys.readouterr().out
    lie = archive / "lie"
    lie.write_text((archive / "kept").read_text().replace("\n126\n", "\n125\n"))
    assert command.main(["consistency", str(lie), newest]) == 1
    assert "NOT CONSISTENT" in capsys.readouterr().out


def test_keys_are_made_once_and_kept_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.key"
    assert command.main(["keygen", ORIGIN, str(file)]) == 0
    shown = capsys.readouterr().out.strip()
    signer = read_signer(file.read_text())

    assert str(signer.verifier) == shown
    assert file.stat().st_mode & 0o777 == 0o600
    assert command.main(["keygen", ORIGIN, str(file)]) == 78
    assert read_signer(file.read_text()) == signer
    assert file.read_text().strip().split("+")[-1] not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bundle", "trust", "said"),
    [
        ("none", "trust", "none cannot be read: No such file or directory"),
        ("words", "trust", "words cannot be read: Expecting value"),
        ("proof", "none", "none cannot be read: No such file or directory"),
        ("proof", "words", "words cannot be read: line 'deploytrail' is not understood"),
    ],
)
def test_the_auditor_is_told_which_of_his_files_cannot_be_read(
    bundle: str,
    trust: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("words", "deploytrail\n"), ("proof", "{}"), ("trust", "quorum none\n")):
        Path(name).write_text(text)

    assert verify_proof.main([bundle, "--trust", trust]) == 66
    assert capsys.readouterr().err.startswith(f"verify_proof: {said}")


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--trust", b"deploytrail\n", "given: trust file, line 1: 'deploytrail' "),
        ("--trust", b"log x\n", "given: trust file, line 1: "),
        ("--trust", b"", "given: the trust file has no line `quorum NAME`"),
        (
            "--stamp-roots",
            b"no PEM\n",
            "given holds no certificates in PEM; expected the authority's root certificates",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_was_expected(
    option: str,
    text: bytes,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given").write_bytes(text)

    assert command.main(["verify", option, "given"]) == 78
    told = capsys.readouterr().err
    assert told.startswith(f"deploytrail archive: {said}")
    assert "cryptography.io" not in told
