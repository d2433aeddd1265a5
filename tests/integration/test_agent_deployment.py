"""The sidecar's manifest as it would run: its agent, its probe, and its script that needs nothing but curl."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import running
from support.gateways import gateway
from support.spool import environment

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/sidecar.yaml"
SHARED = "/run/deploytrail"


def containers() -> tuple[dict[str, Any], dict[str, Any]]:
    spec = yaml.safe_load(MANIFEST.read_text("utf-8"))["spec"]["template"]["spec"]
    return spec["initContainers"][0], spec["containers"][0]


@pytest.mark.requirement("M3.1", "M8.5")
@pytest.mark.parametrize(("script", "end"), [("exit 0", "succeeded"), ("exit 7", "failed")])
def test_the_sidecars_script_reports_and_keeps_its_exit_code(tmp_path: Path, script: str, end: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    agent, deploy = containers()
    (tmp_path / "deploy.sh").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "deploy.sh").chmod(0o755)
    words = [str(word).replace(SHARED, str(tmp_path)) for word in agent["args"]]
    env = {"DEPLOYMENT": "d-1", "PATH": os.environ["PATH"]}
    with gateway() as there:
        settings = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
        with running(*words, "--port", "0", env=settings, cwd=tmp_path) as process:
            probe = [word.replace(SHARED, str(tmp_path)) for word in agent["startupProbe"]["exec"]["command"]]
            assert subprocess.run(probe, timeout=60, check=False).returncode == 0
            argv = [*deploy["command"], deploy["args"][0].replace(SHARED, str(tmp_path))]
            done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
            assert process.stop() == 0
        told = [(event["event_type"], event["deployment_id"]) for event in there.events]

    assert (done.returncode, done.stdout, done.stderr) == (int(script.split()[1]), "", "")
    assert told == [("started", "d-1"), (end, "d-1")]


@pytest.mark.requirement("M3.1")
def test_without_an_agent_the_script_deploys_all_the_same(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    _, deploy = containers()
    (tmp_path / "deploy.sh").write_text("#!/bin/sh\ntouch deployed\n")
    (tmp_path / "deploy.sh").chmod(0o755)
    argv = [*deploy["command"], deploy["args"][0].replace(SHARED, str(tmp_path))]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0
    assert (tmp_path / "deployed").exists()
    assert time.monotonic() - began < 30  # it asks nobody twice
