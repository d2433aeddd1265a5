"""An RFC 3161 time stamp authority for tests: `openssl ts` behind HTTP, with certificates of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_CONFIGURATION = """
[tsa]
default_tsa = this
[this]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[stamps]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_authority(folder: Path) -> Path:
    """Keys and certificates of an authority; the file of its root."""
    (folder / "configuration").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "serial").write_text("01\n")
    where = {name: str(folder / name) for name in ("root.key", "root.pem", "tsa.key", "tsa.csr", "tsa.pem")}
    configuration = str(folder / "configuration")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", configuration)
    _openssl("req", "-x509", *new, "-keyout", where["root.key"], "-out", where["root.pem"], "-days", "30",
             "-subj", "/CN=Test root", "-extensions", "ca")  # fmt: skip
    _openssl("req", *new, "-keyout", where["tsa.key"], "-out", where["tsa.csr"], "-subj", "/CN=Test time stamps")
    _openssl("x509", "-req", "-in", where["tsa.csr"], "-CA", where["root.pem"], "-CAkey", where["root.key"],
             "-days", "30", "-out", where["tsa.pem"], "-extfile", configuration, "-extensions", "stamps")  # fmt: skip
    return folder / "root.pem"


@contextmanager
def authority_at(folder: Path) -> Iterator[str]:
    """The authority of a folder behind HTTP; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

        def do_POST(self) -> None:
            query = folder / "query"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            answer = _openssl("ts", "-reply", "-config", str(folder / "configuration"), "-section", "this",
                              "-queryfile", str(query))  # fmt: skip
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
