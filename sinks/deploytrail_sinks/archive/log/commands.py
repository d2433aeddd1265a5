"""`deploytrail archive …` for the log: look into it (offline), and run what writes it."""

from __future__ import annotations

import argparse
import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.registry import wire_format
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.consistency import consistent
from deploytrail_sinks.archive.log.merkle import ProofError
from deploytrail_sinks.archive.log.names import numbered
from deploytrail_sinks.archive.log.notes import KeyKind, NoteError, Signer, new_signer, read_signer
from deploytrail_sinks.archive.log.objects import read_or_none
from deploytrail_sinks.archive.log.prove import NothingToProve, prove, tlog_proof, write_bundle
from deploytrail_sinks.archive.log.tiles import TileError
from deploytrail_sinks.archive.log.trust import Trust, read_trust
from deploytrail_sinks.archive.store import ObjectStore, open_store

EXIT_FLAWED = 1
EXIT_NOTHING = 66  # EX_NOINPUT of sysexits.h
KINDS = {
    "log": KeyKind.ED25519,
    "witness": KeyKind.COSIGNER_ED25519,
    "witness-mldsa44": KeyKind.COSIGNER_MLDSA44,
}
Words = Any  # argparse's subparsers have no public type


def add_words(words: Words) -> None:
    """Take the log's words into the parser of `deploytrail archive`; each sets `run`."""
    proof = words.add_parser("prove", help="a file that shows an outsider what the archive has of a deployment")
    proof.add_argument("deployment", metavar="DEPLOYMENT")
    proof.add_argument("--output", metavar="FILE", type=Path, help="default: DEPLOYMENT.proof.json")
    proof.add_argument("--tlog-proofs", metavar="FOLDER", type=Path, help="each record's proof as C2SP tlog-proof too")
    proof.set_defaults(run=_prove)
    check = words.add_parser("verify-proof", help="check such a file; so does verify_proof.py alone")
    check.add_argument("bundle", metavar="BUNDLE")
    check.add_argument("--trust", metavar="FILE", required=True)
    check.set_defaults(run=_verify_proof)
    pair = words.add_parser("consistency", help="is one checkpoint's log the beginning of the other's?")
    for name in ("A", "B"):
        pair.add_argument(name, help="file of a checkpoint, or the size of a published one")
    pair.set_defaults(run=_consistency)
    key = words.add_parser("keygen", help="a new key: the secret into a file, the public one to standard output")
    key.add_argument("name", metavar="NAME", help="of a log's key the log's origin, of a witness its own")
    key.add_argument("file", metavar="FILE", type=Path, help="must not be there yet")
    key.add_argument("--kind", choices=KINDS, default="log", help="log: for signer and sequencer")
    key.set_defaults(run=_keygen)
    for word, text in (
        ("sequence", "append closed segments to the log, until stopped"),
        ("sign", "sign and publish checkpoints of the log, until stopped"),
    ):
        loop = words.add_parser(word, help=text)
        loop.add_argument("--once", action="store_true", help="do what is to be done now, and end")
        loop.set_defaults(run=_sequence if word == "sequence" else _sign)
        if word == "sign":
            loop.add_argument("--adopt", metavar="FILE", type=Path, help="begin from this checkpoint: memory was lost")
    witness = words.add_parser("witness", help="cosign checkpoints of others' logs, until stopped")
    witness.add_argument("--key", metavar="FILE", type=Path, required=True, action="append", help="may be repeated")
    witness.add_argument("--trust", metavar="FILE", type=Path, required=True, help="the logs that are known")
    witness.add_argument("--memory", metavar="FOLDER", type=Path, required=True)
    witness.add_argument("--host", default="127.0.0.1")
    witness.add_argument("--port", type=int, default=8475)
    witness.set_defaults(run=_witness)


def read_file(path: Path) -> bytes:
    """A file that the caller named; ConfigurationError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def load_trust(path: Path) -> Trust:
    """The trust of a file; ConfigurationError names it."""
    text = read_file(path)
    try:
        return read_trust(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def load_key(path: Path) -> Signer:
    """The signing key of a file; ConfigurationError."""
    try:
        return read_signer(read_file(path).decode())
    except (UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from None


def load_checkpoint(store: ObjectStore, named: str) -> Checkpoint:
    """The checkpoint of a file, or the published one of a size; ConfigurationError."""
    data: bytes | None
    if named.isascii() and named.isdigit():
        data = read_or_none(store, numbered("checkpoints", int(named)))
        if data is None:
            raise ConfigurationError(f"no checkpoint of size {named} is kept")
    else:
        data = read_file(Path(named))
    try:
        return open_checkpoint(data)[0]
    except NoteError as error:
        raise ConfigurationError(f"checkpoint {named} {error}") from error


def _store(settings: Settings) -> ObjectStore:
    return open_store(settings.archive)


def _prove(options: argparse.Namespace, settings: Settings) -> int:
    try:
        bundle, later = prove(_store(settings), options.deployment, wire_format(settings))
    except NothingToProve as error:
        print(f"deploytrail archive: {error}{if_not_set('archive', settings.archive)}", file=sys.stderr)
        return EXIT_NOTHING
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in options.deployment)
    path = options.output or Path(f"{name}.proof.json")
    path.write_text(write_bundle(bundle), encoding="utf-8")
    if options.tlog_proofs:
        options.tlog_proofs.mkdir(parents=True, exist_ok=True)
        for row, record in enumerate(bundle["records"]):
            (options.tlog_proofs / f"{record['index']}.tlog-proof").write_text(tlog_proof(bundle, row))
    print(f"{path}: {counted(len(bundle['records']), 'record')} of deployment {options.deployment}")
    if later:
        print(
            f"{counted(later, 'more waits', 'more wait')} for the next checkpoint; prove again then",
            file=sys.stderr,
        )
    return 0


def _verify_proof(options: argparse.Namespace, _: Settings) -> int:
    from deploytrail_sinks.archive.log import verify_proof

    return verify_proof.main([options.bundle, "--trust", options.trust])


def _consistency(options: argparse.Namespace, settings: Settings) -> int:
    store = _store(settings)
    one, other = load_checkpoint(store, options.A), load_checkpoint(store, options.B)
    try:
        proof = consistent(store.read, one, other)
    except (ProofError, TileError) as error:
        print(f"NOT CONSISTENT: sizes {one.size} and {other.size}: {error}")
        return EXIT_FLAWED
    for step in proof:
        print(b64encode(step).decode())
    print(f"consistent: the log of {min(one.size, other.size)} entries begins that of {max(one.size, other.size)}")
    return 0


def _keygen(options: argparse.Namespace, _: Settings) -> int:
    signer = new_signer(options.name, KINDS[options.kind])
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{options.file} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as out:
        out.write(f"{signer.private_text()}\n")
    print(signer.verifier)
    return 0


def _sequence(options: argparse.Namespace, settings: Settings) -> int:
    from deploytrail_sinks.archive.log.running import run_sequencer

    return run_sequencer(settings, once=options.once)


def _sign(options: argparse.Namespace, settings: Settings) -> int:
    from deploytrail_sinks.archive.log.running import run_signer

    return run_signer(settings, once=options.once, adopt=options.adopt)


def _witness(options: argparse.Namespace, _: Settings) -> int:
    from deploytrail_sinks.archive.log.running import run_witness

    keys = [load_key(path) for path in options.key]
    return run_witness(keys, load_trust(options.trust), options.memory, options.host, options.port)


class Bar:
    """A progress bar on a terminal's standard error; nothing elsewhere."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._last = shown, ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._shown or not total:
            return
        filled = 30 * done // total
        text = f"\r{what:<9} [{'#' * filled}{'.' * (30 - filled)}] {100 * done // total:3} %"
        if text != self._last:
            sys.stderr.write(text + ("\n" if done >= total else ""))
            sys.stderr.flush()
            self._last = text
