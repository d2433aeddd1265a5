"""The deploy steps of ECS and Cloud Run: with a permit they deploy and report, without one they call nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.gateways import gateway
from support.permits import AUDIENCE, DIGEST, ISSUER, OTHER_DIGEST, jwks, permit
from support.spool import PATIENT, environment

HOOKS = Path(__file__).parents[2] / "deploy/hooks"
IMAGE = f"registry.example/shop/checkout@{DIGEST}"
# In the vendor's place: notes what it is called with, and answers what the script asks.
TOOL = f"""#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
  *describe-task-definition*) echo "{IMAGE}" ;;
  *update-service* | "run deploy"*) exit "${{TOOL_EXIT:-0}}" ;;
esac
"""
CHANGES = {"ecs_deploy.sh": "aws ecs update-service", "cloud_run_deploy.sh": "gcloud run deploy"}


def fresh(**changed: Any) -> str:
    now = int(time.time())
    return permit(**{"iat": now, "nbf": now, "exp": now + 300, **changed})


def deploy(
    script: str, folder: Path, shown: str, url: str, **more: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("aws", "gcloud"):
        (folder / "bin" / name).write_text(TOOL)
        (folder / "bin" / name).chmod(0o755)
    (folder / "keys.json").write_bytes(jwks())
    calls = folder / "calls"
    calls.write_text("")
    said = {
        "DEPLOYTRAIL_URL": url,
        "DEPLOYTRAIL_PERMIT": shown,
        "DEPLOYTRAIL_PERMIT_KEYS": str(folder / "keys.json"),
        "DEPLOYTRAIL_PERMIT_ISSUER": ISSUER,
        "DEPLOYTRAIL_PERMIT_AUDIENCE": AUDIENCE,
        "DEPLOYTRAIL_SERVICE": "",
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SERVICE": "checkout",
        "CLUSTER": "prod",
        "TASK": "checkout:42",
        "IMAGE": IMAGE,
        **more,
    }
    env = environment(folder / "spool", **PATIENT, **said)
    done = subprocess.run(
        ["sh", str(HOOKS / script)], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    return done, calls.read_text().splitlines()


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("script", CHANGES)
def test_with_a_permit_it_deploys_and_reports(script: str, tmp_path: Path) -> None:
    with gateway() as there:
        done, calls = deploy(script, tmp_path, fresh(), there.url)
        told = [(event["event_type"], event["artifact_digest"]) for event in there.events]

    assert done.returncode == 0, done.stderr
    assert any(call.startswith(CHANGES[script]) for call in calls)
    assert told == [("started", DIGEST), ("succeeded", DIGEST)]


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("script", CHANGES)
@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"artifact_digest": OTHER_DIGEST}, 77), ({"service": "cart"}, 77), (None, 77), ({}, 69)],
    ids=["another image", "another service", "no permit", "no keys"],
)
def test_without_it_nothing_is_changed(
    script: str, changed: dict[str, str] | None, expected: int, tmp_path: Path
) -> None:
    shown = "" if changed is None else fresh(**changed)
    more = {"DEPLOYTRAIL_PERMIT_KEYS": "/nowhere"} if expected == 69 else {}
    with gateway() as there:
        done, calls = deploy(script, tmp_path, shown, there.url, **more)
        told = there.events

    assert done.returncode == expected
    assert not any(call.startswith(CHANGES[script]) for call in calls)
    assert told == []


@pytest.mark.parametrize("script", CHANGES)
def test_a_deploy_that_fails_is_reported_and_keeps_its_exit_code(script: str, tmp_path: Path) -> None:
    with gateway() as there:
        done, _ = deploy(script, tmp_path, fresh(), there.url, TOOL_EXIT="3")
        told = [event["event_type"] for event in there.events]

    assert done.returncode == 3
    assert told == ["started", "failed"]
