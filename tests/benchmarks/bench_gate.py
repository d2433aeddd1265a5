"""The gate's answers: p50 and p99 of permits and refusals, alone and beside events that the same worker reads."""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from pathlib import Path

from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_schemas.codec import encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import running
from support.gate import Gate, approved, now, prepare, question, registered, settings, url_of
from support.kafka import wait_for, write

ASKED, RATE, EVENTS = 300, 50, 300
TARGET_MS = 100.0


def run() -> list[tuple[str, str]]:
    """Milliseconds of each kind of answer."""
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as folder:
        home = Path(folder)
        with KafkaBroker(home / "kafka") as broker:
            prepare(broker.bootstrap, home)
            intake, env = settings(broker.bootstrap, home, "intake"), settings(broker.bootstrap, home)
            with (
                running("processor", "intake", env=intake, cwd=home),
                running("processor", "gate", env=env, cwd=home),
            ):
                gate = Gate(broker.bootstrap, url_of(env), home)
                gate.report(registered("good"), approved("good"))
                wait_for(lambda: gate.ask("good").status == 200, what="the first permit")
                alone = _measure(gate, "good", 200), _measure(gate, "nobody", 403)
                with _Load(broker.bootstrap):
                    beside = _measure(gate, "good", 200), _measure(gate, "nobody", 403)
    verdict = "met" if beside[0][1] <= TARGET_MS else f"missed by {beside[0][1] - TARGET_MS:.0f} ms"
    target = f"target {TARGET_MS:.0f} for p99: {verdict}"
    return [
        (f"permit at {RATE} questions/s, p50 / p99", _shown(alone[0])),
        (f"refusal at {RATE} questions/s, p50 / p99", _shown(alone[1])),
        (f"permit beside {EVENTS} events/s, p50 / p99", f"{_shown(beside[0])} ({target})"),
        (f"refusal beside {EVENTS} events/s, p50 / p99", _shown(beside[1])),
    ]


def _shown(found: tuple[float, float]) -> str:
    return f"{found[0]:.1f} / {found[1]:.1f} ms"


def _measure(gate: Gate, deployment_id: str, expected: int) -> tuple[float, float]:
    """p50 and p99 in ms over one connection, as `require-permit` asks but for its start."""
    host, port = gate.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=15)
    body, took = json.dumps(question(deployment_id)), []
    begin = time.perf_counter()
    for number in range(ASKED):
        time.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
        sent = time.perf_counter()
        connection.request("POST", "/v1/permits", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - sent) * 1000)
        if answer.status != expected:
            raise RuntimeError(f"the gate answered {answer.status}, expected was {expected}")
    connection.close()
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]


class _Load:
    """Events into the gate's own region while it answers."""

    def __init__(self, kafka: str) -> None:
        self._kafka, self._stop = kafka, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            events = [
                {
                    "event_id": uuid7(),
                    "event_type": "started",
                    "deployment_id": uuid7(),
                    "occurred_at": now(),
                    "region": "eu-west-1",
                    "environment": "production",
                    "service": "checkout",
                    "producer_id": "bench",
                }
                for _ in range(EVENTS // 10)
            ]
            write(
                self._kafka,
                Topic.INTAKE,
                [(1, b"bench", encode(RecordType.DEPLOYMENT_EVENT, event)) for event in events],
            )
