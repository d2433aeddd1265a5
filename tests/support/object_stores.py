"""S3 servers for the tests: moto, quick; versitygw, a real one with Object Lock; and a proxy that spoils answers."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deploytrail_local import ports
from deploytrail_sinks.archive.s3 import connect

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "deploytrail", "AWS_SECRET_ACCESS_KEY": "deploytrail-secret"}
REGION = "us-east-1"


def make_bucket(endpoint: str, bucket: str, *, lock: bool = True) -> None:
    """A bucket as an operator makes it for the archive: with versions and Object Lock."""
    connect(REGION, endpoint).create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock)


def url_of(endpoint: str, bucket: str, prefix: str = "trail", lock: str = "compliance") -> str:
    """What DEPLOYTRAIL_ARCHIVE is for a bucket of a server."""
    return f"s3://{bucket}/{prefix}?region={REGION}&endpoint={endpoint}&lock={lock}"


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of a moto server in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def find_versitygw() -> str:
    """The program; skips where there is none."""
    beside = shutil.which("versitygw", path=os.pathsep.join((os.environ.get("PATH", ""), *_go_folders())))
    if beside is None:
        pytest.skip("versitygw is missing: go install github.com/versity/versitygw/cmd/versitygw@latest")
    return beside


def _go_folders() -> list[str]:
    given = os.environ.get("GOBIN") or str(Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin")
    return [given]


@contextmanager
def versitygw(folder: Path) -> Iterator[str]:
    """The endpoint of a real S3 server whose buckets lie in a folder, which must take extended attributes."""
    program = find_versitygw()
    try:
        os.setxattr(folder, "user.deploytrail", b"1")
    except OSError as error:
        pytest.skip(f"{folder} takes no extended attributes, which versitygw needs: {error.strerror}")
    for name in ("buckets", "versions"):
        (folder / name).mkdir()
    port = ports.free_port()
    process = subprocess.Popen(
        [
            *(program, "--quiet", "--port", f"127.0.0.1:{port}", "--region", REGION),
            *("posix", "--versioning-dir", str(folder / "versions"), str(folder / "buckets")),
        ],
        env={
            "ROOT_ACCESS_KEY": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(60)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError(f"versitygw does not answer; exit code {process.poll()}")


Fault = Callable[["_Handler", bytes], None]


class FaultProxy:
    """Passes requests on; the first ones of a method get what `spoil` has put in the queue instead."""

    def __init__(self, endpoint: str) -> None:
        self.upstream = endpoint.removeprefix("http://")
        self.faults: list[tuple[str, Fault]] = []
        self.seen: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.proxy = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spoil(self, method: str, *faults: Fault) -> None:
        """Let the next requests of a method meet these faults, one each."""
        self.faults.extend((method, fault) for fault in faults)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return None

    def _serve(self) -> None:
        proxy: FaultProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.seen.append(self.command)
        for at, (method, fault) in enumerate(proxy.faults):
            if method == self.command:
                del proxy.faults[at]
                fault(self, body)
                return
        status, headers, answer = self.passed_on(body)
        self.answer(status, headers, answer)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server behind says. The host stays the one that was signed."""
        proxy: FaultProxy = self.server.proxy  # type: ignore[attr-defined]
        connection = http.client.HTTPConnection(proxy.upstream, timeout=30)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send an answer."""
        self.send_response_only(status)
        left_out = {"connection", "transfer-encoding", "content-length"}
        for name, value in headers:
            if name.lower() not in left_out or (name.lower() == "content-length" and self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def refused(status: int, code: str) -> Fault:
    """An error of S3, and nothing done."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants.</Message></Error>".encode()
    return lambda handler, _: handler.answer(status, [("Content-Type", "application/xml")], body)


def lost(handler: _Handler, body: bytes) -> None:
    """Done, and the answer never arrives."""
    handler.passed_on(body)
    handler.close_connection = True


def unheard(handler: _Handler, body: bytes) -> None:
    """Not done, and no answer."""
    handler.close_connection = True
