"""`deploytrail require-permit` against a gate that misbehaves: whatever is no clear yes stops the deploy."""

from __future__ import annotations

import http.server
import json
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

ASKED = ["require-permit", "--artifact-digest", DIGEST, "--deployment-id", "checkout-42"]
Answers = list[tuple[int, Any]]


def fresh(**changed: Any) -> str:
    now = int(time.time())
    return permit(**{"iat": now, "nbf": now, "exp": now + 300, **changed})


class Misbehaving:
    """A gate that gives its answers one after the other, the last one for good; an answer is a status and a body."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.asked: list[tuple[dict[str, Any], str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, jwks())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((body, self.headers.get("Authorization", "")))
                status, said = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self._say(status, said if isinstance(said, bytes) else json.dumps(said).encode())

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def gate() -> Iterator[Misbehaving]:
    found = Misbehaving()
    yield found
    found.close()


def ask(gate: Misbehaving, tmp_path: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    said = {"GATE_URL": gate.url, "PERMIT_ISSUER": ISSUER, "PERMIT_AUDIENCE": AUDIENCE, **settings}
    env = environment(tmp_path / "spool", **{f"DEPLOYTRAIL_{name}": text for name, text in said.items()})
    return command(*ASKED, "--wait", "1", *words, env=env)


@pytest.mark.requirement("M5.4")
def test_a_permit_that_holds_is_handed_over(gate: Misbehaving, tmp_path: Path) -> None:
    text = fresh()
    gate.answers = [(200, {"permit": text, "reason": "approved"})]
    printed = ask(gate, tmp_path, TOKEN="secret-of-the-job")
    written = ask(gate, tmp_path, "--out", str(tmp_path / "permit"), DEPLOYER="dora")

    assert (printed.returncode, printed.stdout) == (0, f"{text}\n")
    assert "allowed (approved): the permit permit-1 for checkout-42, ticket CHG0031337" in printed.stderr
    assert (written.returncode, written.stdout) == (0, "")
    assert (tmp_path / "permit").read_text() == f"{text}\n"
    assert (tmp_path / "permit").stat().st_mode & 0o777 == 0o600
    place = {"service": "checkout", "environment": "production", "region": "eu-west-1"}
    question = {"deployment_id": "checkout-42", "artifact_digest": DIGEST, **place}
    assert gate.asked == [(question, "Bearer secret-of-the-job"), (question | {"deployer": "dora"}, "")]
    assert "secret-of-the-job" not in printed.stderr


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ((403, {"verdict": "refused", "reasons": [{"reason": "no_approval", "detail": "nobody has"}]}), 77,
         "no_approval: nobody has"),
        ((403, {"verdict": "uncertain", "reasons": []}), 77, "the gate's verdict is uncertain"),
        ((403, {"reason": "out_of_scope", "detail": "the token may not ask"}), 77, "out_of_scope: the token may not"),
        ((403, b"<html>blocked by the proxy</html>"), 69, "the gate answers 403"),
        ((401, {"detail": "no token"}), 69, "the gate answers 401: no token"),
        ((404, b"nothing here"), 69, "the gate answers 404"),
        ((422, {"detail": "colour is no field here"}), 69, "colour is no field here"),
        ((307, b""), 69, "the gate answers 307"),
        ((503, {"detail": "not read to its end"}), 69, "the gate answers 503: not read to its end"),
        ((200, {}), 77, "no_permit"),
        ((200, b"[]"), 77, "no_permit"),
        ((200, {"permit": "yes"}), 77, "malformed"),
        ((204, b""), 69, "the gate answers 204"),
    ],
)  # fmt: skip
def test_whatever_is_no_clear_yes_stops_the_deploy(
    gate: Misbehaving, tmp_path: Path, answer: tuple[int, Any], status: int, words: str
) -> None:
    gate.answers = [answer]
    done = ask(gate, tmp_path)

    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: fresh(artifact_digest=OTHER_DIGEST), "other_artifact"),
        (lambda: fresh(sub="cart-1"), "other_deployment"),
        (lambda: fresh(aud="somebody"), "wrong_audience"),
        (lambda: fresh(iss="https://evil.example"), "wrong_issuer"),
        (lambda: fresh(iat=1, nbf=1, exp=2), "expired"),
        (lambda: fresh(exp=int(time.time()) + 86_400), "too_long_lived"),
        (lambda: fresh(nbf=int(time.time()) + 120), "not_yet_valid"),
        (lambda: fresh(head={"kid": "2020-01"}), "unknown_key"),
        (lambda: permit(OTHER_KEY), "wrong_signature"),
        (lambda: fresh(head={"typ": "JWT"}), "wrong_type"),
        (lambda: fresh(jti=None), "missing_claim"),
    ],
)
def test_a_permit_that_does_not_hold_is_a_no(gate: Misbehaving, tmp_path: Path, make: Any, reason: str) -> None:
    gate.answers = [(200, {"permit": make()})]
    done = ask(gate, tmp_path)

    assert (done.returncode, done.stdout) == (77, "")
    assert f"  {reason}: " in done.stderr


@pytest.mark.requirement("M5.4")
def test_a_gate_that_is_away_is_asked_again(gate: Misbehaving, tmp_path: Path) -> None:
    gate.answers = [(503, {}), (503, {}), (200, {"permit": fresh()})]

    assert ask(gate, tmp_path, "--wait", "10").returncode == 0
    assert len(gate.asked) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"GATE_URL": ""}, "which gate? Set DEPLOYTRAIL_GATE_URL"),
        ({"GATE_URL": "http://gate.example"}, "expected https://"),
        ({"GATE_URL": "ftp://127.0.0.1"}, "expected https://"),
        ({"GATE_URL": "https://me:secret@gate.example"}, "the token is DEPLOYTRAIL_TOKEN"),
        ({"GATE_URL": "http://127.0.0.1:9"}, "the gate does not answer"),
        ({"PERMIT_ISSUER": ""}, "Set DEPLOYTRAIL_PERMIT_ISSUER"),
        ({"SERVICE": ""}, "the gate must be told service"),
    ],
)
def test_settings_that_cannot_do_are_no_answer(
    gate: Misbehaving, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    gate.answers = [(200, {"permit": fresh()})]
    done = ask(gate, tmp_path, **settings)

    assert (done.returncode, done.stdout) == (69, "")
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_scripts_ask_by_one_call(gate: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deploytrail

    for name, text in {"GATE_URL": gate.url, "PERMIT_ISSUER": ISSUER, "PERMIT_AUDIENCE": AUDIENCE}.items():
        monkeypatch.setenv(f"DEPLOYTRAIL_{name}", text)
    place = {"service": "checkout", "environment": "production", "region": "eu-west-1", "deployment_id": "checkout-42"}
    gate.answers = [(200, {"permit": fresh()}), (403, {"verdict": "refused", "reasons": []}), (404, {})]
    given = deploytrail.require_permit(DIGEST, **place)

    assert (given.permit.deployment_id, given.permit.artifact_digest) == ("checkout-42", DIGEST)
    with pytest.raises(deploytrail.PermitRefused, match="the gate's verdict is refused"):
        deploytrail.require_permit(DIGEST, **place)
    with pytest.raises(deploytrail.NoPermitAnswer, match="404"):
        deploytrail.require_permit(DIGEST, **place)
