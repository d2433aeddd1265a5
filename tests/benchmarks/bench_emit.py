"""What reporting costs a deploy: an event on disk, the import, a whole command."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVENTS = 2000
REPEATS = 7

EMIT = """
import os, sys, time, deploytrail
d = deploytrail.track("checkout", "production", region="eu-west-1", version="4.2.0", deployment_id="bench")
d.start()
took = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter_ns()
    d.progress()
    took.append(time.perf_counter_ns() - began)
plain = []
file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for _ in range(int(sys.argv[1])):
    began = time.perf_counter_ns()
    os.write(file, b"x" * 300)
    os.fsync(file)
    plain.append(time.perf_counter_ns() - began)
for times in (took, plain):
    times.sort()
    print(times[len(times) // 2] / 1e6, times[len(times) * 99 // 100] / 1e6)
"""


def run() -> list[tuple[str, str]]:
    """Rows of (what was measured, the figure); times are medians of REPEATS runs side by side."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # beside the checkout: /tmp may be memory
        env = {k: v for k, v in os.environ.items() if not k.startswith("DEPLOYTRAIL_")}
        env["DEPLOYTRAIL_SPOOL"] = f"{folder}/spool"
        told = [_python(["-c", EMIT, str(EVENTS), f"{folder}/plain"], env).split() for _ in range(REPEATS)]
        p50, p99, plain50, plain99 = (statistics.median(float(row[i]) for row in told) for i in range(4))
        python = [sys.executable, "-c", "pass"]
        imported = [sys.executable, "-c", "import deploytrail; deploytrail.track"]
        one_event = [
            sys.executable,
            "-c",
            "import deploytrail; deploytrail.start('checkout', 'production', region='eu-west-1')",
        ]
        start = [sys.executable, "-m", "deploytrail.command", "start", "--service", "checkout",
                 "--environment", "production", "--region", "eu-west-1"]  # fmt: skip
        around = [sys.executable, "-m", "deploytrail.command", "run", "--service", "checkout",
                  "--environment", "production", "--region", "eu-west-1", "--", "true"]  # fmt: skip
        bare, light, first, started, ran = _side_by_side([python, imported, one_event, start, around], env)
    return [
        ("emit with fsync, p50", f"{p50:.3f} ms, {p50 / plain50:.1f} × a plain append and fsync of 300 bytes"),
        ("emit with fsync, p99", f"{p99:.3f} ms, {p99 / plain99:.1f} × a plain append and fsync of 300 bytes"),
        (
            "import deploytrail",
            f"{(light - bare) * 1e3:.1f} ms more than bare Python ({bare * 1e3:.1f} ms); at most 30",
        ),
        ("import and first event", f"{(first - bare) * 1e3:.0f} ms more than bare Python"),
        ("deploytrail start", f"{started * 1e3:.0f} ms in all, without a URL to send to"),
        ("deploytrail run -- true", f"{ran * 1e3:.0f} ms in all, without a URL to send to"),
    ]


def _side_by_side(commands: list[list[str]], env: dict[str, str]) -> list[float]:
    """Median seconds of each, run in turns so that the machine's mood strikes all alike."""
    rounds = [[_seconds(words, env) for words in commands] for _ in range(REPEATS + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def _seconds(words: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    _run(words, env)
    return time.perf_counter() - began


def _python(words: list[str], env: dict[str, str]) -> str:
    return _run([sys.executable, *words], env).stdout


def _run(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=120)
