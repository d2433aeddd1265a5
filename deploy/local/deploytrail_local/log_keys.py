"""The keys of the embedded archive's log, one of the sequencer and one of the signer, and the trust file for outsiders.

Made at the first start by `deploytrail archive keygen`, as anybody makes them, and kept: a log with other keys
would be another log.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.settings import Settings

from deploytrail_local.own_command import ask, own_command

KEYS = "archive-keys"
TRUST = "archive.trust"
MEMORY = "archive-signer"
_DEFAULTS = Settings()


def with_log(home: Path, settings: Settings) -> Settings:
    """Settings with the stack's own keys where none were set.

    Of the stack's own archive only: in somebody else's there may be a log, and it has a signer already.
    """
    if settings.archive_signer_folder == _DEFAULTS.archive_signer_folder:
        settings = replace(settings, archive_signer_folder=home / MEMORY)
    if settings.archive != f"file:{home / 'archive'}" or settings.archive_sequencer_key or settings.archive_signer_keys:
        return settings
    return replace(
        settings,
        archive_sequencer_key=str(home / KEYS / "sequencer.key"),
        archive_signer_keys=str(home / KEYS / "signer.key"),
        archive_trust=settings.archive_trust or str(home / TRUST),  # one that was set may ask for witnesses
    )


def ensure_log_keys(home: Path, settings: Settings, environ: Mapping[str, str]) -> None:
    """Make what settings name below `home` and is not there yet: keys for their owner alone, a trust file for all.

    DeploytrailError where a key cannot be made.
    """
    folder, trust = home / KEYS, home / TRUST
    if settings.archive_signer_keys != str(folder / "signer.key"):
        return
    if not folder.exists():
        _make_keys(folder, settings.archive_origin, environ)
    if not trust.exists():
        fresh = trust.with_name(f"{TRUST}.new")
        fresh.write_text(_trust_text(folder), "utf-8")
        fresh.chmod(0o644)
        fresh.rename(trust)


def _make_keys(folder: Path, origin: str, environ: Mapping[str, str]) -> None:
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # of a start that was killed: nothing was signed by these yet
    fresh.mkdir(mode=0o700, parents=True)
    for name, file in ((f"{origin}/sequencer", "sequencer"), (origin, "signer")):
        done = ask(own_command("archive", "keygen", name, str(fresh / f"{file}.key")), environ)
        if done.returncode != 0:
            raise DeploytrailError(f"no key for the archive's log could be made: {done.stderr.strip()[-500:]}")
        (fresh / f"{file}.pub").write_text(done.stdout, "utf-8")
    fresh.rename(folder)


def _trust_text(folder: Path) -> str:
    signer, sequencer = ((folder / f"{name}.pub").read_text("utf-8").strip() for name in ("signer", "sequencer"))
    return (
        "# Whom to believe about this archive: deploytrail archive verify and verify_proof.py take it as --trust.\n"
        "# Keep a copy where those who run the archive cannot write.\n"
        f"log {signer}\n"
        f"#sequencer {sequencer}\n"
        "quorum none\n"
    )
