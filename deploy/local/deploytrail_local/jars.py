"""Programs that come as jars: fetched once from Maven Central, and found in the user's cache by everyone afterwards.

In: what Maven calls a program. Out: its jars and all that they need, in one folder that is there whole or not at all.

jgo finds out what is needed and fetches it. It writes each jar in its place, takes what stands there for whole, leaves
out what a description that it cannot read asks for, and only warns of a wrong sum: after one failed request, a download
that was interrupted, or two at once, Kafka would never start again. So it fetches into a folder beside; what is there
must be, to the byte, what `jars.lock` says; and then the folder gets its name.

`python -m deploytrail_local.jars` writes `jars.lock` anew, after a change of versions.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploytrail_schemas.errors import MissingDependencyError

KAFKA_VERSION = "4.4.0"
MIRROR_VERSION = "4.3.0"  # the newest that is published; it speaks with older and newer brokers
# Kafka's pom names no logging backend: without one the broker is mute. A binding of log4j would let its
# dependency management choose other versions of Kafka's own jars.
_LOGGING = "org.slf4j:slf4j-simple:1.7.36"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+{_LOGGING}"
MIRROR = f"org.apache.kafka:connect-mirror:{MIRROR_VERSION}+{_LOGGING}"
LOCK = Path(__file__).with_suffix(".lock")
Sums = dict[str, str]  # by name of a jar its SHA-256


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what is fetched or made once is kept for every checkout."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "deploytrail"


def fetched(
    endpoint: str, *, cache: Path | None = None, repository: str = "", locked: Sums | None = None
) -> list[Path]:
    """The jars of an endpoint as jgo writes it: group:artifact:version, others behind a +.

    `cache`: the folder that keeps them, `cache_folder` by default. `repository`: the URL of another than Maven Central.
    `locked`: what must come, by default what `jars.lock` says; what stands in neither is taken as it comes.
    MissingDependencyError where they are not kept and cannot be fetched, or are others.
    """
    wanted = read_lock().get(endpoint) if locked is None else locked
    folder = (cache or cache_folder()) / "jars" / hashlib.sha256(f"{endpoint} {wanted}".encode()).hexdigest()[:16]
    try:
        if not folder.is_dir():
            with _one_at_a_time(folder):
                if not folder.is_dir():  # nobody else has fetched them while this one waited
                    _fetch(endpoint, folder, repository, wanted)
        return sorted(folder.glob("*.jar"))
    except MissingDependencyError:
        raise
    except Exception as error:  # jgo lets through whatever its HTTP client raises
        raise MissingDependencyError(
            f"the jars of {endpoint} cannot be fetched from {repository or 'Maven Central'} into {folder.parent}: "
            f"{error}. Connect once; they are kept there"
        ) from error


def read_lock() -> dict[str, Sums]:
    """By endpoint, what its jars are."""
    found: dict[str, Sums] = {}
    sums: Sums = {}
    for line in LOCK.read_text().splitlines():
        word, _, name = line.partition("  ")
        if name:
            sums[name] = word
        else:
            found[word] = sums = {}
    return found


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back also by a process that is killed
        yield


def _fetch(endpoint: str, folder: Path, repository: str, wanted: Sums | None) -> None:
    for left in folder.parent.glob(f"{folder.name}.part-*"):  # by processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        jars = {jar.name: jar for jar in _download(endpoint, part, repository)}
        if wanted is not None:
            found = _sums(jars.values())
            if other := sorted(name for name, digest in wanted.items() if found.get(name) != digest):
                raise MissingDependencyError(
                    f"{repository or 'Maven Central'} gave others of the jars of {endpoint} than {LOCK.name} says: "
                    f"{', '.join(other[:3])}{' and more' if other[3:] else ''}. Try again: a request may have failed"
                )
            jars = {name: jars[name] for name in wanted}
        whole = part / "whole"
        whole.mkdir()
        for name, jar in jars.items():
            jar.rename(whole / name)
        whole.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(endpoint: str, part: Path, repository: str) -> list[Path]:
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    context = MavenContext(
        repo_cache=part / "repository", remote_repos={"central": repository or MAVEN_CENTRAL_URL}, timeout=30
    )
    builder = EnvironmentBuilder(context=context, cache_dir=part / "envs", link_strategy=LinkStrategy.COPY)
    return [Path(jar) for jar in builder.from_endpoint(endpoint).all_jars]


def _sums(jars: Iterable[Path]) -> Sums:
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in sorted(jars)}


def _lock() -> None:
    """Write down what Maven Central gives now."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for number, endpoint in enumerate((KAFKA, MIRROR)):
            found = _sums(_download(endpoint, Path(folder, str(number)), ""))
            lines += [endpoint, *(f"{digest}  {name}" for name, digest in found.items())]
    LOCK.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _lock()
