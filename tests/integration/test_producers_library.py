"""The library in a deploy script: what is reported, and that the script notices nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from deploytrail_schemas.records import CANONICAL_FIELDS
from support.spool import environment, python, stored


def _types(spool: Path) -> list[str]:
    return [event["event_type"] for event in stored(spool)]


@pytest.mark.requirement("M2.2", "M3.2")
def test_block_reports_its_beginning_and_its_end(tmp_path: Path) -> None:
    began = time.time_ns() // 1000
    script = """
import deploytrail
with deploytrail.track("checkout", "production", region="us-east-1", version="4.2.0", tags={"sprint": "42"}) as d:
    d.progress(cohort="canary", cohort_weight=0.1)
    print(d.id)
"""
    done = python(script, environment(tmp_path))
    events = stored(tmp_path)
    first, middle, last = events

    assert (done.returncode, done.stderr) == (0, "")
    assert [e["event_type"] for e in events] == ["started", "progressed", "succeeded"]
    assert {e["deployment_id"] for e in events} == {done.stdout.strip()}
    assert {(e["service"], e["environment"], e["region"], e["version"]) for e in events} == {
        ("checkout", "production", "us-east-1", "4.2.0")
    }
    assert [e["tags"] for e in events] == [*[{"sprint": "42"}] * 2, {"sprint": "42", "final_seq": "3"}]
    assert (middle["cohort"], middle["cohort_weight"], last["cohort"]) == ("canary", 0.1, "")
    assert began <= first["occurred_at"] <= middle["occurred_at"] <= last["occurred_at"] <= time.time_ns() // 1000
    assert first["monotonic_ns"] < last["monotonic_ns"]
    assert first["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first["source"] == "library"
    assert all(first[name] in (None, "") for name in CANONICAL_FIELDS)


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(
    ("leaving", "event_type", "exit_code", "error", "status"),
    [
        ("pass", "succeeded", None, "", 0),
        ("raise ValueError('no such host')", "failed", None, "ValueError: no such host", 1),
        ("sys.exit()", "succeeded", 0, "", 0),
        ("sys.exit(3)", "failed", 3, "exit 3", 3),
        ("sys.exit('gave up')", "failed", 1, "gave up", 1),
        ("raise KeyboardInterrupt", "failed", -2, "KeyboardInterrupt", -2),
        ("d.fail('checked by hand', exit_code=9)", "failed", 9, "checked by hand", 0),
        ("d.succeed(); raise OSError(5, 'after the end')", "succeeded", None, "", 1),
        ("pid = os.fork(); pid or sys.exit(1); os.waitpid(pid, 0)", "succeeded", None, "", 0),
    ],
)
def test_every_way_out_of_the_block_is_reported_once(
    tmp_path: Path, leaving: str, event_type: str, exit_code: int | None, error: str, status: int
) -> None:
    script = f"import os, sys, deploytrail\nwith deploytrail.track() as d:\n    {leaving}"
    done = python(script, environment(tmp_path))
    events = stored(tmp_path)

    assert done.returncode == status
    assert [e["event_type"] for e in events] == ["started", event_type]
    assert (events[1]["exit_code"], events[1]["error"]) == (exit_code, error)


@pytest.mark.requirement("M2.2")
def test_async_block_reports_also_when_its_task_is_cancelled(tmp_path: Path) -> None:
    script = """
import asyncio, deploytrail
async def deploy(seconds, begun):
    async with deploytrail.Tracker("checkout", "production", version=str(seconds)):
        begun.set()
        await asyncio.sleep(seconds)
async def main():
    begun = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(deploy(0, begun[0])), asyncio.create_task(deploy(60, begun[1]))]
    await begun[1].wait()
    tasks[1].cancel()
    print(*await asyncio.gather(*tasks, return_exceptions=True))
asyncio.run(main())
"""
    done = python(script, environment(tmp_path))
    ends = {e["version"]: (e["event_type"], e["error"]) for e in stored(tmp_path) if e["event_type"] != "started"}

    assert (done.returncode, done.stderr) == (0, "")
    assert ends == {"0": ("succeeded", ""), "60": ("failed", "CancelledError")}


@pytest.mark.requirement("M2.2")
def test_end_is_reported_by_id_from_another_process(tmp_path: Path) -> None:
    env = environment(tmp_path)
    started = "import deploytrail; print(deploytrail.start('pay', 'staging', region='us-east-1', version='7'))"
    deployment = python(started, env).stdout.strip()
    python(f"import deploytrail; deploytrail.fail({deployment!r}, RuntimeError('disk full'))", env)
    event = stored(tmp_path)[-1]

    assert (event["event_type"], event["error"]) == ("failed", "RuntimeError: disk full")
    assert [event[name] for name in ("service", "environment", "region", "version")] == [
        "pay",
        "staging",
        "us-east-1",
        "7",
    ]


@pytest.mark.requirement("M2.2")
def test_rolling_back_reports_a_deployment_of_its_own(tmp_path: Path) -> None:
    script = """
import deploytrail
d = deploytrail.start("pay", "production", version="8", previous_version="7")
deploytrail.fail(d, "errors rise")
print(d.id, deploytrail.roll_back(d, justification="errors rise").id)
"""
    original, rollback = python(script, environment(tmp_path)).stdout.split()
    events = [
        (e["deployment_id"], e["event_type"], e["kind"], e["rollback_of"], e["version"]) for e in stored(tmp_path)
    ]

    assert events == [
        (original, "started", "unknown", "", "8"),
        (original, "failed", "unknown", "", "8"),
        (rollback, "started", "rollback", original, "7"),
        (rollback, "succeeded", "rollback", original, "7"),
    ]


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(
    "call",
    [
        "deploytrail.track(1, 2, 3, 4)",
        "deploytrail.track(service=None, environment=object(), bogus=b'x', tags=7, cohort_weight='much')",
        "deploytrail.start(deployment_id=object()).fail(ValueError)",
        "deploytrail.succeed('never started', exit_code='zero')",
        "deploytrail.fail(None, Broken())",
        "deploytrail.roll_back('never started')",
        "deploytrail.Tracker(occurred_at='yesterday').start()",
    ],
)
def test_wrong_arguments_are_warnings_on_stderr(tmp_path: Path, call: str) -> None:
    script = f"""
import deploytrail
class Broken(Exception):
    def __str__(self): raise RuntimeError
with {call} or deploytrail.track() as d:
    print("deployed")
"""
    done = python(script, environment(tmp_path, DEPLOYTRAIL_SPOOL_MAX_BYTES="many"))

    assert (done.returncode, done.stdout) == (0, "deployed\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "DEPLOYTRAIL_SPOOL_MAX_BYTES is 'many'; expected a whole number" in done.stderr
    assert len(_types(tmp_path)) >= 2


@pytest.mark.requirement("M2.2")
def test_a_broken_installation_leaves_the_deploy_alone(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["deploytrail_schemas"] = None
import deploytrail
with deploytrail.track("checkout", "production", deployment_id="d"):
    print("deployed")
"""
    done = python(script, environment(tmp_path))

    assert (done.returncode, done.stdout) == (0, "deployed\n")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cannot be reported: ModuleNotFoundError" in done.stderr


@pytest.mark.requirement("M8.3")
def test_events_of_another_moment_carry_no_monotonic_time(tmp_path: Path) -> None:
    script = """
import datetime, deploytrail
at = datetime.datetime(2026, 11, 2, 9, 30, tzinfo=datetime.UTC)
deploytrail.Tracker("checkout", "production", occurred_at=at).start().succeed()
"""
    python(script, environment(tmp_path))
    first, last = stored(tmp_path)

    assert (first["occurred_at"], first["monotonic_ns"]) == (1_793_611_800_000_000, None)
    assert last["occurred_at"] > first["occurred_at"]
    assert last["monotonic_ns"] is not None
