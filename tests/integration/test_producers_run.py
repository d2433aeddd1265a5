"""`deploytrail run`: a real shell script, with and without it, side by side."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.spool import COMMAND, command, environment, stored

DEPLOY = """#!/bin/sh
echo "deploying $1"
echo "a warning" >&2
read line && echo "read $line"
case "$1" in
  succeeds) exit 0 ;;
  exits-3) exit 3 ;;
  is-killed) kill -KILL $$ ;;
  is-terminated) kill -TERM $$ ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "deploy.sh"
    path.write_text(DEPLOY)
    path.chmod(0o755)
    return path


def _both(words: list[str], spool: Path, **options: Any) -> list[tuple[int, bytes, bytes]]:
    """(exit status, stdout, stderr) of the command by itself, and under run."""
    env = environment(spool)
    pair = []
    for prefix in ([], [*COMMAND, "run", "--version", "4.2.0", "--"]):
        done = subprocess.run([*prefix, *words], env=env, capture_output=True, timeout=100, check=False, **options)
        pair.append((done.returncode, done.stdout, done.stderr))
    return pair


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(
    ("variant", "status", "event_type", "exit_code", "error"),
    [
        ("succeeds", 0, "succeeded", 0, ""),
        ("exits-3", 3, "failed", 3, "exit 3"),
        ("is-killed", -9, "failed", -9, "killed by SIGKILL"),
        ("is-terminated", -15, "failed", -15, "killed by SIGTERM"),
    ],
)
def test_script_ends_as_it_would_without_run(
    tmp_path: Path, script: Path, variant: str, status: int, event_type: str, exit_code: int, error: str
) -> None:
    alone, under = _both([str(script), variant], tmp_path / "spool", input=b"a line\n")
    events = stored(tmp_path / "spool")

    assert under == alone
    assert under[0] == status
    assert under[1] == f"deploying {variant}\nread a line\n".encode()
    assert [e["event_type"] for e in events] == ["started", event_type]
    assert (events[1]["exit_code"], events[1]["error"], events[1]["version"]) == (exit_code, error, "4.2.0")


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["sh", "-c", "exit 255"], 255),
        (["printf", r"\0\377binary\n"], 0),
        (["sh", "-c", "kill -SEGV $$"], -11),
        (["sh", "-c", "trap '' PIPE; exit 7"], 7),
        (["sh", "-c", "yes | head -1"], 0),
        (["sh", "-c", "ulimit -c 0; kill -ABRT $$"], -6),
    ],
)
def test_any_command_ends_as_it_would_without_run(tmp_path: Path, words: list[str], status: int) -> None:
    alone, under = _both(words, tmp_path)

    assert under == alone
    assert under[0] == status


@pytest.mark.requirement("M2.2")
def test_command_sees_the_same_signals_files_and_group(tmp_path: Path) -> None:
    show = (
        "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd | wc -l; "
        "cut -d' ' -f5-8 /proc/$$/stat; pwd; umask; ulimit -a"
    )
    alone, under = _both(["sh", "-c", show], tmp_path, cwd=tmp_path)

    assert _without_library_signals(under[1]) == _without_library_signals(alone[1])


def _without_library_signals(shown: bytes) -> bytes:
    """Signals 32 and 33 belong to the C library: whether they are ignored depends on who spawned the parent."""

    def mask(found: re.Match[bytes]) -> bytes:
        return found[1] + b"%016x" % (int(found[2], 16) & ~0x1_8000_0000)

    return re.sub(rb"(SigIgn:\t)([0-9a-f]{16})", mask, shown)


@pytest.mark.requirement("M2.2")
def test_what_cannot_be_run_is_said_as_a_shell_says_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    env = environment(tmp_path / "spool")
    missing = command("run", "--", "no-such-command", env=env)
    forbidden = command("run", "--", str(plain), env=env)
    nameless = command("run", "--", "", env=env)

    assert (missing.returncode, missing.stdout) == (127, "")
    assert missing.stderr == "deploytrail run: no-such-command: No such file or directory\n"
    assert forbidden.returncode == 126
    assert (nameless.returncode, nameless.stderr) == (127, "deploytrail run: : No such file or directory\n")
    assert [(e["event_type"], e["exit_code"]) for e in stored(tmp_path / "spool")] == [
        ("started", None),
        ("failed", 127),
        ("started", None),
        ("failed", 126),
        ("started", None),
        ("failed", 127),
    ]


@pytest.mark.requirement("M2.2")
def test_script_without_first_line_runs_as_in_a_shell(tmp_path: Path) -> None:
    bare = tmp_path / "bare.sh"
    bare.write_text("echo ran $1\nexit 4\n")
    bare.chmod(0o755)
    done = command("run", "--", str(bare), "it", env=environment(tmp_path / "spool"))

    assert (done.returncode, done.stdout) == (4, "ran it\n")


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("words", [["--no-such-option"], ["--cohort-weight", "much"], ["--wait", "-1"], ["--tag", "x"]])
def test_script_runs_even_if_the_options_are_wrong(tmp_path: Path, words: list[str]) -> None:
    done = command("run", *words, "--", "sh", "-c", "echo deployed; exit 3", env=environment(tmp_path))

    assert (done.returncode, done.stdout) == (3, "deployed\n")
    assert "the command runs, unreported" in done.stderr


@pytest.mark.requirement("M2.2")
def test_wrong_words_are_usage_errors(tmp_path: Path) -> None:
    env = environment(tmp_path, DEPLOYTRAIL_SERVICE="")
    outcomes = {
        "run": command("run", env=env),
        "start": command("start", env=env),
        "succeed": command("succeed", env=env),
        "depoly": command("depoly", env=env),
    }

    assert {word: done.returncode for word, done in outcomes.items()} == dict.fromkeys(outcomes, 64)
    assert "which command?" in outcomes["run"].stderr
    assert "which service? Give --service NAME, or set DEPLOYTRAIL_SERVICE" in outcomes["start"].stderr
    assert "which deployment?" in outcomes["succeed"].stderr
    assert "there is no command 'depoly'; there are" in outcomes["depoly"].stderr
    assert stored(tmp_path) == []


@pytest.mark.requirement("M2.2")
def test_script_reports_progress_of_the_run_it_is_in(tmp_path: Path) -> None:
    words = " ".join(COMMAND)
    done = command(
        "run", "--version", "5", "--", "sh", "-c", f"{words} progress --cohort canary", env=environment(tmp_path)
    )
    events = stored(tmp_path)

    assert done.returncode == 0
    assert [(e["event_type"], e["version"], e["cohort"]) for e in events] == [
        ("started", "5", ""),
        ("progressed", "5", "canary"),
        ("succeeded", "5", ""),
    ]
    assert len({e["deployment_id"] for e in events}) == 1


@pytest.mark.requirement("M2.2")
def test_rollback_command_is_a_deployment_of_its_own(tmp_path: Path) -> None:
    env = environment(tmp_path)
    deployment = command("start", "--version", "5", "--previous-version", "4", env=env).stdout.strip()
    command("fail", deployment, "--error", "errors rise", env=env)
    done = command("rollback", deployment, "--", "sh", "-c", "echo undone", env=env)
    events = stored(tmp_path)

    assert (done.returncode, done.stdout) == (0, "undone\n")
    assert [(e["event_type"], e["version"], e["rollback_of"], e["kind"]) for e in events[2:]] == [
        ("started", "4", deployment, "rollback"),
        ("succeeded", "4", deployment, "rollback"),
    ]


# Waits for a signal however late it comes, and for half a second more: for a second one, which must not come.
COUNTING = """
heard=0; i=0; left=12
trap 'echo int; heard=1' INT; trap 'echo term; heard=1' TERM
trap 'echo hup; heard=1' HUP; trap 'echo usr1; heard=1' USR1
echo ready
while [ $heard -eq 0 ] && [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done
while [ $left -gt 0 ]; do sleep 0.05; left=$((left-1)); done
exit 5
"""


def _begin(prefix: list[str], spool: Path, words: list[str]) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [*prefix, *words], env=environment(spool), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    return run


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1"])
@pytest.mark.parametrize("whole_group", [False, True])
def test_signal_reaches_the_script_exactly_once(tmp_path: Path, name: str, whole_group: bool) -> None:
    run = _begin([*COMMAND, "run", "--"], tmp_path, ["sh", "-c", COUNTING])
    number = getattr(signal, f"SIG{name}")
    (os.killpg if whole_group else os.kill)(run.pid, number)
    out, _ = run.communicate(timeout=120)

    assert (run.returncode, out) == (5, f"{name.lower()}\n")
    assert [e["event_type"] for e in stored(tmp_path)] == ["started", "failed"]


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("whole_group", [False, True])
def test_run_dies_of_the_signal_that_ended_the_script(
    tmp_path: Path, number: signal.Signals, whole_group: bool
) -> None:
    run = _begin([*COMMAND, "run", "--"], tmp_path, ["sh", "-c", "ulimit -c 0; echo ready; exec sleep 100"])
    (os.killpg if whole_group else os.kill)(run.pid, number)
    run.communicate(timeout=80)
    last = stored(tmp_path)[-1]

    assert run.returncode == -number
    assert (last["event_type"], last["exit_code"], last["error"]) == ("failed", -number, f"killed by {number.name}")


@pytest.mark.requirement("M2.2")
def test_signals_that_were_ignored_stay_ignored(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", f"trap '' HUP INT; exec {' '.join(COMMAND)} run -- sh -c 'kill -HUP $$; kill -INT $$; exit 6'"],
        env=environment(tmp_path),
        check=False,
        timeout=100,
    )

    assert ran.returncode == 6


@pytest.mark.requirement("M2.2")
def test_stopping_and_continuing_the_script_stops_and_continues_run(tmp_path: Path) -> None:
    run = _begin([*COMMAND, "run", "--"], tmp_path, ["sh", "-c", "echo ready; kill -STOP $$; exit 8"])
    _, status = os.waitpid(run.pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    os.kill(run.pid, signal.SIGCONT)
    _, status = os.waitpid(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    run.communicate()

    assert stopped
    assert run.returncode == 8


@pytest.mark.requirement("M2.2")
def test_interrupt_key_at_a_terminal_reaches_the_script_once(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, "run", "--", "sh", "-c", COUNTING], environment(tmp_path))
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 1024)
        except OSError:
            break
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 5
    assert shown.replace(b"^C", b"").split() == [b"ready", b"int"]


@pytest.mark.requirement("M2.2")
def test_nothing_is_left_running_and_no_pipe_is_held(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(COMMAND)} run --version marked-{tmp_path.name} -- sh -c 'echo out' | cat"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"marked-{tmp_path.name}" in _text(path)]

    assert done.stdout == "out\n"
    assert left == []
    assert time.monotonic() - began < 60


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.requirement("M2.2")
def test_a_long_command_reports_progress_by_itself(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_HEARTBEAT_SECONDS="0.1")
    began = time.monotonic()
    done = command("run", "--", "sleep", "2", env=env)
    at_most = (time.monotonic() - began) / 0.1
    first, *beats, last = (event["event_type"] for event in stored(tmp_path / "spool"))

    assert done.returncode == 0
    assert (first, set(beats), last) == ("started", {"progressed"}, "succeeded")
    assert 3 <= len(beats) <= at_most


@pytest.mark.requirement("M2.2")
def test_a_failed_command_is_undone_by_the_one_given_for_it(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool")
    undo = "echo undone $DEPLOYTRAIL_DEPLOYMENT_ID"
    done = command(
        "run", "--version", "2", "--previous-version", "1", "--on-failure-rollback", undo, "--", "false", env=env
    )
    started, failed, undoing, undone = stored(tmp_path / "spool")

    assert (done.returncode, done.stdout) == (1, f"undone {undoing['deployment_id']}\n")
    assert (started["event_type"], failed["event_type"]) == ("started", "failed")
    assert (undoing["event_type"], undone["event_type"]) == ("started", "succeeded")
    assert (undoing["kind"], undoing["rollback_of"]) == ("rollback", started["deployment_id"])
    assert (undoing["version"], undoing["previous_version"]) == ("1", "2")


@pytest.mark.requirement("M2.2")
@pytest.mark.parametrize("script", ["true", "kill -TERM $$"])
def test_what_succeeded_or_was_stopped_is_not_undone(tmp_path: Path, script: str) -> None:
    env = environment(tmp_path / "spool")
    done = command("run", "--on-failure-rollback", "echo undone", "--", "sh", "-c", script, env=env)

    assert done.stdout == ""
    assert len(stored(tmp_path / "spool")) == 2


@pytest.mark.requirement("M2.2")
def test_the_end_of_a_run_carries_the_last_number_of_its_producer(tmp_path: Path) -> None:
    command("run", "--", "true", env=environment(tmp_path / "spool"))
    started, succeeded = stored(tmp_path / "spool")

    assert "final_seq" not in started["tags"]
    assert succeeded["tags"]["final_seq"] == str(succeeded["producer_seq"]) == "2"


def test_a_wrong_record_is_amended_or_voided_by_its_id(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool")
    command("amend", "d-1", "--version", "4.2.1", env=env)
    command("void", "d-1", "--justification", "a test that was never meant to report", env=env)
    amended, voided = stored(tmp_path / "spool")

    assert (amended["event_type"], amended["version"]) == ("amended", "4.2.1")
    assert (voided["event_type"], voided["justification"]) == ("voided", "a test that was never meant to report")
