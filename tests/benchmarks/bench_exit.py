"""What a script pays at its end when nobody answers, and at its start: beside two libraries that report as well.

All three run in one environment of their own, in turns, against the same port, which takes every
connection and never says a word.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
REPEATS = 5
OTHERS = ("sentry-sdk>=2.60,<3", "opentelemetry-sdk>=1.40,<2", "opentelemetry-exporter-otlp-proto-http>=1.40,<2")
LAST_LINE = "import time; print(time.monotonic(), flush=True)"
SCRIPTS = {
    "deploytrail": """
import deploytrail
with deploytrail.track("checkout", "production", region="eu-west-1", version="4.2.0"):
    pass
""",
    "sentry-sdk": """
import os, sentry_sdk
sentry_sdk.init(dsn=f"http://key@127.0.0.1:{os.environ['PORT']}/1")
sentry_sdk.capture_message("started")
sentry_sdk.capture_message("succeeded")
""",
    "opentelemetry-sdk": """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider()
exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{os.environ['PORT']}/v1/traces")
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
with trace.get_tracer("deploy").start_as_current_span("deploy"):
    pass
""",
}
IMPORTS = {
    "deploytrail": "import deploytrail; deploytrail.track",
    "sentry-sdk": "import sentry_sdk",
    "opentelemetry-sdk": "import opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter",
}


def run() -> list[tuple[str, str]]:
    """Rows of (what was measured, the figure); medians of REPEATS runs in turns."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, _black_hole() as port:
        python = _environment(Path(folder) / "venv")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYTRAIL_", "PYTHON"))}
        env |= {"PORT": str(port), "DEPLOYTRAIL_SPOOL": f"{folder}/spool"}
        urls = {
            "deploytrail, gateway": f"http://127.0.0.1:{port}",
            "deploytrail, Kafka": f"kafka://127.0.0.1:{port}",
        }
        ways = {"bare Python": partial(_exit_seconds, python, "", env)}
        for name, url in urls.items():
            ways[name] = partial(_exit_seconds, python, SCRIPTS["deploytrail"], env | {"DEPLOYTRAIL_URL": url})
        for name in ("sentry-sdk", "opentelemetry-sdk"):
            ways[name] = partial(_exit_seconds, python, SCRIPTS[name], env)
        ends = {name: statistics.median(times) for name, times in _in_turns(ways).items()}
        scripts = {"bare Python": "pass", **IMPORTS}
        ways = {name: partial(_seconds, python, script, env) for name, script in scripts.items()}
        # The quickest: what else the machine does only ever adds.
        starts = {name: min(times) for name, times in _in_turns(ways).items()}
    bare_end, bare_start = ends.pop("bare Python"), starts.pop("bare Python")
    rows = [
        (f"exit with a black hole: {name}", f"{s - bare_end:.2f} s more than bare Python") for name, s in ends.items()
    ]
    ours = max(seconds for name, seconds in ends.items() if name.startswith("deploytrail")) - bare_end
    rows.append(("the same, target", f"at most 1 s: {'met' if ours <= 1 else f'missed by {ours - 1:.2f} s'}"))
    return rows + [
        (f"import: {name}", f"{(s - bare_start) * 1e3:.0f} ms more than bare Python") for name, s in starts.items()
    ]


def _environment(folder: Path) -> str:
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    rooms = [str(ROOT / "schemas"), str(ROOT / "producers")]
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, *rooms, *OTHERS], check=True)
    return python


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port that takes connections, reads, and never answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    held: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in held:
            connection.close()


def _in_turns(ways: dict[str, partial[float]]) -> dict[str, tuple[float, ...]]:
    """Seconds of each way, in REPEATS rounds, so that the machine's mood strikes all alike."""
    rounds = [[way() for way in ways.values()] for _ in range(REPEATS)]
    return dict(zip(ways, zip(*rounds, strict=True), strict=True))


def _exit_seconds(python: str, script: str, env: dict[str, str]) -> float:
    """From the script's last line to the end of its process."""
    done = subprocess.run(
        [python, "-c", f"{script}\n{LAST_LINE}"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=180,
        check=True,
    )
    return time.monotonic() - float(done.stdout.split()[-1])


def _seconds(python: str, script: str, env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([python, "-c", script], env=env, check=True, timeout=60)
    return time.perf_counter() - began
