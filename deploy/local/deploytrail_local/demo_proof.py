"""One deployment proven to somebody outside, who has two files: a proof bundle and whom to trust.

The archive is verified by its own command, the bundle made by another, and checked by the auditor's single file
alone, in a folder where nothing else of ours lies.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.errors import DeploytrailError

from deploytrail_local.demo_kafka import Stored
from deploytrail_local.demo_summary import Row
from deploytrail_local.own_command import ask, own_command
from deploytrail_local.processes import wait_until

QUESTION = "Can an outsider check the record?"
_CHECKER = "deploytrail_sinks.archive.log.verify_proof"
_COVERED_SECONDS = 120.0  # until a published checkpoint covers what was archived
_ROOT_LETTERS = 12  # of a root in base64 that are shown


@dataclass(frozen=True, slots=True)
class Shown:
    """What the summary takes from a proof."""

    rows: list[Row]
    lines: list[str]


def show(
    deployment: str, archived: Mapping[str, list[Stored]], trust: Path, folder: Path, environ: Mapping[str, str]
) -> Shown:
    """Verify the archive, prove a deployment, check the proof. `archived`: messages by topic.

    DeploytrailError where a command cannot do its work at all.
    """
    verified, said = _verify(trust, environ)
    wanted = {
        f"{topic} {stored.partition}:{stored.offset}"
        for topic, found in archived.items()
        for stored in found
        if _is_of(stored.value, deployment)
    }
    bundle, path = _prove(deployment, wanted, folder, environ)
    proven = wanted & _positions(bundle)
    holds, told = _check(path, trust, folder)
    rows = [
        verified,
        Row.compare("records of a deployment, proven", wanted, proven),
        Row("proof checked by the auditor's one file", 1, int(holds), () if holds else (told,), (), holds),
    ]
    root = _short(bundle["checkpoint"].split("\n")[2])
    return Shown(rows, [said, f"verify_proof.py {path.name} --trust {trust.name}: {told}, root {root}"])


def _verify(trust: Path, environ: Mapping[str, str]) -> tuple[Row, str]:
    done = ask(own_command("archive", "verify", "--trust", str(trust), "--json"), environ)
    whole = done.returncode == 0
    row = Row("archive verified", 1, int(whole), () if whole else ((done.stdout + done.stderr)[-500:],), (), whole)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DeploytrailError(f"archive verify ended with {done.returncode}: {done.stderr[-2000:]}") from None
    log = report["log"] or {"entries": 0, "root": "", "checkpoints": 0, "trusted": False}
    keys = "signed by a key of the trust file" if log["trusted"] else "NOT SIGNED by a key that is trusted"
    said = (
        f"archive verify --trust {trust.name}: {'whole' if whole else 'NOT WHOLE'}; tree of {log['entries']} entries, "
        f"root {_short(log['root'])}, {keys}; {log['checkpoints']} checkpoints, {report['segments']} segments and "
        f"{report['records']} records read and hashed"
    )
    return row, said


def _prove(deployment: str, wanted: set[str], folder: Path, environ: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    """The bundle of all that is wanted: a record is covered by the next checkpoint, a moment after it is archived."""
    path = folder / f"{deployment}.proof.json"
    argv = own_command("archive", "prove", deployment, "--output", str(path))
    bundle: dict[str, Any] = {}
    said = ""

    def covered() -> bool:
        nonlocal bundle, said
        done = ask(argv, environ)
        said = done.stderr
        if done.returncode == 0:
            bundle = json.loads(path.read_text("utf-8"))
        return bool(bundle) and wanted <= _positions(bundle)

    wait_until(covered, seconds=_COVERED_SECONDS, every=0.5)
    if not bundle:
        raise DeploytrailError(f"archive prove {deployment} gave no proof in {_COVERED_SECONDS:.0f} s: {said[-2000:]}")
    return bundle, path


def _check(bundle: Path, trust: Path, folder: Path) -> tuple[bool, str]:
    """Whether the proof holds, and what the auditor's file says last."""
    found = importlib.util.find_spec(_CHECKER)
    if found is None or found.origin is None:
        raise DeploytrailError(f"{_CHECKER} is not installed")
    alone = folder / "auditor"
    alone.mkdir(exist_ok=True)
    for file in (Path(found.origin), bundle, trust):
        shutil.copy(file, alone / file.name)
    checker = [sys.executable, "-I", "verify_proof.py", bundle.name, "--trust", trust.name]
    done = ask(checker, {}, cwd=alone)
    lines = (done.stdout or done.stderr).splitlines() or [f"ended with {done.returncode}"]
    return done.returncode == 0, f"{lines[-1]}; {lines[0]}" if done.returncode == 0 else lines[-1]


def _is_of(value: bytes | None, deployment: str) -> bool:
    if not value or deployment.encode() not in value:
        return False
    try:
        _, fields = decode(value)
    except DecodeError:
        return False
    return bool(fields.get("deployment_id") == deployment)


def _positions(bundle: dict[str, Any]) -> set[str]:
    records = [row["record"] for row in bundle["records"]]
    return {f"{record['topic']} {record['partition']}:{record['offset']}" for record in records}


def _short(root: str) -> str:
    return f"{root[:_ROOT_LETTERS]}…" if root else "unknown"
