"""How many lines a change has, by git: the tag `lines_changed` of `deploytrail run` and `start`.

Asked only where the working directory lies in a repository that has the commit which is reported, against the commit
that ran before: the one that `--previous-version` names, else the one that the CI system built before, else the
commit's first parent. Nothing is fetched, and no program that the repository's configuration names is run. What fails
in any way, or takes longer than a second, says nothing: no deploy waits for a number.
"""

from __future__ import annotations

import os
import re
import time

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

TAG = "lines_changed"
_SECONDS = 1.0
# Renames are looked for among so many files; more count as deleted and added.
_RENAMES = 400
# What was built before: Jenkins' Git plugin, GitLab CI, Drone, Woodpecker.
_BUILT_BEFORE = ("GIT_PREVIOUS_SUCCESSFUL_COMMIT", "CI_COMMIT_BEFORE_SHA", "DRONE_COMMIT_BEFORE", "CI_PREV_COMMIT_SHA")
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)
# A version as a tag is called, and nothing that git takes for an option or an expression.
_REVISION = re.compile(r"[0-9A-Za-z_](?:[\w+/-]|\.(?!\.)){0,199}", re.ASCII)
_COUNT = re.compile(rb"(\d+) (?:insertion|deletion)", re.ASCII)
_GIT = (
    *("git", "--no-pager", "-c", "protocol.allow=never", "-c", "core.fsmonitor=false"),
    *("diff-tree", "-r", "-M", f"-l{_RENAMES}", "--shortstat", "--no-ext-diff", "--no-textconv"),
)


def with_size(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a deployment with the size of its change as a tag, where git can tell it and nobody said one."""
    tags = facts.get("tags", {})
    try:
        if TAG in tags or not _is_in_repository(os.getcwd()):  # noqa: PTH109  # light
            return facts
        size = _size(facts, os.environ)
    except Exception:  # whatever is wrong, the deploy goes on
        return facts
    return facts if size is None else facts | {"tags": {TAG: str(size), **tags}}


def _is_in_repository(folder: str) -> bool:
    while not os.path.exists(os.path.join(folder, ".git")):  # noqa: PTH110, PTH118  # light
        folder, before = os.path.dirname(folder), folder  # noqa: PTH120  # light
        if folder == before:
            return False
    return True


def _size(facts: Mapping[str, Any], environ: Mapping[str, str]) -> int | None:
    from deploytrail import _build_identity

    known = _build_identity.read(environ).get("commit_sha", "")
    commit = facts.get("commit_sha") or known
    if not _COMMIT.fullmatch(commit):
        return None
    deadline = time.monotonic() + _SECONDS
    for base in _bases(commit, facts.get("previous_version", ""), environ if commit == known else {}):
        if (size := _between(base, commit, deadline - time.monotonic())) is not None:
            return size
    return None


def _bases(commit: str, previous: str, environ: Mapping[str, str]) -> Iterator[str]:
    if _REVISION.fullmatch(previous):
        yield previous
        yield f"v{previous}"
    for name in _BUILT_BEFORE:
        before = environ.get(name, "")
        if _COMMIT.fullmatch(before) and before.strip("0"):  # zeros: of a new branch
            yield before
    yield f"{commit}^"


def _between(base: str, commit: str, seconds: float) -> int | None:
    """Lines that were added and deleted; None where git does not tell in time."""
    import subprocess

    if seconds <= 0:
        return None
    words = [*_GIT, f"{base}^{{commit}}", f"{commit}^{{commit}}", "--"]
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        timeout=seconds,
        check=False,
    )
    return sum(map(int, _COUNT.findall(done.stdout))) if done.returncode == 0 else None
