"""The agent: what is spooled on a host is sent, and what it is told is kept until it is."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deploytrail_local import ports
from support.certificates import write_certificate
from support.commands import Command, running
from support.gateways import Received, gateway
from support.spool import command, environment, stored

EVENT = {"event_type": "started", "deployment_id": "d-1", "service": "shop", "environment": "e", "region": "r"}


@pytest.fixture
def there() -> Iterator[Received]:
    with gateway() as received:
        yield received


def wait_for(there: Received, count: int, seconds: float = 90.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while len(there.events) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return [event.get("deployment_id", "") for event in there.events]


@pytest.mark.requirement("M3.1", "M8.4")
def test_what_deploys_spool_is_sent_by_the_agent(there: Received, tmp_path: Path) -> None:
    spools = [tmp_path / "one", tmp_path / "two"]
    words = ["agent", "--port", "0", *(word for spool in spools for word in ("--spool", str(spool)))]
    before = command("start", env=environment(spools[0])).stdout.strip()
    with running(*words, env={"DEPLOYTRAIL_URL": there.url}, cwd=tmp_path) as agent:
        wait_for(there, 1)
        during = [command("start", env=environment(spool)).stdout.strip() for spool in spools]
        arrived = wait_for(there, 3)
        assert agent.stop() == 0

    assert arrived[0] == before
    assert sorted(arrived[1:]) == sorted(during)
    assert [stored(spool) for spool in spools] == [[], []]


def test_a_port_that_is_taken_is_named(there: Received, tmp_path: Path) -> None:
    port = there.url.rpartition(":")[2]
    done = command("agent", "--port", port, env=environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url))

    assert (done.returncode, f"port {port} of 127.0.0.1 cannot be had" in done.stderr) == (69, True)


@pytest.mark.requirement("M3.1", "M8.5")
def test_a_shell_needs_only_curl(there: Received, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    with running("agent", "--socket", str(path), "--port", "0", env=env, cwd=tmp_path) as agent:
        said = ["-d", "event_type=started", "-d", "deployment_id=d-9", "-d", "tags.sprint=42"]
        words = ["curl", "-sS", "--unix-socket", str(path), "http://agent/v1/events"]
        good = subprocess.run([*words, *said], capture_output=True, text=True, timeout=60, check=True)
        bad = subprocess.run([*words, *said, "-d", "versoin=4"], capture_output=True, text=True, timeout=60, check=True)
        wait_for(there, 1)
        mode = path.stat().st_mode & 0o777
        assert agent.stop() == 0
    [event] = there.events

    assert json.loads(good.stdout) == {"accepted": 1, "ids": [event["event_id"]]}
    assert json.loads(bad.stdout)["violations"][0]["pointer"] == "/versoin"
    assert (event["service"], event["environment"], event["region"]) == ("checkout", "production", "eu-west-1")
    assert (event["tags"], event["confidence"], event["producer_seq"]) == ({"sprint": "42"}, 0.9, 1)
    assert mode == 0o660
    assert not path.exists()


@pytest.mark.requirement("M3.1", "M8.4")
def test_what_was_acknowledged_survives_kill_9_and_is_sent_by_the_next(tmp_path: Path) -> None:
    port = ports.free_port()
    told: list[str] = []
    url = f"http://127.0.0.1:{port}/v1/events"
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=f"http://127.0.0.1:{ports.free_port()}")

    def tell() -> None:
        with httpx.Client(timeout=60) as client:
            while True:
                try:
                    answer = client.post(url, json=EVENT | {"deployment_id": f"d-{len(told)}"})
                except httpx.HTTPError:
                    return
                told.extend(answer.json()["ids"])

    for enough in (20, 40, 60):
        agent = Command("agent", "--port", str(port), env=env, cwd=tmp_path).wait_ready()
        teller = threading.Thread(target=tell)
        teller.start()
        deadline = time.monotonic() + 60
        while len(told) < enough and time.monotonic() < deadline:
            time.sleep(0.005)
        agent.kill()
        teller.join(90)
    with gateway() as there, running("agent", "--port", "0", env=env | {"DEPLOYTRAIL_URL": there.url}, cwd=tmp_path):
        wait_for(there, len(told))

    assert len(told) >= 60
    assert set(told) <= {event["event_id"] for event in there.events}


@pytest.mark.requirement("M7.3")
def test_every_kind_that_the_agent_is_told_of_carries_its_number_so_that_none_looks_lost(
    there: Received, tmp_path: Path
) -> None:
    port = ports.free_port()
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    told = (
        ("events", EVENT),
        ("signals", {"signal_type": "alert_firing", "labels": {"alertname": "Slow", "producer_seq": "77"}}),
        ("approvals", {"approval_type": "approved", "deployment_id": "d-1", "tags": {"board": "cab"}}),
        ("observations", {"observation_type": "running", "version": "4.2"}),
        ("events", EVENT),
    )
    with running("agent", "--port", str(port), env=env, cwd=tmp_path) as agent:
        answers = [
            httpx.post(f"http://127.0.0.1:{port}/v1/{kind}", json=said, timeout=60).status_code for kind, said in told
        ]
        wait_for(there, len(told))
        assert agent.stop() == 0
    numbers = sorted(
        int(value.get("producer_seq") or (value.get("labels") or value["tags"])["producer_seq"])
        for value in there.events
    )
    maps = [value[name] for value in there.events for name in ("labels", "tags") if value.get(name)]

    assert answers == [202] * len(told)
    assert numbers == [1, 2, 3, 4, 5]
    assert len({value["producer_id"] for value in there.events}) == 1
    assert {"alertname": "Slow", "producer_seq": "2"} in maps
    assert {"board": "cab", "producer_seq": "3"} in maps


def test_an_agent_takes_the_socket_of_a_dead_one_and_not_of_a_living_one(there: Received, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    with running("agent", "--socket", str(path), "--port", "0", env=env, cwd=tmp_path):
        second = command("agent", "--socket", str(path), "--port", "0", env=env)

    assert second.returncode == 69
    assert f"another agent listens on {path}" in second.stderr


def test_an_agent_without_an_address_says_so(tmp_path: Path) -> None:
    done = command("agent", env=environment(tmp_path))

    assert done.returncode == 78
    assert "DEPLOYTRAIL_URL says where to send" in done.stderr


def test_bad_requests_are_answered_and_the_agent_lives_on(there: Received, tmp_path: Path) -> None:
    port = ports.free_port()
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    head = b"POST /v1/events HTTP/1.1\r\n"
    with running("agent", "--port", str(port), env=env, cwd=tmp_path):
        base = f"http://127.0.0.1:{port}"
        answers = [
            httpx.post(f"{base}/v1/nothing", json={}, timeout=60).status_code,
            httpx.post(
                f"{base}/v1/events", content=b"a,b", headers={"Content-Type": "text/csv"}, timeout=60
            ).status_code,
            httpx.post(f"{base}/v1/events", content=b'{"a": 1, "a": 2}', timeout=60).status_code,
            httpx.post(f"{base}/v1/events", json=[EVENT] * 10_001, timeout=60).status_code,
            httpx.get(f"{base}/v1/events", timeout=60).status_code,
            httpx.get(f"{base}/healthz", timeout=60).status_code,
        ]
        for junk in (b"\x00\xff\r\n\r\n", head + b"\r\n", head + b"Content-Length: 9\r\n\r\n{"):
            with socket.create_connection(("127.0.0.1", port), 60) as raw:
                raw.sendall(junk)
                raw.shutdown(socket.SHUT_WR)
                raw.recv(1000)
        metrics = httpx.get(f"{base}/metrics", timeout=60).text

    assert answers == [404, 415, 400, 413, 404, 200]
    assert "deploytrail_agent_waiting_events 0" in metrics


@pytest.mark.requirement("M3.1")
def test_no_page_in_a_browser_reports_and_a_process_does(there: Received, tmp_path: Path) -> None:
    """A page may post a form, or a body without a type, to any port of localhost without asking first."""
    port, path = ports.free_port(), tmp_path / "agent.sock"
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    pages: list[dict[str, str]] = [
        form | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        form | {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"},
        form | {"Host": f"evil.example:{port}"},
        form | {"Host": "127.0.0.1.evil.example"},
    ]
    processes = [form | {"Host": host} for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LocalHost")]
    with running("agent", "--port", str(port), "--socket", str(path), env=env, cwd=tmp_path):
        url, body = f"http://127.0.0.1:{port}/v1/events", b"event_type=started&deployment_id=d-1"
        refused = [httpx.post(url, content=body, headers=headers, timeout=60).status_code for headers in pages]
        rebound = httpx.get(
            f"http://127.0.0.1:{port}/metrics", headers={"Host": "evil.example"}, timeout=60
        ).status_code
        taken = [httpx.post(url, content=body, headers=headers, timeout=60).status_code for headers in processes]
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=60) as client:
            over_unix = client.post("http://agent/v1/events", content=body, headers=form).status_code
        wait_for(there, 5)

    assert refused == [403] * len(pages)
    assert (rebound, taken, over_unix) == (403, [202] * len(processes), 202)
    assert len(there.events) == 5


def test_what_follows_a_body_of_doubtful_length_is_not_read_as_a_request(there: Received, tmp_path: Path) -> None:
    port = ports.free_port()
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url)
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lengths = [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n",
        b"Content-Length: \xd9\xa2\r\n",
    ]
    answers = []
    with running("agent", "--port", str(port), env=env, cwd=tmp_path) as agent:
        for length in lengths:
            with socket.create_connection(("127.0.0.1", port), 60) as raw:
                raw.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n{}" + hidden)
                answers.append(b"".join(iter(lambda: raw.recv(65536), b"")))
        gone = socket.create_connection(("127.0.0.1", port), 60)
        gone.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        assert agent.stop() == 0

    assert [answer.split(b" ")[1] for answer in answers] == [b"411", b"411", b"413", b"411"]
    assert [answer.count(b"HTTP/1.1 ") for answer in answers] == [1] * 4
    assert "Traceback" not in "".join(agent.lines)


def at_rest(pid: int, seconds: float = 30.0) -> int:
    """The KB that a process holds once it has let go of what it needed for its work."""
    deadline = time.monotonic() + seconds
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        if resident <= 40 * 1024 or time.monotonic() > deadline:
            return resident
        time.sleep(0.1)


@pytest.mark.requirement("M3.1")
def test_an_agent_at_rest_needs_at_most_40_mb(tmp_path: Path) -> None:
    """Over TLS, with this system's authorities loaded, and after it had thousands of events to send."""
    certificate, key, _ = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    usual = ssl.get_default_verify_paths().cafile
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes((Path(usual).read_bytes() if usual else b"") + certificate.read_bytes())
    port = ports.free_port()
    with gateway(context=context) as there:
        env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=there.url, SSL_CERT_FILE=str(authorities))
        with running("agent", "--port", str(port), env=env, cwd=tmp_path) as agent:
            for number in range(20):
                httpx.post(
                    f"http://127.0.0.1:{port}/v1/events", json=EVENT | {"deployment_id": f"d-{number}"}, timeout=60
                )
            httpx.post(f"http://127.0.0.1:{port}/v1/events", json=[EVENT] * 1000, timeout=60)
            wait_for(there, 1020)
            resident = at_rest(agent.process.pid)
    print(f"an agent at rest: {resident / 1024:.1f} MB")  # noqa: T201  # shown by pytest -rP

    assert len(there.events) == 1020
    assert resident <= 40 * 1024
