"""The gateway's rates on a real Kafka, beside a bare Starlette handler that reads the body and answers 202.

Same server (uvicorn, httptools, uvloop), same load: a generator in a process of its own with kept
connections, each sending the next request when the last is answered. Generator, server and broker
share the machine's cores, so the processor time a request is told too: what a core of its own would give.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deploytrail_local import ports
from deploytrail_local.kafka_broker import KafkaBroker
from support.commands import Command
from support.kafka import make_topics

SECONDS = 3.0
ROUNDS = 5
BATCH = 500
SINGLE_TARGET, BATCH_TARGET = 5_000, 50_000

BARE = """
import asyncio, json, socket, sys, uvicorn, uvloop
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def take(request):
    body = await request.body()
    return JSONResponse({"accepted": 1}, 202)
app = Starlette(routes=[Route("/v1/events", take, methods=["POST"])])
config = uvicorn.Config(
    app, log_level="warning", access_log=False, lifespan="off", http="httptools", ws="none", proxy_headers=False
)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
uvloop.run(uvicorn.Server(config).serve([listener]))
"""

LOAD = """
import asyncio, json, sys, time, uuid, uvloop
port, connections, seconds, batch = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
def event(n):
    now = time.time_ns() // 1000
    return {"event_id": str(uuid.uuid4()), "event_type": "progressed", "deployment_id": f"checkout-{n // 4}",
            "occurred_at": now, "region": "eu-west-1", "environment": "production", "service": f"checkout-{n % 50}",
            "producer_id": f"runner-{n % 8}-1a2b3c4d-5e6f7a8b", "producer_seq": n, "version": f"4.{n % 90}.0",
            "commit_sha": uuid.uuid4().hex + "00112233", "repository": "https://github.com/acme/checkout",
            "ref": "refs/heads/main", "build_system": "github_actions", "build_id": str(100000 + n // 4),
            "build_url": f"https://github.com/acme/checkout/actions/runs/{100000 + n // 4}", "deployer": "alice",
            "tags": {"sprint": "42", "team": "shop"}, "monotonic_ns": time.monotonic_ns(),
            "boot_id": "0b0b6f2e-8ef3-4b1a-9a66-2d9f7c1d8e55"}
def request(n):
    body = json.dumps(event(n) if batch == 1 else [event(n * batch + i) for i in range(batch)]).encode()
    return (b"POST /v1/events HTTP/1.1\\r\\nHost: gateway\\r\\nContent-Type: application/json\\r\\nContent-Length: "
            + str(len(body)).encode() + b"\\r\\n\\r\\n" + body)
requests = [request(n) for n in range(3000 if batch == 1 else 40)]
class Client(asyncio.Protocol):
    def __init__(self, at): self.at, self.took, self.bad, self.stop, self.data = at, [], 0, False, b""
    def connection_made(self, transport): self.transport = transport; self.send()
    def send(self):
        self.at = (self.at + connections) % len(requests)
        self.began = time.perf_counter()
        self.transport.write(requests[self.at])
    def data_received(self, data):
        self.data += data
        head, found, rest = self.data.partition(b"\\r\\n\\r\\n")
        if not found: return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\\r\\n")[0])
        if len(rest) < length: return
        self.data = b""
        self.took.append(time.perf_counter() - self.began)
        self.bad += not head.startswith(b"HTTP/1.1 202")
        if not self.stop: self.send()
async def main():
    loop = asyncio.get_running_loop()
    clients = []
    for n in range(connections):
        clients.append((await loop.create_connection(lambda n=n: Client(n), "127.0.0.1", port))[1])
    await asyncio.sleep(0.5)
    for client in clients: client.took.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    times = sorted(t for client in clients for t in client.took)
    for client in clients: client.stop = True
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    print(json.dumps([len(times) / took, p50, p99, sum(client.bad for client in clients)]))
    await asyncio.sleep(0.3)
uvloop.run(main())
"""


class Load(NamedTuple):
    """One run: requests/s, milliseconds at the 50th and 99th of a hundred, processor µs a request."""

    rate: float
    p50: float
    p99: float
    cpu: float


def run() -> list[tuple[str, str]]:
    """Rows of (what was measured, the figure); medians of ROUNDS runs in turns."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        broker = stack.enter_context(KafkaBroker(home / "kafka"))
        make_topics(broker.bootstrap)
        bare = stack.enter_context(_bare())
        one = stack.enter_context(_gateway(broker.bootstrap, home / "one", 1))
        two = stack.enter_context(_gateway(broker.bootstrap, home / "two", 2))
        servers = {"bare Starlette": bare, "gateway": one, "gateway, 2 workers": two}
        single = _in_turns(servers, connections=64, batch=1)
        batched = _in_turns(servers, connections=8, batch=BATCH)
    rows = []
    for name, load in single.items():
        rows.append((f"single events, {name}", _told(load, single["bare Starlette"], 1, SINGLE_TARGET)))
    for name, load in batched.items():
        rows.append((f"batches of {BATCH}, {name}", _told(load, batched["bare Starlette"], BATCH, BATCH_TARGET)))
    return rows


def _told(load: Load, bare: Load, batch: int, target: int) -> str:
    rate = load.rate * batch
    what = "events/s" if batch > 1 else "requests/s"
    said = (
        f"{rate:,.0f} {what}, p50 {load.p50:.1f} ms, p99 {load.p99:.1f} ms, {load.cpu / batch:.1f} µs of processor each"
    )
    if load is bare:
        return said
    met = "met" if rate >= target else "missed"
    return f"{said}; {load.rate / bare.rate:.2f} × bare; target {target:,}: {met}"


def _in_turns(servers: dict[str, tuple[int, int]], *, connections: int, batch: int) -> dict[str, Load]:
    """Every server under the same load, in turns, so that the machine's mood strikes all alike."""
    found: dict[str, list[Load]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, (port, pid) in servers.items():
            found[name].append(_load(port, pid, connections, batch))
    return {name: Load(*(statistics.median(one) for one in zip(*loads, strict=True))) for name, loads in found.items()}


def _load(port: int, pid: int, connections: int, batch: int) -> Load:
    before = _cpu_seconds(pid)
    words = [sys.executable, "-c", LOAD, str(port), str(connections), str(SECONDS), str(batch)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    rate, p50, p99, bad = json.loads(done.stdout)
    if bad:
        raise RuntimeError(f"{bad} requests were not answered 202")
    # The load warms up for half a second before it is counted, and the processor time is of all of it.
    cpu = (_cpu_seconds(pid) - before) / (rate * (SECONDS + 0.5))
    return Load(rate, p50 * 1e3, p99 * 1e3, cpu * 1e6)


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children that run (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _gateway(bootstrap: str, folder: Path, workers: int) -> Iterator[tuple[int, int]]:
    folder.mkdir()
    port = ports.free_port()
    env = {
        "DEPLOYTRAIL_KAFKA": bootstrap,
        "DEPLOYTRAIL_GATEWAY_PORT": str(port),
        "DEPLOYTRAIL_GATEWAY_WORKERS": str(workers),
    }
    command = Command("gateway", env=env, cwd=folder).wait_ready()
    try:
        yield port, command.process.pid
    finally:
        command.stop()


@contextlib.contextmanager
def _bare() -> Iterator[tuple[int, int]]:
    port = ports.free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        deadline = time.monotonic() + 20
        while not ports.answers(port):
            if time.monotonic() > deadline:
                raise TimeoutError("the bare server does not answer")
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
