"""`deploytrail verify-permit`: 0 for a clear yes, 77 for a no with its reasons, 69 where nobody can tell."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploytrail_local import ports
from support.permits import AUDIENCE, DIGEST, ISSUER, OTHER_DIGEST, OTHER_KEY, jwks, permit
from support.spool import command, environment

ASKED = ["verify-permit", "--artifact-digest", DIGEST]


def fresh(**changed: Any) -> str:
    now = int(time.time())
    return permit(**{"iat": now, "nbf": now, "exp": now + 300, **changed})


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "keys.json").write_bytes(jwks())
    said = {"PERMIT_KEYS": str(tmp_path / "keys.json"), "PERMIT_ISSUER": ISSUER, "PERMIT_AUDIENCE": AUDIENCE}
    return environment(tmp_path / "spool", **{f"DEPLOYTRAIL_{name}": text for name, text in said.items()})


def ask(env: dict[str, str], *words: str, permit: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    return command(*ASKED, *words, env=env | {"DEPLOYTRAIL_PERMIT": permit}, **options)


@pytest.mark.requirement("M5.4")
def test_a_good_permit_is_allowed(env: dict[str, str]) -> None:
    done = ask(env, permit=fresh())

    assert (done.returncode, done.stdout) == (0, "")
    assert "the permit permit-1 allows it (ticket CHG0031337, deployment checkout-42)" in done.stderr


@pytest.mark.requirement("M5.4")
def test_a_refusal_names_every_reason(env: dict[str, str]) -> None:
    done = ask(env, "--service", "cart", "--deployment-id", "cart-1", permit=fresh(artifact_digest=OTHER_DIGEST))

    assert done.returncode == 77
    assert [line.partition(":")[0].strip() for line in done.stderr.splitlines()[1:]] == [
        "other_service",
        "other_deployment",
        "other_artifact",
    ]


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize("text", ["", "nonsense"])
def test_no_permit_is_a_no(env: dict[str, str], text: str) -> None:
    assert ask(env, permit=text).returncode == 77


def test_a_permit_comes_from_a_file_or_standard_input(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "permit").write_text(fresh() + "\n")

    assert ask(env, "--permit", str(tmp_path / "permit")).returncode == 0
    assert ask(env, "--permit", "-", input=fresh()).returncode == 0
    assert ask(env, "--permit", str(tmp_path / "nowhere")).returncode == 69


@pytest.mark.requirement("M5.4")
def test_a_permit_is_used_once_where_a_file_remembers(env: dict[str, str], tmp_path: Path) -> None:
    used = ["--used", str(tmp_path / "used")]
    first, second = fresh(), fresh(jti="permit-2")
    refused = ask(env, *used, "--service", "cart", permit=first).returncode
    answers = [ask(env, *used, permit=text) for text in (first, first, second, first)]

    assert (refused, [done.returncode for done in answers]) == (77, [0, 77, 0, 77])
    assert "already_used" in answers[1].stderr
    assert (tmp_path / "used").stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize("missing", ["KEYS", "ISSUER"])
def test_without_keys_or_issuer_nobody_can_tell(env: dict[str, str], missing: str) -> None:
    done = ask(env | {f"DEPLOYTRAIL_PERMIT_{missing}": ""}, permit=fresh())

    assert done.returncode == 69
    assert f"Set DEPLOYTRAIL_PERMIT_{missing}" in done.stderr


@pytest.mark.parametrize("keys", ["nowhere.json", "http://gate.example/keys"])
def test_keys_that_cannot_be_had_safely_are_no_answer(env: dict[str, str], keys: str) -> None:
    done = ask(env | {"DEPLOYTRAIL_PERMIT_KEYS": keys}, permit=fresh())

    assert done.returncode == 69
    assert keys in done.stderr


@pytest.fixture
def gate() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/keys" else 302)
            self.send_header("Location", "/keys")
            self.end_headers()
            self.wfile.write(jwks())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.requirement("M5.4")
def test_keys_are_fetched_from_the_gate_and_from_nowhere_else(env: dict[str, str], gate: str) -> None:
    answers = {
        url: ask(env | {"DEPLOYTRAIL_PERMIT_KEYS": url}, permit=fresh()).returncode
        for url in (f"{gate}/keys", f"{gate}/moved", f"http://127.0.0.1:{ports.free_port()}/keys")
    }

    assert list(answers.values()) == [0, 69, 69]
    assert ask(env | {"DEPLOYTRAIL_PERMIT_KEYS": f"{gate}/keys"}, permit=fresh(key=OTHER_KEY)).returncode == 77


def test_words_that_are_missing_are_named(env: dict[str, str]) -> None:
    done = ask(env | {"DEPLOYTRAIL_REGION": ""}, permit=fresh())

    assert done.returncode == 64
    assert "which region? Give --region NAME, or set DEPLOYTRAIL_REGION" in done.stderr
