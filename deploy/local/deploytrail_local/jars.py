"""Programs that come as jars: fetched once from Maven Central, and found in the user's cache by everyone afterwards.

In: what Maven calls a program. Out: its jars and all that they need, in one folder that is there whole or not at all.

jgo finds out what is needed and fetches it. It writes each jar in its place, and takes what stands there for whole:
after an interrupted download, or two at once, Kafka would not start any more. So it fetches into a folder beside, one
process at a time, and the folder gets its name once all is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploytrail_schemas.errors import MissingDependencyError


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what is fetched or made once is kept for every checkout."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "deploytrail"


def fetched(endpoint: str, *, cache: Path | None = None, repository: str = "") -> list[Path]:
    """The jars of an endpoint as jgo writes it: group:artifact:version, others behind a +.

    `cache`: the folder that keeps them, `cache_folder` by default. `repository`: the URL of another than Maven Central.
    MissingDependencyError where they are not kept and cannot be fetched.
    """
    folder = (cache or cache_folder()) / "jars" / hashlib.sha256(endpoint.encode()).hexdigest()[:16]
    try:
        if not folder.is_dir():
            with _one_at_a_time(folder):
                if not folder.is_dir():  # nobody else has fetched them while this one waited
                    _fetch(endpoint, folder, repository)
        return sorted(folder.glob("*.jar"))
    except Exception as error:  # jgo lets through whatever its HTTP client raises
        raise MissingDependencyError(
            f"{endpoint}: its jars are not in {folder.parent}, and {repository or 'Maven Central'} gives none: "
            f"{error}. Connect once; they are kept"
        ) from error


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back also by a process that is killed
        yield


def _fetch(endpoint: str, folder: Path, repository: str) -> None:
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    context = MavenContext(repo_cache=part / "repository", remote_repos={"central": repository or MAVEN_CENTRAL_URL})
    builder = EnvironmentBuilder(context=context, cache_dir=part / "envs", link_strategy=LinkStrategy.AUTO)
    jars = builder.from_endpoint(endpoint).all_jars
    whole = part / "whole"
    whole.mkdir()
    for jar in jars:
        Path(jar).rename(whole / Path(jar).name)
    whole.rename(folder)
    shutil.rmtree(part, ignore_errors=True)
