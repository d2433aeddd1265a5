"""Jars from a repository on loopback: fetched once, by several at once, and again after an interruption."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deploytrail_local.jars import KAFKA, MIRROR, cache_folder, fetched, read_lock
from deploytrail_schemas.errors import MissingDependencyError
from support.kafka import wait_for

ENDPOINT = "org.example:program:1.0"
PROGRAM = """\
import sys
from pathlib import Path
from deploytrail_local.jars import fetched
print(*(jar.name for jar in fetched(sys.argv[1], cache=Path(sys.argv[2]), repository=sys.argv[3])))
"""


def pom(name: str, needs: str = "") -> bytes:
    of = "<dependency><groupId>org.example</groupId><artifactId>{}</artifactId><version>1.0</version></dependency>"
    return f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>{name}</artifactId><version>1.0</version>
<dependencies>{of.format(needs) if needs else ""}</dependencies></project>""".encode()


def jar(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as content:
        content.writestr(f"org/example/{name}.class", os.urandom(300_000))
    return made.getvalue()


class Repository:
    """Two artefacts, of which `program` needs `library`. While it is `stuck`, each jar stops in its middle."""

    def __init__(self) -> None:
        self.files = {f"/org/example/{name}/1.0/{name}-1.0.jar": jar(name) for name in ("program", "library")}
        self.files["/org/example/program/1.0/program-1.0.pom"] = pom("program", "library")
        self.files["/org/example/library/1.0/library-1.0.pom"] = pom("library")
        self.asked: list[str] = []
        self.fails: set[str] = set()  # answered with 503, once
        self.halfway, self.goes_on = threading.Event(), threading.Event()
        self.goes_on.set()
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.asked.append(self.path)
                if self.path in repository.fails:
                    repository.fails.remove(self.path)
                    return self.send_error(503)
                content = repository.files.get(self.path.removesuffix(".sha1"))
                if content is None:
                    return self.send_error(404)
                if self.path.endswith(".sha1"):
                    content = hashlib.sha1(content).hexdigest().encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                middle = len(content) // 2
                self.wfile.write(content[:middle])
                if self.path.endswith(".jar"):
                    repository.halfway.set()
                    repository.goes_on.wait(60)
                return self.wfile.write(content[middle:]) and None

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def jars_asked(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.asked if path.endswith(".jar"))


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Repository()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.goes_on.set()
    made.server.shutdown()
    made.server.server_close()


def another(cache: Path, repository: Repository) -> subprocess.Popen[str]:
    """A process that fetches the same."""
    argv = [sys.executable, "-c", PROGRAM, ENDPOINT, str(cache), repository.url]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_jars_are_fetched_once_and_are_what_the_repository_has(repository: Repository, tmp_path: Path) -> None:
    jars = fetched(ENDPOINT, cache=tmp_path, repository=repository.url)
    again = fetched(ENDPOINT, cache=tmp_path, repository="http://127.0.0.1:9")

    assert [one.name for one in jars] == ["library-1.0.jar", "program-1.0.jar"]
    assert jars == again
    for one in jars:
        assert one.read_bytes() in repository.files.values()
    assert [one.name for one in (tmp_path / "jars").iterdir() if one.suffix == ".part"] == []


def test_a_download_that_was_killed_leaves_nothing_that_is_taken_for_whole(
    repository: Repository, tmp_path: Path
) -> None:
    repository.goes_on.clear()
    killed = another(tmp_path, repository)
    wait_for(lambda: any(one.stat().st_size for one in tmp_path.rglob("*.jar")), what="a part of a jar")
    killed.kill()
    killed.communicate()
    repository.goes_on.set()

    jars = fetched(ENDPOINT, cache=tmp_path, repository=repository.url)

    assert [one.name for one in jars] == ["library-1.0.jar", "program-1.0.jar"]
    assert {one.read_bytes() for one in jars} <= set(repository.files.values())


def test_several_at_once_fetch_them_once(repository: Repository, tmp_path: Path) -> None:
    repository.goes_on.clear()
    others = [another(tmp_path, repository) for _ in range(2)]
    assert repository.halfway.wait(60)
    with ThreadPoolExecutor() as pool:
        mine = pool.submit(fetched, ENDPOINT, cache=tmp_path, repository=repository.url)
        repository.goes_on.set()
        found = [other.communicate(timeout=60)[0].split() for other in others] + [[one.name for one in mine.result(60)]]

    assert found == [["library-1.0.jar", "program-1.0.jar"]] * 3
    assert repository.jars_asked == ["library-1.0.jar", "program-1.0.jar"]


def locked(repository: Repository) -> dict[str, str]:
    """What the repository should give."""
    jars = {path: content for path, content in repository.files.items() if path.endswith(".jar")}
    return {path.rpartition("/")[2]: hashlib.sha256(content).hexdigest() for path, content in jars.items()}


@pytest.mark.parametrize("name", ["program-1.0.pom", "library-1.0.pom", "library-1.0.jar"])
def test_a_request_that_fails_leaves_out_nothing(repository: Repository, tmp_path: Path, name: str) -> None:
    """jgo goes on where a description cannot be had: it only leaves out what that asks for."""
    repository.files["/org/example/library/1.0/library-1.0.pom"] = pom("library", "deep")
    repository.files["/org/example/deep/1.0/deep-1.0.pom"] = pom("deep")
    repository.files["/org/example/deep/1.0/deep-1.0.jar"] = jar("deep")
    repository.fails = {path for path in repository.files if path.endswith(name)}
    wanted = locked(repository)
    with pytest.raises(MissingDependencyError, match=r"org\.example:program:1\.0"):
        fetched(ENDPOINT, cache=tmp_path, repository=repository.url, locked=wanted)

    jars = fetched(ENDPOINT, cache=tmp_path, repository=repository.url, locked=wanted)
    assert {one.name for one in jars} == set(wanted)


def test_other_content_than_is_locked_is_not_kept(repository: Repository, tmp_path: Path) -> None:
    wanted = locked(repository)
    good, path = dict(repository.files), "/org/example/library/1.0/library-1.0.jar"
    repository.files[path] = jar("other")
    with pytest.raises(MissingDependencyError, match=r"gave others .* library-1\.0\.jar\. Try again"):
        fetched(ENDPOINT, cache=tmp_path, repository=repository.url, locked=wanted)

    repository.files = good
    jars = fetched(ENDPOINT, cache=tmp_path, repository=repository.url, locked=wanted)
    assert {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in jars} == wanted


def test_what_is_not_locked_does_not_come_onto_the_class_path(repository: Repository, tmp_path: Path) -> None:
    wanted = locked(repository)
    del wanted["library-1.0.jar"]

    assert [one.name for one in fetched(ENDPOINT, cache=tmp_path, repository=repository.url, locked=wanted)] == [
        "program-1.0.jar"
    ]


def test_a_cache_that_cannot_be_written_is_named(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingDependencyError, match=f"into {tmp_path}/file/jars: .*Not a directory"):
        fetched(ENDPOINT, cache=tmp_path / "file", repository=repository.url)


def test_the_lock_is_of_what_is_fetched() -> None:
    lock = read_lock()

    assert set(lock) == {KAFKA, MIRROR}
    for endpoint in lock:
        group, artifact, version = endpoint.partition("+")[0].split(":")
        assert f"{artifact}-{version}.jar" in lock[endpoint], group
        assert "slf4j-simple-1.7.36.jar" in lock[endpoint]
        assert all(len(digest) == 64 for digest in lock[endpoint].values())


def test_the_cache_is_where_the_user_keeps_such_things() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/kept"}) == Path("/kept/deploytrail")
    assert cache_folder({}) == Path.home() / ".cache" / "deploytrail"
