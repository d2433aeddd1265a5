"""`deploytrail admission` over TLS: it answers as Kubernetes asks, and records behind its answers."""

from __future__ import annotations

import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from deploytrail_local import ports
from support.certificates import write_certificate
from support.commands import running
from support.gateways import Received, gateway
from support.kubernetes import request, review, workload
from support.permits import AUDIENCE, ISSUER, OTHER_KEY, jwk_of, jwks, permit
from support.spool import command, environment, stored

Ask = Callable[..., dict[str, Any]]


def fresh(**changed: Any) -> str:
    now = int(time.time())
    return permit(**{"iat": now, "nbf": now, "exp": now + 300, **changed})


def settings(folder: Path, url: str, **more: str) -> dict[str, str]:
    keys = folder / "keys.json"
    if not keys.exists():
        keys.write_bytes(jwks())
    said = {
        "URL": url,
        "PERMIT_KEYS": str(keys),
        "PERMIT_ISSUER": ISSUER,
        "PERMIT_AUDIENCE": AUDIENCE,
        "CLUSTER": "prod-1",
        **more,
    }
    return environment(folder / "spool", **{f"DEPLOYTRAIL_{name}": text for name, text in said.items()})


class Webhook:
    """A running webhook, and a client that trusts it."""

    def __init__(self, folder: Path, port: int, said: list[str]) -> None:
        self.folder, self.port, self.said = folder, port, said
        self.client = httpx.Client(
            base_url=f"https://localhost:{port}",
            verify=ssl.create_default_context(cafile=str(folder / "tls.crt")),
            timeout=60,
        )

    def ask(self, asked: dict[str, Any], path: str = "/regulated") -> dict[str, Any]:
        answered = self.client.post(path, json=review(asked))
        assert answered.status_code == 200, answered.text
        return answered.json()["response"]

    def serial(self) -> int:
        pem = ssl.get_server_certificate(("localhost", self.port))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


@contextmanager
def webhook(folder: Path, url: str, **more: str) -> Iterator[Webhook]:
    certificate, key, _ = write_certificate(folder)
    port = ports.free_port()
    words = ["admission", "--host", "127.0.0.1", "--port", str(port), "--certificate", str(certificate)]
    with running(*words, "--key", str(key), env=settings(folder, url, **more), cwd=folder) as process:
        made = Webhook(folder, port, process.lines)
        yield made
        made.client.close()
        assert process.stop() == 0


@pytest.fixture
def there() -> Iterator[Received]:
    with gateway(lambda values, _: (202, {"accepted": len(values), "received_at": time.time_ns() // 1000})) as received:
        yield received


@pytest.mark.requirement("M5.4", "M8.6")
def test_a_permitted_image_comes_in_another_does_not_and_both_are_recorded(there: Received, tmp_path: Path) -> None:
    with webhook(tmp_path, there.url) as hook:
        text = fresh()
        good = hook.ask(request(workload(permit=text), uid="u-1"))
        dry = hook.ask(request(workload(), uid="u-2", dryRun=True))
        bad = hook.ask(request(workload(), uid="u-3", user="mallory"))
        elsewhere = hook.ask(request(workload(namespace="lab"), uid="u-4"), "/unregulated")
        metrics = hook.client.get("/metrics").text
        wait_until(lambda: len(there.events) == 2)
    paths = {headers["path"] for headers, _ in there.requests}
    records = {record["approval_type"]: record for record in there.events}

    assert [(a["uid"], a["allowed"]) for a in (good, dry, bad, elsewhere)] == [
        ("u-1", True),
        ("u-2", False),
        ("u-3", False),
        ("u-4", True),
    ]
    assert paths == {"/v1/approvals"}
    assert len(there.events) == 2
    assert records["permit_used"]["tags"]["permit_id"] == "permit-1"
    assert (records["rejected"]["tags"]["user"], records["rejected"]["tags"]["reasons"]) == ("mallory", "no_permit")
    assert 'deploytrail_admission_requests_total{allowed="false",reason="permit_refused"} 2.0' in metrics


def test_a_pod_that_sends_without_end_keeps_nobody_from_an_answer(there: Received, tmp_path: Path) -> None:
    """Whatever runs in the cluster reaches the webhook; behind it stand all changes of regulated namespaces."""
    with webhook(tmp_path, there.url) as hook:
        context = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))

        def connect() -> ssl.SSLSocket:
            return context.wrap_socket(
                socket.create_connection(("127.0.0.1", hook.port), 60), server_hostname="localhost"
            )

        with connect() as endless, pytest.raises(OSError):  # reset or broken pipe, as it comes
            endless.sendall(b"POST /regulated HTTP/1.1\r\nHost: a\r\nX: ")
            for _ in range(1000):
                endless.sendall(b"a" * 10_000)
        with connect() as gone:
            gone.sendall(b"POST /regulated HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{")
        answered = hook.ask(request(workload(), uid="u-1"))
    assert (answered["uid"], answered["allowed"]) == ("u-1", False)
    assert "Traceback" not in "".join(hook.said)


@pytest.mark.requirement("M5.4")
def test_a_permit_serves_one_change_of_a_workload(there: Received, tmp_path: Path) -> None:
    text = fresh()
    with webhook(tmp_path, there.url) as hook:
        allowed = [
            hook.ask(request(workload(permit=text), workload("Deployment", "old", generation=generation)))["allowed"]
            for generation in (5, 5, 7)
        ]

    assert allowed == [True, True, False]


@pytest.mark.requirement("M8.6")
def test_a_gateway_that_is_away_delays_no_answer_and_loses_no_record(tmp_path: Path) -> None:
    took = []
    with webhook(tmp_path, f"http://127.0.0.1:{ports.free_port()}") as hook:
        for number in range(40):
            began = time.perf_counter()
            assert hook.ask(
                request(workload(permit=fresh(jti=f"permit-{number}"), name=f"c{number}"), uid=f"u-{number}")
            )["allowed"]
            took.append(time.perf_counter() - began)
    print(f"admission: {statistics.median(took) * 1000:.1f} ms an answer")  # noqa: T201  # shown by pytest -rP

    assert statistics.median(took) < 0.5  # a few milliseconds, and a busy machine's own
    assert len({record["approval_id"] for record in stored(tmp_path / "spool")}) == 40


@pytest.mark.requirement("M8.6")
def test_without_keys_it_is_not_ready_and_fails_closed_there_and_open_elsewhere(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{ports.free_port()}"
    with webhook(tmp_path, away, PERMIT_KEYS=f"{away}/keys") as hook:
        asked = request(workload(permit=fresh()))
        answers = [hook.ask(asked, path) for path in ("/regulated", "/unregulated")]
        status = [hook.client.get(path).status_code for path in ("/readyz", "/healthz")]

    assert [answered["allowed"] for answered in answers] == [False, True]
    assert "no_keys" in answers[0]["status"]["message"]
    assert status == [503, 200]


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.mark.requirement("M8.6")
def test_a_renewed_certificate_and_renewed_keys_are_taken_without_a_restart(there: Received, tmp_path: Path) -> None:
    with webhook(tmp_path, there.url) as hook:
        before = hook.serial()
        asked = request(workload(permit=fresh(key=OTHER_KEY, head={"kid": "2026-12"})))
        assert "unknown_key" in hook.ask(asked)["status"]["message"]
        (tmp_path / "keys.json").write_bytes(jwks(jwk_of(), jwk_of(OTHER_KEY, "2026-12")))
        (tmp_path / "tls.key").write_text("half a key")
        time.sleep(2.5)
        torn = hook.serial()
        _, _, serial = write_certificate(tmp_path)
        wait_until(lambda: hook.serial() == serial)
        wait_until(lambda: hook.ask(asked)["allowed"])

    assert (torn, serial != before) == (before, True)


@pytest.mark.requirement("M8.6")
def test_what_is_no_review_is_left_to_the_failure_policy(there: Received, tmp_path: Path) -> None:
    other = review(request(workload())) | {"apiVersion": "admission.k8s.io/v1beta1"}
    with webhook(tmp_path, there.url) as hook:
        answers = [
            hook.client.post("/regulated", content=body).status_code
            for body in (
                b"",
                b"{",
                b"[]",
                b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
                b"0" * (9 << 20),
            )
        ]
        answers.append(hook.client.post("/regulated", json=other).status_code)
        answers.append(hook.client.post("/nothing", json={}).status_code)

    assert answers == [400, 400, 400, 400, 400, 400, 404]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"URL": ""}, "DEPLOYTRAIL_URL says where"),
        ({"PERMIT_ISSUER": ""}, "Set DEPLOYTRAIL_PERMIT_ISSUER"),
        ({"NAMESPACE_ENVIRONMENTS": "shop"}, "DEPLOYTRAIL_NAMESPACE_ENVIRONMENTS has 'shop'"),
    ],
)
def test_a_setting_that_is_wrong_is_named(tmp_path: Path, changed: dict[str, str], expected: str) -> None:
    certificate, key, _ = write_certificate(tmp_path)
    words = ["admission", "--port", "0", "--certificate", str(certificate), "--key", str(key)]
    done = command(
        *words, env=settings(tmp_path, "http://127.0.0.1:1") | {f"DEPLOYTRAIL_{n}": t for n, t in changed.items()}
    )

    assert done.returncode == 78
    assert expected in done.stderr


def test_a_key_that_does_not_fit_is_said(tmp_path: Path) -> None:
    certificate, _, _ = write_certificate(tmp_path)
    _, other, _ = write_certificate(tmp_path, "other")
    words = ["admission", "--port", "0", "--certificate", str(certificate), "--key", str(other)]
    done = command(*words, env=settings(tmp_path, "http://127.0.0.1:1"))

    assert done.returncode == 78
    assert "are no certificate with its key" in done.stderr
