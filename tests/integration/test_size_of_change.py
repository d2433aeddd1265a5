"""How large a change is: `deploytrail run` and `start` ask git for the commit that they report, and wait for nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from support.spool import command, environment, stored

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
_QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
_WHO = {f"GIT_{who}_{what}": f"test@{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Repository:
    """A repository with three commits of 10, 20 and 40 lines; the first has the tag v1.0.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q")
        self.commits = [self.commit(name, lines) for name, lines in (("a", 10), ("b", 20), ("c", 40))]
        self.git("tag", "v1.0.0", self.commits[0])

    def git(self, *words: str) -> str:
        env = {**os.environ, **_QUIET, **_WHO}
        done = subprocess.run(["git", *words], cwd=self.folder, env=env, capture_output=True, timeout=60, check=True)
        return done.stdout.decode().strip()

    def commit(self, name: str, lines: int) -> str:
        (self.folder / name).write_text("line\n" * lines)
        self.git("add", "-A")
        self.git("commit", "-q", "--no-gpg-sign", "-m", name)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def sizes(spool: Path, folder: Path, *words: str, **settings: str) -> list[str | None]:
    """The tag of each event of `deploytrail run` in a folder."""
    env = environment(spool, **_QUIET, **settings)
    done = command("run", *words, "--", "true", env=env, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return [event["tags"].get("lines_changed") for event in stored(spool)]


@pytest.mark.requirement("M4.3")
def test_the_size_is_that_of_the_commit_that_is_reported(repository: Repository, tmp_path: Path) -> None:
    first, second, third = repository.commits
    (repository.folder / "deploy").mkdir()
    folder = repository.folder / "deploy"
    cases = {
        "parent": (["--commit-sha", third], {}, "40"),
        "abbreviated": (["--commit-sha", second[:10]], {}, "20"),
        "previous": (["--commit-sha", third, "--previous-version", "1.0.0"], {}, "60"),
        "built_before": (["--version", "2"], {"DEPLOYTRAIL_COMMIT_SHA": third, "CI_COMMIT_BEFORE_SHA": first}, "60"),
        "new_branch": (["--version", "2"], {"DEPLOYTRAIL_COMMIT_SHA": third, "CI_COMMIT_BEFORE_SHA": "0" * 40}, "40"),
        "back": (["--commit-sha", first, "--previous-version", third], {}, "60"),
        "said": (["--commit-sha", third, "--tag", "lines_changed=7"], {}, "7"),
    }
    for name, (words, settings, expected) in cases.items():
        assert sizes(tmp_path / name, folder, *words, **settings) == [expected] * 2, name


@pytest.mark.requirement("M4.3")
def test_a_size_is_never_made_up(repository: Repository, tmp_path: Path) -> None:
    first, _, third = repository.commits
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cases = {
        "no_commit": (repository.folder, ["--version", "2"], {}),
        "another_repository": (repository.folder, ["--commit-sha", "9" * 40], {}),
        "no_repository": (elsewhere, ["--commit-sha", third], {}),
        "the_first_commit": (repository.folder, ["--commit-sha", first], {}),
        "no_commit_at_all": (repository.folder, ["--commit-sha", "main"], {}),
        "no_git": (repository.folder, ["--commit-sha", third], {"PATH": str(tmp_path / "empty")}),
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "true").symlink_to(shutil.which("true") or "/bin/true")
    for name, (folder, words, settings) in cases.items():
        assert sizes(tmp_path / name, folder, *words, **settings) == [None] * 2, name


@pytest.mark.requirement("M2.2", "M4.3")
def test_no_program_of_the_repository_runs_and_a_slow_git_keeps_no_deploy_waiting(
    repository: Repository, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    for name in ("diff.external", "core.fsmonitor", "diff.mine.textconv", "core.pager"):
        repository.git("config", name, f"touch {mark}; false")
    (repository.folder / ".gitattributes").write_text("* diff=mine\n")
    third = repository.commits[-1]
    assert sizes(tmp_path / "spool", repository.folder, "--commit-sha", third) == ["40"] * 2
    assert not mark.exists()
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (slow / "git").chmod(0o755)
    began = time.monotonic()
    path = f"{slow}{os.pathsep}{os.environ['PATH']}"

    assert sizes(tmp_path / "waits", repository.folder, "--commit-sha", third, PATH=path) == [None] * 2
    assert time.monotonic() - began < 60  # a second, and however slow this machine is


def test_start_tells_the_size_too(repository: Repository, tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", **_QUIET)
    done = command("start", "--commit-sha", repository.commits[1], env=env, cwd=repository.folder)
    [started] = stored(tmp_path / "spool")

    assert done.returncode == 0
    assert started["tags"]["lines_changed"] == "20"
