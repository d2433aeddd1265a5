"""The archive of Kafka's classes, with the real Java: it is made once and used; without it all goes on as before."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from deploytrail_local.java import find_java
from deploytrail_local.java_classes import ClassArchive
from deploytrail_local.kafka_broker import resolve_jars
from deploytrail_schemas.errors import MissingDependencyError

FROM_ARCHIVE = "source: shared objects file (top)"  # Java's own classes come from the one below it


@pytest.fixture(scope="module")
def kafka_jars() -> tuple[Path, str]:
    """A Java, and Kafka's class path."""
    try:
        return find_java(), os.pathsep.join(map(str, resolve_jars()))
    except MissingDependencyError as error:
        pytest.skip(str(error))


def an_id(kafka_jars: tuple[Path, str], *options: str) -> subprocess.CompletedProcess[str]:
    """A program of Kafka's that ends at once and prints an id."""
    java, classpath = kafka_jars
    argv = [java, *options, "-cp", classpath, "kafka.tools.StorageTool", "random-uuid"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_what_was_read_once_is_not_read_again(kafka_jars: tuple[Path, str], tmp_path: Path) -> None:
    classes = ClassArchive(*kafka_jars, {"XDG_CACHE_HOME": str(tmp_path)})
    with classes.made_by() as options:
        first = an_id(kafka_jars, *options)
    again = an_id(kafka_jars, *classes.use, "-Xlog:class+load")
    with classes.made_by() as options:
        third = an_id(kafka_jars, *options, "-Xlog:class+load")

    assert first.returncode == 0
    assert "kafka.tools.StorageTool " + FROM_ARCHIVE in again.stdout
    assert FROM_ARCHIVE in third.stdout
    assert [path.name for path in (tmp_path / "deploytrail").iterdir()] == [classes.file.name]


def test_an_archive_that_does_not_fit_is_passed_over_in_silence(kafka_jars: tuple[Path, str], tmp_path: Path) -> None:
    classes = ClassArchive(*kafka_jars, {"XDG_CACHE_HOME": str(tmp_path)})
    classes.file.parent.mkdir()
    classes.file.write_bytes(b"of another Java" * 1000)
    done = an_id(kafka_jars, *classes.use)

    assert (done.returncode, len(done.stdout.split())) == (0, 1)
    assert "archive" not in done.stderr.lower()


def test_where_nothing_can_be_kept_java_starts_without(kafka_jars: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    classes = ClassArchive(*kafka_jars, {"XDG_CACHE_HOME": str(tmp_path / "a-file")})
    with classes.made_by() as options:
        pass

    assert (options, classes.use) == ([], [])


def test_what_programs_that_were_interrupted_have_left_goes_in_time(
    kafka_jars: tuple[Path, str], tmp_path: Path
) -> None:
    """Java writes on when its caller is gone."""
    classes = ClassArchive(*kafka_jars, {"XDG_CACHE_HOME": str(tmp_path)})
    old, young, other = (classes.file.with_name(name) for name in ("kafka-a.jsa.1.part", "kafka-a.jsa.2.part", "mine"))
    classes.file.parent.mkdir()
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    with classes.made_by():
        pass

    assert {path for path in classes.file.parent.iterdir()} == {young, other}


def test_an_end_that_is_not_good_leaves_no_archive(kafka_jars: tuple[Path, str], tmp_path: Path) -> None:
    classes = ClassArchive(*kafka_jars, {"XDG_CACHE_HOME": str(tmp_path)})
    with pytest.raises(RuntimeError), classes.made_by() as (option,):
        Path(option.partition("=")[2]).write_bytes(b"half")
        raise RuntimeError("it was killed")

    assert list((tmp_path / "deploytrail").iterdir()) == []


def test_another_java_and_other_jars_have_an_archive_of_their_own(tmp_path: Path) -> None:
    javas = [tmp_path / name for name in ("a", "b")]
    for java in javas:
        java.touch()
    of = {ClassArchive(java, path, {}).file for java in javas for path in ("a.jar", "a.jar:b.jar")}
    first = ClassArchive(javas[0], "a.jar", {}).file
    os.utime(javas[0], (1, 1))

    assert len(of) == 4
    assert ClassArchive(javas[0], "a.jar", {}).file != first  # a Java that was upgraded in its place
