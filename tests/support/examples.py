"""The steps of the example pipelines, and the environments in which their CI systems run them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from support.spool import PATIENT, environment

EXAMPLES = Path(__file__).parent.parent.parent / "producers/examples"
COMMIT = "c0ffee0123456789abcdef0123456789c0ffee01"


class Step(NamedTuple):
    """A script that a runner hands to bash, with the variables of its step."""

    script: str
    variables: dict[str, str]


def load(path: str) -> Any:
    """An example's YAML."""
    return yaml.safe_load((EXAMPLES / path).read_text())


def github_steps(known: dict[str, str]) -> list[Step]:
    """The `run:` steps of the workflow's job; `known`: what its expressions ${{ … }} stand for."""
    job = load("github_actions/deploy.yml")["jobs"]["deploy"]

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: known[found[1]], text)

    shared = {name: filled(text) for name, text in job["env"].items()}
    return [Step(filled(s["run"]), shared | s.get("env", {})) for s in job["steps"] if "run" in s]


def gitlab_steps() -> list[Step]:
    """The script of the job: GitLab's runner joins its lines into one."""
    job = load("gitlab_ci/.gitlab-ci.yml")["deploy"]
    return [Step("\n".join(job["script"]), job["variables"])]


def azure_steps(secrets: dict[str, str]) -> list[Step]:
    """The `bash:` steps of the deployment job; `secrets`: what its macros $(…) stand for."""
    pipeline = load("azure_pipelines/azure-pipelines.yml")
    job = pipeline["stages"][0]["jobs"][0]
    steps = job["strategy"]["runOnce"]["deploy"]["steps"]

    def filled(text: str) -> str:
        return re.sub(r"\$\(([\w.]+)\)", lambda found: secrets[found[1]], text)

    return [
        Step(s["bash"], pipeline["variables"] | {name: filled(text) for name, text in s.get("env", {}).items()})
        for s in steps
        if "bash" in s
    ]


def circleci_steps() -> list[Step]:
    """The `run` steps of the job."""
    job = load("circleci/config.yml")["jobs"]["deploy"]
    return [Step(s["run"]["command"], job["environment"]) for s in job["steps"] if isinstance(s, dict) and "run" in s]


def workspace(folder: Path, **scripts: str) -> Path:
    """A checkout of the user's repository: shell scripts, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts.items():
        path = folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return folder


def runner(spool: Path, url: str, python: Path, **settings: str) -> dict[str, str]:
    """The environment of a runner that has deploytrail already, and no network to have it from."""
    env = environment(spool, **PATIENT)
    for name in ("DEPLOYTRAIL_ENVIRONMENT", "DEPLOYTRAIL_SERVICE", "DEPLOYTRAIL_REGION"):
        del env[name]
    offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    path = f"{python.parent}{os.pathsep}{env['PATH']}"
    return env | offline | {"PATH": path, "DEPLOYTRAIL_URL": url} | settings


def run(step: Step, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a step as runners do: by bash, up to the first error. The runner's variables win over the example's."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.script],
        env=step.variables | env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
