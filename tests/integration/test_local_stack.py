"""`deploytrail up` and `down` on the real Kafka and the real ClickHouse engine.

Most tests leave the apps out, which the end-to-end tests run: here it is about starting and stopping.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from deploytrail_local import ports, processes
from deploytrail_local.java import find_java
from deploytrail_local.stack import Stack
from deploytrail_local.stack_state import Phase, StackState, is_held, read_state
from deploytrail_local.supervisor import READY_SECONDS
from deploytrail_local.up_command import _where
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, MissingDependencyError
from deploytrail_schemas.settings import Settings, variable
from deploytrail_schemas.topics import Topic
from support.commands import BIN, run
from support.kafka import read_topic, wait_for, write

NO_APPS = ("--apps", "")


@pytest.fixture(autouse=True)
def java() -> None:
    try:
        find_java()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder whose stack is stopped whatever the test does."""
    home = tmp_path / ".deploytrail"
    yield home
    left = [process for process in read_state(home).processes if process.is_running()]
    for process in left:
        process.end(grace=0.1)


def environment(home: Path, **settings: str) -> dict[str, str]:
    unset = {variable(field.name): "" for field in fields(Settings)}  # whatever this shell has set
    return unset | {"DEPLOYTRAIL_HOME": str(home)} | settings


def up(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run("up", *NO_APPS, *words, env=environment(home, **settings), cwd=home.parent)


def down(home: Path) -> subprocess.CompletedProcess[str]:
    return run("down", env=environment(home), cwd=home.parent)


def nothing_runs(state: StackState) -> bool:
    """Whether all that a state names has ended, and its ports are free."""
    return not any(process.is_running() for process in state.processes) and not any(
        ports.answers(port) for port in state.ports.values()
    )


def query(url: str, sql: str) -> str:
    with urllib.request.urlopen(url, data=sql.encode(), timeout=60) as response:
        return str(response.read().decode()).strip()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def children(state: StackState) -> dict[str, int]:
    return {child.name: child.process.pid for child in state.children if child.process is not None}


@pytest.mark.requirement("M8.4")
def test_stack_stays_until_it_is_stopped_and_keeps_its_data(home: Path) -> None:
    started = up(home)
    running = read_state(home)
    stack = Stack(home)
    write(stack.urls.kafka, Topic.EVENTS, [(1, b"shop", b"kept")])
    query(stack.urls.clickhouse, "CREATE TABLE kept (a Int8) ENGINE MergeTree ORDER BY a")
    query(stack.urls.clickhouse, "INSERT INTO kept VALUES (7)")
    again = up(home)
    same = read_state(home)
    stopped = down(home)

    assert started.returncode == 0, started.stderr
    assert stack.urls.gateway in started.stdout and "deploytrail down" in started.stdout
    assert (again.returncode, children(same)) == (0, children(running))
    assert stopped.returncode == 0, stopped.stderr
    assert nothing_runs(running)

    up(home)
    kept = [message.value() for message in read_topic(stack.urls.kafka, Topic.EVENTS)]
    rows = query(stack.urls.clickhouse, "SELECT a FROM kept")
    ports_again = read_state(home).ports
    down(home)

    assert (kept, rows) == ([b"kept"], "7")
    assert ports_again == running.ports


@pytest.mark.timeout(420)
def test_whole_stack_goes_on_after_every_part_was_killed(home: Path, tmp_path: Path) -> None:
    quick = Settings(tick_seconds=1.0, archive_segment_seconds=1.0, archive_log_seconds=0.2)
    with Stack(home, replace(quick, oncall_url="http://127.0.0.1:1/pages")) as stack:

        def deploy(service: str) -> None:
            words = ("--service", service, "--environment", "production", "--region", "eu-west-1")
            reach = {"DEPLOYTRAIL_URL": stack.urls.gateway, "DEPLOYTRAIL_SPOOL": str(tmp_path / "spool")}
            env = environment(home) | reach
            done = run("run", *words, "--wait", "60", "--", "true", env=env, cwd=tmp_path)

            assert done.returncode == 0, done.stderr

        def seen() -> str:
            sql = "SELECT service, state FROM deploytrail.deployments ORDER BY service FORMAT TSV"
            try:
                return query(stack.urls.clickhouse, sql)
            except OSError:
                return ""

        deploy("cart")
        wait_for(lambda: seen() == "cart\tsucceeded", seconds=120, what="the first deployment in ClickHouse")
        first = children(stack.state)
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)

        def all_came_back() -> bool:
            now = children(stack.state)
            return now.keys() == first.keys() and not set(now.values()) & set(first.values())

        wait_for(all_came_back, seconds=120, what="a new process for each part")
        # It answers that it is ready when it can take events, or keep them.
        wait_for(lambda: answers(f"{stack.urls.gateway}/readyz"), seconds=120, what="the gateway")
        deploy("shop")
        wait_for(lambda: seen() == "cart\tsucceeded\nshop\tsucceeded", seconds=120, what="the second deployment")
        gate = {
            "DEPLOYTRAIL_GATE_URL": stack.settings.gate_url,
            "DEPLOYTRAIL_PERMIT_ISSUER": stack.settings.permit_issuer,
        }
        place = ("--service", "shop", "--environment", "production", "--region", "eu-west-1")
        what = ("--deployment-id", "nobody-registered-it", "--artifact-digest", "sha256:" + "1b" * 32)
        asked = run("require-permit", *what, *place, env=environment(home) | gate, cwd=tmp_path)
        [pasted] = [line for line in _where(stack).splitlines() if line.startswith("Ask its gate then:")]
        pointed = {"DEPLOYTRAIL_URL": stack.urls.gateway, "DEPLOYTRAIL_SPOOL": str(tmp_path / "spool")}
        path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

        def permit() -> str:
            """What the line gives that `up` prints; a registration is on the trail a moment after it was told."""
            env = os.environ | environment(home) | gate | pointed | path
            script = pasted.partition(":")[2]
            return subprocess.run(["sh", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True).stdout

        wait_for(lambda: permit().count(".") == 2, seconds=120, what="a permit by the line that `up` prints")
        trusting = ("--trust", stack.settings.archive_trust)
        archive = {"DEPLOYTRAIL_ARCHIVE": stack.urls.archive}

        def proof_of_all() -> str:
            """What the archive proves of the last deployment; its events are covered a moment after they are stored."""
            sql = "SELECT deployment_id FROM deploytrail.deployments WHERE service = 'shop'"
            wanted = query(stack.urls.clickhouse, sql)
            proof = run("archive", "prove", wanted, "--output", "proof", env=environment(home) | archive, cwd=tmp_path)
            return proof.stdout if proof.returncode == 0 else ""

        wait_for(lambda: "records of deployment" in proof_of_all(), seconds=120, what="a proof of the last deployment")
        checked = run("archive", "verify-proof", "proof", *trusting, env=environment(home), cwd=tmp_path)
        verified = run("archive", "verify", *trusting, env=environment(home) | archive, cwd=tmp_path)
        last = stack.state

    assert checked.returncode == 0, checked.stdout
    assert verified.returncode == 0, verified.stdout
    assert "signatures checked" in verified.stdout
    assert asked.returncode == 77, asked.stderr
    assert "unregistered" in asked.stderr
    assert len(first) == 10
    assert nothing_runs(last)


def test_exports_point_a_shell_to_the_stack(home: Path) -> None:
    shown = up(home, "--env")
    state = read_state(home)
    asked = subprocess.run(
        ["sh", "-c", f"{shown.stdout}\nenv"], capture_output=True, text=True, check=True, env={}
    ).stdout.splitlines()
    down(home)

    assert f"DEPLOYTRAIL_KAFKA=127.0.0.1:{state.ports['kafka']}" in asked
    assert f"DEPLOYTRAIL_CLICKHOUSE_URL=http://127.0.0.1:{state.ports['clickhouse']}" in asked
    assert f"DEPLOYTRAIL_URL=http://127.0.0.1:{state.ports['gateway']}" in asked
    assert f"DEPLOYTRAIL_GATE_URL=http://127.0.0.1:{state.ports['gate']}" in asked
    assert "DEPLOYTRAIL_PERMIT_ISSUER=deploytrail-local" in asked
    assert f"DEPLOYTRAIL_PERMIT_KEYS=http://127.0.0.1:{state.ports['gate']}/v1/keys" in asked
    assert f"DEPLOYTRAIL_HOME={home}" in asked


def test_files_of_the_current_folder_are_not_imported(home: Path) -> None:
    (home.parent / "argparse.py").write_text("raise SystemExit('the wrong module')")
    started = up(home)
    down(home)

    assert started.returncode == 0, started.stderr


def test_down_where_nothing_runs_is_no_error(home: Path) -> None:
    stopped = down(home)

    assert stopped.returncode == 0
    assert "nothing was running" in stopped.stderr


def test_killed_part_comes_back_on_its_port(home: Path) -> None:
    with Stack(home, apps=()) as stack:
        first = children(stack.state)["clickhouse"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: children(stack.state).get("clickhouse", first) != first, what="a new process")
        wait_for(lambda: ports.answers(stack.state.ports["clickhouse"]), what="ClickHouse on its port")
        answer = query(stack.urls.clickhouse, "SELECT 1")
        restarts = {child.name: child.restarts for child in stack.state.children}

    assert answer == "1"
    assert restarts == {"kafka": 0, "clickhouse": 1}
    assert "clickhouse ended with signal SIGKILL" in stack.log.read_text()


def test_two_stacks_run_side_by_side(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with Stack(home, apps=()) as first, Stack(other, apps=()) as second:
        answers = [query(stack.urls.clickhouse, "SELECT 1") for stack in (first, second)]
        apart = not set(first.state.ports.values()) & set(second.state.ports.values())
        states = first.state, second.state

    assert answers == ["1", "1"]
    assert apart
    assert all(nothing_runs(state) for state in states)


def test_running_stack_is_used_and_left_running(home: Path) -> None:
    up(home)
    with Stack(home) as stack:
        here = stack.started_here
    still = read_state(home).phase
    with pytest.raises(ConfigurationError, match=r"other settings.*DEPLOYTRAIL_TICK_SECONDS: '1\.0', running: '5\.0'"):
        Stack(home, Settings(tick_seconds=1.0)).start()
    down(home)

    assert not here
    assert still is Phase.READY


def test_stack_ends_with_its_killed_caller(home: Path) -> None:
    program = f"""
import time
from pathlib import Path
from deploytrail_local.stack import Stack
with Stack(Path({str(home)!r}), apps=()):
    print("ready", flush=True)
    time.sleep(60)
"""
    caller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    ready = caller.stdout.readline()
    state = read_state(home)
    caller.kill()
    caller.communicate()

    assert ready == "ready\n"
    assert len(children(state)) == 2
    assert processes.wait_until(lambda: nothing_runs(state), seconds=60)
    assert not is_held(home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_stack_stops_everything_on_a_signal(home: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "deploytrail_local.up_command", "--foreground", *NO_APPS]
    command = subprocess.Popen(
        argv, env={**os.environ, **environment(home)}, stderr=subprocess.PIPE, text=True, cwd=home.parent
    )
    assert command.stderr is not None
    for line in command.stderr:
        if line.startswith("deploytrail up: ready"):
            break
    state = read_state(home)
    command.send_signal(number)
    command.communicate(timeout=120)

    assert command.returncode == 0
    assert len(children(state)) == 2
    assert nothing_runs(state)
    assert read_state(home).phase is Phase.STOPPED


def test_interrupted_start_leaves_nothing(home: Path) -> None:
    argv = [sys.executable, "-m", "deploytrail_local.up_command", *NO_APPS]
    command = subprocess.Popen(
        argv, env={**os.environ, **environment(home)}, stderr=subprocess.PIPE, text=True, cwd=home.parent
    )
    wait_for(lambda: "kafka" in children(read_state(home)), what="the start of Kafka")
    state = read_state(home)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=120)

    assert command.returncode == 130
    assert "kafka" in children(state)
    assert nothing_runs(state)


def test_killed_supervisor_is_no_hindrance(home: Path) -> None:
    up(home)
    before = read_state(home)
    assert before.supervisor is not None
    os.kill(before.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not before.is_supervised, what="the end of the supervisor")
    started = up(home)
    after = read_state(home)
    down(home)

    assert started.returncode == 0, started.stderr
    assert not set(children(before).values()) & set(children(after).values())
    assert nothing_runs(before) and nothing_runs(after)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEPLOYTRAIL_KAFKA", "127.0.0.1:{port}"),
        ("DEPLOYTRAIL_CLICKHOUSE_URL", "http://127.0.0.1:{port}"),
        ("DEPLOYTRAIL_GATEWAY_PORT", "{port}"),
    ],
)
def test_port_in_use_is_named_with_its_setting(home: Path, variable: str, value: str) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        started = up(home, **{variable: value.format(port=port)})

    assert started.returncode == 69
    assert f"port {port}" in started.stderr and "in use" in started.stderr and variable in started.stderr
    assert nothing_runs(read_state(home))


def test_part_that_cannot_start_is_named_with_the_end_of_its_log(home: Path) -> None:
    (home / "kafka" / "data").mkdir(parents=True)
    (home / "kafka" / "data" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=99\n")
    begun = time.monotonic()
    said = r"kafka ended 3 times\. The end of .*kafka\.log(.|\n)*Stored node id 99"
    with pytest.raises(DeploytrailError, match=said):
        Stack(home, apps=()).start()

    assert time.monotonic() - begun < READY_SECONDS  # it is not awaited any longer
    assert read_state(home).phase is Phase.FAILED
    assert not is_held(home)
